//! A published folder and its record.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lock::try_shared;
use crate::digest::{Digest, FileRecord};
use crate::error::ArtifactError;
use crate::source::Origin;
use crate::stamp::Stamp;

pub(super) const RECORD_FILE: &str = ".lamplighter.json";
pub(super) const PARTIAL: &str = ".partial-";
/// The version of [`Record`]'s format.
const FORMAT: u32 = 3;

/// What was downloaded into a published folder.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Record {
    format: u32,
    /// Where it came from, for people: whoever knows the digest does not care.
    #[serde(flatten)]
    pub(super) origin: Origin,
    pub(super) files: Vec<FileRecord>,
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

impl Published {
    /// Opens a published folder, in use from now on. None if there is none, if it cannot be used,
    /// or if somebody is removing it.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let mut file = File::open(folder.join(RECORD_FILE)).ok()?;
        if !try_shared(&file).ok()? {
            return None;
        }
        let stamp = Stamp::of(&file.metadata().ok()?);
        let mut json = Vec::new();
        file.read_to_end(&mut json).ok()?;
        let Record { format, files, .. } = serde_json::from_slice(&json).ok()?;
        let folder = folder.to_owned();
        let published = Self { folder, files, record: stamp, _in_use: file };
        // Before it was locked it may have been removed.
        (format == FORMAT && published.is_in(&published.folder)).then_some(published)
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.files)
    }

    /// Whether the folder holds this one's record.
    fn is_in(&self, folder: &Path) -> bool {
        fs::metadata(folder.join(RECORD_FILE))
            .is_ok_and(|metadata| Stamp::of(&metadata) == self.record)
    }
}

/// Writes the record into a complete folder and publishes it by renaming. When another process was
/// faster, its folder is the result: one that can be used is never replaced.
pub(super) fn publish(
    from: &Path,
    onto: &Path,
    origin: &Origin,
    files: &[FileRecord],
) -> io::Result<Published> {
    let record = Record { format: FORMAT, origin: origin.clone(), files: files.to_vec() };
    let (stamp, in_use) = write_record(from, &record)?;
    if let Err(error) = fs::rename(from, onto) {
        if let Some(published) =
            Published::open(onto).filter(|found| found.digest() == Digest::of(files))
        {
            absent(fs::remove_dir_all(from))?;
            return Ok(published);
        }
        if !onto.is_dir() {
            return Err(error);
        }
        // Someone changed the published folder, so that its record is no longer usable.
        absent(fs::remove_dir_all(onto))?;
        fs::rename(from, onto)?;
    }
    if let Some(shelf) = onto.parent() {
        sync_folder(shelf)?;
    }
    Ok(Published { folder: onto.to_owned(), files: record.files, record: stamp, _in_use: in_use })
}

/// The record, in use before anyone can find it.
fn write_record(folder: &Path, record: &Record) -> io::Result<(Stamp, File)> {
    let path = folder.join(RECORD_FILE);
    // A shared lock of a network file system needs a file that may be read.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    try_shared(&file)?;
    serde_json::to_writer(&file, record)?;
    file.sync_all()?;
    let mut folders = vec![folder.to_owned()];
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
    let aside = aside(folder);
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

/// A name beside a folder under which it is no longer found.
pub(super) fn aside(folder: &Path) -> PathBuf {
    folder.with_file_name(format!("{PARTIAL}{}", random()))
}

pub(super) fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// That something is gone is no error for who removes it.
pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the names in a folder durable, as the files' own contents are by `sync_all`.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
