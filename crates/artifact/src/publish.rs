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
//! the next one that looks, because the lock is no longer held. Whoever uses a published folder
//! holds a shared lock of its record; who publishes another one removes those that nobody uses.
//! Where the file system has no locks, nothing is swept or removed.

use std::fs::{self, File, OpenOptions, TryLockError};
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
const FORMAT: u32 = 2;

/// The part of the cache that holds one version of one model.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

/// Where a copy came from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Origin {
    /// The store's endpoint: two stores may have a bucket of one name.
    pub(crate) store: String,
    /// The address in the store.
    pub(crate) uri: String,
}

/// What was downloaded into a published folder.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    format: u32,
    #[serde(flatten)]
    origin: Origin,
    files: Vec<FileRecord>,
}

/// A published folder with the files that were put into it; in use until it is dropped.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<FileRecord>,
    /// Its record, which tells it from a folder that is published in its place.
    record: Stamp,
    /// The record's file, with a shared lock where the file system has locks.
    _in_use: File,
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

    /// The folder published under this identity, if its record says that it came from there.
    /// It is in use from now on.
    pub(crate) fn find(&self, identity: &str, origin: &Origin) -> Option<Published> {
        let folder = self.folder.join(identity);
        let mut file = File::open(folder.join(RECORD_FILE)).ok()?;
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            // It is being removed.
            return None;
        }
        let stamp = Stamp::of(&file.metadata().ok()?);
        let mut json = Vec::new();
        file.read_to_end(&mut json).ok()?;
        let record: Record = serde_json::from_slice(&json).ok()?;
        let published = Published { folder, files: record.files, record: stamp, _in_use: file };
        // Before it was locked it may have been removed.
        let is_there = published.is_in(&published.folder);
        (is_there && record.format == FORMAT && record.origin == *origin).then_some(published)
    }

    /// The folders that came from there.
    pub(crate) fn copies(&self, origin: &Origin) -> Vec<Published> {
        let names = self.published_names().unwrap_or_default();
        names.iter().filter_map(|name| self.find(name, origin)).collect()
    }

    /// Removes the other folders of this shelf that nobody uses. What cannot be removed costs
    /// room and nothing else, so that it is logged and no error.
    pub(crate) fn evict_others(&self, kept: &Published) {
        let names = self.published_names().unwrap_or_else(|error| {
            tracing::warn!(shelf = %self.folder.display(), %error, "old copies are not removed");
            Vec::new()
        });
        for folder in names.iter().map(|name| self.folder.join(name)) {
            if folder == kept.folder {
                continue;
            }
            match evict(&folder) {
                Ok(true) => tracing::info!(folder = %folder.display(), "an old copy was removed"),
                Ok(false) => tracing::debug!(folder = %folder.display(), "an old copy is in use"),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "an old copy stays");
                }
            }
        }
    }

    /// Names of the visible folders that hold a record.
    fn published_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if !name.starts_with('.') && self.folder.join(&name).join(RECORD_FILE).is_file() {
                names.push(name);
            }
        }
        Ok(names)
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
        origin: &Origin,
        files: Vec<FileRecord>,
    ) -> Result<Published, ArtifactError> {
        let failed = |error| ArtifactError::writing(&self.folder, error);
        let record = Record { format: FORMAT, origin: origin.clone(), files };
        let (stamp, in_use) = self.write_record(&record).map_err(failed)?;
        let folder = onto.folder.join(identity);
        if let Err(error) = fs::rename(&self.folder, &folder) {
            if let Some(published) = onto.find(identity, origin) {
                return Ok(published);
            }
            if !folder.is_dir() {
                return Err(failed(error));
            }
            // Someone changed the published folder, so that its record is no longer usable.
            absent(fs::remove_dir_all(&folder)).map_err(failed)?;
            fs::rename(&self.folder, &folder).map_err(failed)?;
        }
        sync_folder(&onto.folder).map_err(failed)?;
        Ok(Published { folder, files: record.files, record: stamp, _in_use: in_use })
    }

    /// The record, in use before anyone can find it.
    fn write_record(&self, record: &Record) -> io::Result<(Stamp, File)> {
        let path = self.folder.join(RECORD_FILE);
        // A shared lock of a network file system needs a file that may be read.
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        match file.try_lock_shared() {
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(error);
            }
            _ => {}
        }
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
        Ok((Stamp::of(&file.metadata()?), file))
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

/// Removes a published folder whose record nobody has locked; says whether it did.
fn evict(folder: &Path) -> io::Result<bool> {
    // A network file system locks exclusively only what may be written.
    let opened = OpenOptions::new().read(true).write(true).open(folder.join(RECORD_FILE));
    let record = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    if record.try_lock().is_err() {
        return Ok(false);
    }
    let held = Stamp::of(&record.metadata()?);
    if fs::metadata(folder.join(RECORD_FILE)).map(|found| Stamp::of(&found))? != held {
        return Ok(false);
    }
    let aside = folder.with_file_name(format!("{PARTIAL}{}", random()));
    fs::rename(folder, &aside)?;
    absent(fs::remove_dir_all(&aside))?;
    Ok(true)
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
#[path = "publish_tests.rs"]
mod tests;
