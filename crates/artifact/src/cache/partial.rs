//! A folder that is being written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::absent;
use super::journal::Journal;
use crate::error::ArtifactError;

/// A folder that is being written, by this process alone. Dropped, it stays for who goes on.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(super) folder: PathBuf,
    pub(super) journal: Arc<Journal>,
    /// The file that is locked, and its path. None where the file system has no locks: then nobody
    /// else knows the folder's name, and nobody can go on with it.
    pub(super) lock: Option<(PathBuf, File)>,
}

impl Partial {
    /// Opens or makes the folder.
    pub(super) fn open(
        folder: PathBuf,
        lock: Option<(PathBuf, File)>,
    ) -> Result<Self, ArtifactError> {
        let failed = |error| ArtifactError::writing(&folder, error);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let journal = Arc::new(Journal::open(&folder).map_err(failed)?);
        Ok(Self { folder, journal, lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder and everything in it.
    pub(crate) fn remove(self) -> Result<(), ArtifactError> {
        absent(fs::remove_dir_all(&self.folder))
            .and_then(|()| self.unlock())
            .map_err(|error| ArtifactError::writing(&self.folder, error))
    }

    /// Removes the lock's file while it is held, so that nobody takes it for a running download.
    pub(super) fn unlock(&self) -> io::Result<()> {
        match &self.lock {
            Some((path, _)) => absent(fs::remove_file(path)),
            None => Ok(()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.lock.is_some() || !self.folder.exists() {
            return;
        }
        if let Err(error) = absent(fs::remove_dir_all(&self.folder)) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "a partial download could not be removed");
        }
    }
}

/// The size of what a folder holds, in bytes; of what cannot be read, nothing.
pub(super) fn size(folder: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}
