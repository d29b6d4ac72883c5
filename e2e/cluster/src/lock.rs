//! One starts or stops the cluster at a time.

use std::fs::{self, File};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::Progress;
use crate::error::Error;
use crate::layout::{self, Layout};
use crate::wait::{self, Look};

/// Long enough for another `up` that builds everything.
const LIMIT: Duration = Duration::from_mins(20);

/// Takes the lock, which ends with the returned file: also when its holder is killed.
pub(crate) fn take(layout: &Layout, progress: &dyn Progress) -> Result<File, Error> {
    layout::create_dir(&layout.run)?;
    let path = layout.lock_file();
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    let mut was_told = false;
    let outcome = wait::until(LIMIT, || {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Look::Ready(()));
        }
        if !was_told {
            progress.detail("waiting for another process that starts or stops the cluster");
            was_told = true;
        }
        Ok(Look::Pending(String::new()))
    })?;
    match outcome {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::Busy { waited: LIMIT, lock: path }),
    }
}
