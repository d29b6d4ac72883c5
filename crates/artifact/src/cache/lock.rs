//! Exclusive locks of files, on file systems that have them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::stamp::is_same_file;

/// What became of an attempt to lock.
#[derive(Debug)]
pub(crate) enum Lock {
    /// It is held until the file is closed.
    Held(File),
    /// Another process holds it.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// Locks the file of that path, which is made if it is missing. Does not wait.
pub(crate) fn try_exclusive(path: &Path) -> io::Result<Lock> {
    loop {
        // A network file system locks exclusively only what may be written.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Lock::Busy),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                return Ok(Lock::Unsupported);
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held it before may have removed it.
        match fs::metadata(path) {
            Ok(found) if is_same_file(&found, &file.metadata()?) => return Ok(Lock::Held(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Locks a file that may be shared with others; false where somebody has locked it exclusively.
/// Where there are no locks, it is as good as shared.
pub(crate) fn try_shared(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the file system says that it has no locks: a server of NFS without a lock daemon says
/// ENOLCK (<https://man7.org/linux/man-pages/man2/fcntl.2.html>).
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_freed_when_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_exclusive(&path).unwrap();
        assert!(matches!(held, Lock::Held(_)));
        assert!(matches!(try_exclusive(&path).unwrap(), Lock::Busy));
        drop(held);
        assert!(matches!(try_exclusive(&path).unwrap(), Lock::Held(_)));
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_worth_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _removed = try_exclusive(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(try_exclusive(&path).unwrap(), Lock::Held(_)));
    }

    #[test]
    fn what_a_file_system_without_locks_says_is_understood() {
        for code in [37, 38, 95] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(!is_unsupported(&io::Error::from_raw_os_error(5)));
    }
}
