//! How a downloaded folder appears in the cache: complete, and all at once.
//!
//! ```text
//! <cache>/<name>/<version>/
//!     .lock-<random>       held by the process that writes the folder below
//!     .partial-<random>/   being written
//!     <identity>/          published by renaming, with its record in .lamplighter.json
//! ```
//!
//! Processes of several machines may share the cache: none waits for another, two that publish
//! the same identity end up with one folder, and what a killed process left is swept away by
//! the next one that looks, because the lock is no longer held. Where the file system has no
//! locks, nothing is swept.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::FileRecord;
use crate::error::ArtifactError;
use crate::location::check_components;
use crate::stamp::Stamp;

const RECORD_FILE: &str = ".lamplighter.json";
const PARTIAL: &str = ".partial-";
const LOCK: &str = ".lock-";
/// The version of [`Record`]'s format.
const FORMAT: u32 = 1;

/// The part of the cache that holds one version of one model.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

/// What was downloaded into a published folder.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    format: u32,
    uri: String,
    files: Vec<FileRecord>,
}

/// A published folder with the files that were put into it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<FileRecord>,
    /// Its record, which tells it from a folder that is published in its place.
    record: Stamp,
}

impl Shelf {
    pub(crate) fn new(cache: &Path, model: &str, version: &str) -> Result<Self, ArtifactError> {
        for component in [model, version] {
            let problem = match check_components(component) {
                Err(problem) => problem,
                Ok(()) if component.contains('/') => "it would be more than one folder",
                Ok(()) if component.starts_with('.') => "it would be a hidden folder",
                Ok(()) => continue,
            };
            return Err(ArtifactError::PathRefused {
                uri: cache.display().to_string(),
                path: component.to_owned(),
                problem,
            });
        }
        Ok(Self { folder: cache.join(model).join(version) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.folder
    }

    /// The folder published under this identity, if its record says that it came from `uri`.
    pub(crate) fn find(&self, identity: &str, uri: &str) -> Option<Published> {
        let folder = self.folder.join(identity);
        let mut file = File::open(folder.join(RECORD_FILE)).ok()?;
        let stamp = Stamp::of(&file.metadata().ok()?);
        let mut json = Vec::new();
        file.read_to_end(&mut json).ok()?;
        let record: Record = serde_json::from_slice(&json).ok()?;
        (record.format == FORMAT && record.uri == uri).then_some(Published {
            folder,
            files: record.files,
            record: stamp,
        })
    }

    /// The folder that was published last of those from `uri`.
    pub(crate) fn newest(&self, uri: &str) -> Option<Published> {
        let entries = fs::read_dir(&self.folder).ok()?;
        let published = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let published = self.find(&name, uri)?;
            let written = fs::metadata(published.folder.join(RECORD_FILE)).ok()?.modified().ok()?;
            Some((written, published))
        });
        published.max_by_key(|(written, _)| *written).map(|(_, published)| published)
    }

    /// A new folder to write into. Sweeps what killed processes left.
    pub(crate) fn begin(&self) -> Result<Partial, ArtifactError> {
        let failed = |error| ArtifactError::writing(&self.folder, error);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        self.sweep().map_err(failed)?;
        let random = random();
        let lock_path = self.folder.join(format!("{LOCK}{random}"));
        let lock = File::create_new(&lock_path).map_err(failed)?;
        let folder = self.folder.join(format!("{PARTIAL}{random}"));
        let partial = Partial { folder, lock_path, lock };
        // Locked before the folder exists: a folder without a held lock has lost its owner.
        match partial.lock.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(failed(error)),
            _ => fs::create_dir(&partial.folder).map_err(failed)?,
        }
        Ok(partial)
    }

    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some(random) = name.to_str().and_then(|name| name.strip_prefix(PARTIAL)) else {
                continue;
            };
            let lock_path = self.folder.join(format!("{LOCK}{random}"));
            let held = match File::open(&lock_path).map(|lock| lock.try_lock()) {
                Ok(Err(TryLockError::WouldBlock | TryLockError::Error(_))) => true,
                Ok(Ok(())) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if !held {
                remove_leftovers(&self.folder.join(&name), &lock_path)?;
            }
        }
        Ok(())
    }
}

/// A folder that is being written; removed when it is dropped unpublished.
#[derive(Debug)]
pub(crate) struct Partial {
    folder: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl Partial {
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder visible under `identity`. When another process was faster, its folder is
    /// the result and this one is removed.
    pub(crate) fn publish(
        self,
        onto: &Shelf,
        identity: &str,
        uri: &str,
        files: Vec<FileRecord>,
    ) -> Result<Published, ArtifactError> {
        let failed = |error| ArtifactError::writing(&self.folder, error);
        let record = Record { format: FORMAT, uri: uri.to_owned(), files };
        let stamp = self.write_record(&record).map_err(failed)?;
        let folder = onto.folder.join(identity);
        if let Err(error) = fs::rename(&self.folder, &folder) {
            if let Some(published) = onto.find(identity, uri) {
                return Ok(published);
            }
            if !folder.is_dir() {
                return Err(failed(error));
            }
            // Someone changed the published folder, so that its record is no longer usable.
            fs::remove_dir_all(&folder).map_err(failed)?;
            fs::rename(&self.folder, &folder).map_err(failed)?;
        }
        sync_folder(&onto.folder).map_err(failed)?;
        Ok(Published { folder, files: record.files, record: stamp })
    }

    fn write_record(&self, record: &Record) -> io::Result<Stamp> {
        let path = self.folder.join(RECORD_FILE);
        let file = File::create_new(&path)?;
        serde_json::to_writer(&file, record)?;
        file.sync_all()?;
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
            sync_folder(&folder)?;
        }
        Ok(Stamp::of(&file.metadata()?))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = remove_leftovers(&self.folder, &self.lock_path) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "a partial download could not be removed");
        }
    }
}

/// Removes a published folder, unless another one has been published in its place.
///
/// It is renamed first, so that nobody finds half of it and what is left when this process is
/// killed is swept away like any partial download.
pub(crate) fn discard(published: &Published) -> Result<(), ArtifactError> {
    let folder = &published.folder;
    let failed = |error| ArtifactError::writing(folder, error);
    if !published.is_in(folder) {
        return Ok(());
    }
    let aside = folder.with_file_name(format!("{PARTIAL}{}", random()));
    match fs::rename(folder, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(failed)?,
    }
    // Another process may have replaced it just before it was renamed. If the way back is taken,
    // it has been replaced once more, and this one is not missed.
    if !published.is_in(&aside) && fs::rename(&aside, folder).is_ok() {
        return Ok(());
    }
    absent(fs::remove_dir_all(&aside)).map_err(failed)
}

impl Published {
    /// Whether the folder holds this one's record.
    fn is_in(&self, folder: &Path) -> bool {
        fs::metadata(folder.join(RECORD_FILE))
            .is_ok_and(|metadata| Stamp::of(&metadata) == self.record)
    }
}

fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_leftovers(folder: &Path, lock: &Path) -> io::Result<()> {
    absent(fs::remove_dir_all(folder))?;
    absent(fs::remove_file(lock))
}

/// Makes the names in a folder durable, as the files' own contents are by `sync_all`.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "s3://models/a";

    fn visible(shelf: &Shelf) -> Vec<String> {
        let entries = fs::read_dir(shelf.root()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(cache.path(), "a", "1.0.0").unwrap();
        (cache, shelf)
    }

    #[test]
    fn a_folder_is_visible_only_when_it_is_published() {
        let (_cache, shelf) = shelf();
        let partial = shelf.begin().unwrap();
        fs::write(partial.path().join("config.json"), b"{}").unwrap();
        assert!(shelf.newest(URI).is_none());
        let published = partial.publish(&shelf, "id", URI, Vec::new()).unwrap();
        assert_eq!(published.folder, shelf.root().join("id"));
        assert!(published.folder.join("config.json").is_file());
        assert_eq!(visible(&shelf), ["id"]);
        assert!(shelf.find("id", URI).is_some());
        assert!(shelf.find("id", "s3://models/b").is_none());
        assert_eq!(shelf.newest(URI).unwrap().folder, published.folder);
    }

    #[test]
    fn a_dropped_folder_leaves_nothing() {
        let (_cache, shelf) = shelf();
        let partial = shelf.begin().unwrap();
        fs::write(partial.path().join("config.json"), b"{}").unwrap();
        drop(partial);
        assert_eq!(visible(&shelf), [""; 0]);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_is_being_written_is_not() {
        let (_cache, shelf) = shelf();
        let alive = shelf.begin().unwrap();
        for (random, with_lock) in [("dead", true), ("older", false)] {
            fs::create_dir(shelf.root().join(format!("{PARTIAL}{random}"))).unwrap();
            if with_lock {
                File::create(shelf.root().join(format!("{LOCK}{random}"))).unwrap();
            }
        }
        let second = shelf.begin().unwrap();
        assert!(alive.path().is_dir() && second.path().is_dir());
        assert_eq!(visible(&shelf).len(), 4, "{:?}", visible(&shelf));
    }

    #[test]
    fn the_second_to_publish_an_identity_takes_the_first_ones_folder() {
        let (_cache, shelf) = shelf();
        let [first, second] = [shelf.begin().unwrap(), shelf.begin().unwrap()];
        fs::write(first.path().join("from"), b"first").unwrap();
        fs::write(second.path().join("from"), b"second").unwrap();
        first.publish(&shelf, "id", URI, Vec::new()).unwrap();
        let published = second.publish(&shelf, "id", URI, Vec::new()).unwrap();
        assert_eq!(fs::read(published.folder.join("from")).unwrap(), b"first");
        assert_eq!(visible(&shelf), ["id"]);
    }

    #[test]
    fn a_published_folder_without_a_usable_record_is_replaced() {
        let (_cache, shelf) = shelf();
        let old = shelf.begin().unwrap().publish(&shelf, "id", URI, Vec::new()).unwrap();
        fs::write(old.folder.join(RECORD_FILE), b"{").unwrap();
        assert!(shelf.find("id", URI).is_none());
        let partial = shelf.begin().unwrap();
        fs::write(partial.path().join("new"), b"").unwrap();
        let published = partial.publish(&shelf, "id", URI, Vec::new()).unwrap();
        assert!(published.folder.join("new").is_file());
    }

    #[test]
    fn only_the_folder_that_was_found_is_discarded() {
        let (_cache, shelf) = shelf();
        let found = shelf.begin().unwrap().publish(&shelf, "id", URI, Vec::new()).unwrap();
        let aside = shelf.root().join("kept");
        fs::rename(&found.folder, &aside).unwrap();
        let newer = shelf.begin().unwrap().publish(&shelf, "id", URI, Vec::new()).unwrap();

        discard(&found).unwrap();
        assert_eq!(visible(&shelf), ["id", "kept"], "another folder was removed");
        discard(&newer).unwrap();
        assert_eq!(visible(&shelf), ["kept"]);
        discard(&newer).unwrap();
    }

    #[test]
    fn names_that_are_no_single_folder_are_refused() {
        for (model, version) in [("..", "1"), ("a", ".."), ("a/b", "1"), ("", "1"), ("a", ".x")] {
            let error = Shelf::new(Path::new("/cache"), model, version).unwrap_err();
            assert!(matches!(error, ArtifactError::PathRefused { .. }), "{model} {version}");
        }
    }
}
