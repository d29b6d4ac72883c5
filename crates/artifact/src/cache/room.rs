//! Whether a volume has room for a download, before the first byte of it.

use std::path::Path;

use crate::error::ArtifactError;

/// What is left for records and folders.
const MARGIN: u64 = 1 << 20;

/// Refuses a download of so many bytes into a folder of a volume that has not so much room.
///
/// `f_bavail` counts what an ordinary user may use
/// (<https://man7.org/linux/man-pages/man3/statvfs.3.html>). A file system that does not know says
/// that it has no blocks at all; then only trying it tells.
pub(crate) fn check(folder: &Path, need: u64) -> Result<(), ArtifactError> {
    let found = rustix::fs::statvfs(folder)
        .map_err(|error| ArtifactError::reading(folder, error.into()))?;
    let have = found.f_bavail.saturating_mul(found.f_frsize);
    if found.f_blocks == 0 || need.saturating_add(MARGIN) <= have || need == 0 {
        return Ok(());
    }
    Err(ArtifactError::NoRoom { path: folder.to_owned(), need, have })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_need_and_have() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path(), 1).unwrap();
        let error = check(folder.path(), u64::MAX / 2).unwrap_err();
        let ArtifactError::NoRoom { need, have, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*need, u64::MAX / 2);
        assert!(*have > 0);
        let words = error.to_string();
        assert!(words.contains(&need.to_string()) && words.contains(&have.to_string()), "{words}");
    }
}
