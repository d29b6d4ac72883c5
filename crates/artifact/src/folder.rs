//! What is in a folder on this machine.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::ArtifactError;
use crate::stamp::Stamp;

/// More files than any model has: someone gave the root of a volume as a model's address.
const MAX_FILES: usize = 10_000;
/// Deeper than any model is: most likely a symbolic link to a folder above itself.
const MAX_DEPTH: usize = 16;

/// A file below a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// Its path below the folder, with `/` between components.
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Which file it is, links resolved.
    pub(crate) stamp: Stamp,
}

/// A folder whose files may be read, links included, as long as they stay within a boundary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Folder {
    /// The folder, canonical.
    pub(crate) root: PathBuf,
    /// The volume it is in, canonical.
    boundary: PathBuf,
    /// The address it was found under, for errors.
    pub(crate) uri: String,
}

impl Folder {
    /// Opens a folder that must lie within `boundary`, links resolved.
    pub(crate) fn open(root: &Path, boundary: &Path, uri: &str) -> Result<Self, ArtifactError> {
        let resolve = |path: &Path| {
            fs::canonicalize(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    ArtifactError::NotFound { uri: uri.to_owned() }
                }
                _ => ArtifactError::reading(path, error),
            })
        };
        let folder =
            Self { boundary: resolve(boundary)?, root: resolve(root)?, uri: uri.to_owned() };
        if !folder.root.starts_with(&folder.boundary) {
            return Err(folder.refuse(root.display(), "it is a link out of its volume"));
        }
        if !folder.root.is_dir() {
            return Err(folder.not_found());
        }
        Ok(folder)
    }

    /// The files below it, sorted by path. Hidden ones are no part of an artifact and are not
    /// looked at.
    pub(crate) fn list(&self) -> Result<Vec<Entry>, ArtifactError> {
        let mut files = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((prefix, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                return Err(self.refuse(prefix, "it is more than 16 folders deep"));
            }
            let folder = self.root.join(&prefix);
            let unreadable = |error| ArtifactError::reading(&folder, error);
            for entry in fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else {
                    return Err(self.refuse(name.display(), "its name is not UTF-8"));
                };
                if name.starts_with('.') {
                    continue;
                }
                let path = format!("{prefix}{name}");
                if name.chars().any(char::is_control) {
                    return Err(self.refuse(path, "its name has a control character"));
                }
                let metadata = self.metadata(&entry, &path)?;
                if metadata.is_dir() {
                    folders.push((format!("{path}/"), depth + 1));
                } else if metadata.is_file() {
                    let (size, stamp) = (metadata.len(), Stamp::of(&metadata));
                    files.push(Entry { path, size, stamp });
                } else {
                    return Err(self.refuse(path, "it is neither a file nor a folder"));
                }
                if files.len() > MAX_FILES {
                    return Err(self.refuse(prefix, "there are more than 10,000 files"));
                }
            }
        }
        if files.is_empty() {
            return Err(self.not_found());
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn metadata(&self, entry: &fs::DirEntry, path: &str) -> Result<fs::Metadata, ArtifactError> {
        let on_disk = entry.path();
        let unreadable = |error| ArtifactError::reading(&on_disk, error);
        let metadata = entry.metadata().map_err(unreadable)?;
        if !metadata.is_symlink() {
            return Ok(metadata);
        }
        let target = fs::canonicalize(&on_disk).map_err(unreadable)?;
        if !target.starts_with(&self.boundary) {
            return Err(self.refuse(path, "it is a link out of its volume"));
        }
        fs::metadata(&target).map_err(unreadable)
    }

    fn not_found(&self) -> ArtifactError {
        ArtifactError::NotFound { uri: self.uri.clone() }
    }

    fn refuse(&self, path: impl fmt::Display, problem: &'static str) -> ArtifactError {
        ArtifactError::PathRefused { uri: self.uri.clone(), path: path.to_string(), problem }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(boundary: &Path, path: &str) -> Result<Folder, ArtifactError> {
        Folder::open(&boundary.join(path), boundary, "pvc://claim/model")
    }

    #[test]
    fn links_within_the_volume_are_followed_and_hidden_files_are_not_looked_at() {
        let volume = tempfile::tempdir().unwrap();
        let volume = volume.path();
        fs::create_dir_all(volume.join("blobs")).unwrap();
        fs::create_dir_all(volume.join("snapshot/.cache")).unwrap();
        fs::create_dir_all(volume.join("snapshot/1_Pooling")).unwrap();
        fs::write(volume.join("blobs/abc"), b"12345").unwrap();
        fs::write(volume.join("snapshot/1_Pooling/config.json"), b"{}").unwrap();
        fs::write(volume.join("snapshot/.cache/x"), b"x").unwrap();
        symlink("/nowhere", volume.join("snapshot/.broken")).unwrap();
        symlink("../blobs/abc", volume.join("snapshot/model")).unwrap();
        symlink("snapshot", volume.join("latest")).unwrap();

        let files = open(volume, "latest").unwrap().list().unwrap();
        let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.size)).collect();
        assert_eq!(files, [("1_Pooling/config.json", 2), ("model", 5)]);
    }

    #[test]
    fn what_leaves_the_volume_or_is_no_file_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), b"x").unwrap();
        let link_out = |folder: &Path| symlink(outside.path().join("secret"), folder.join("a"));
        let folder_out = |folder: &Path| symlink(outside.path(), folder.join("a"));
        let circle = |folder: &Path| symlink(".", folder.join("a"));
        let control = |folder: &Path| fs::write(folder.join("a\nb"), b"x");
        let socket =
            |folder: &Path| std::os::unix::net::UnixListener::bind(folder.join("a")).map(drop);
        let volumes: [tempfile::TempDir; 5] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        link_out(volumes[0].path()).unwrap();
        folder_out(volumes[1].path()).unwrap();
        circle(volumes[2].path()).unwrap();
        control(volumes[3].path()).unwrap();
        socket(volumes[4].path()).unwrap();
        for volume in volumes {
            let error = open(volume.path(), "").unwrap().list().unwrap_err();
            assert!(matches!(error, ArtifactError::PathRefused { .. }), "{error:?}");
        }
        let volume = tempfile::tempdir().unwrap();
        folder_out(volume.path()).unwrap();
        let error = open(volume.path(), "a").unwrap_err();
        assert!(matches!(error, ArtifactError::PathRefused { .. }), "{error:?}");
    }

    #[test]
    fn a_missing_or_empty_folder_or_a_file_is_not_found() {
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("empty")).unwrap();
        fs::write(volume.path().join("file"), b"x").unwrap();
        for path in ["missing", "file", "file/below", "empty"] {
            let error = open(volume.path(), path).and_then(|folder| folder.list()).unwrap_err();
            assert!(matches!(error, ArtifactError::NotFound { .. }), "{path}: {error:?}");
        }
    }

    #[test]
    fn a_broken_link_cannot_be_read() {
        let volume = tempfile::tempdir().unwrap();
        symlink("nowhere", volume.path().join("model")).unwrap();
        let error = open(volume.path(), "").unwrap().list().unwrap_err();
        assert!(matches!(error, ArtifactError::Read { .. }), "{error:?}");
        assert!(error.file().unwrap().ends_with("/model"));
    }
}
