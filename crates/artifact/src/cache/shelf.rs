//! The part of the cache that holds one version of one model.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::entry::{self, PARTIAL, Published, absent, aside, random};
use super::golden::GOLDEN;
use super::lock::{Lock, try_exclusive};
use super::partial::{self, Partial};
use crate::digest::{Digest, FileRecord};
use crate::error::ArtifactError;
use crate::location::check_components;
use crate::source::Origin;

const LOCK: &str = ".lock-";
pub(super) const LISTING: &str = ".listing-";
pub(super) const USERS: &str = ".users-";
/// How long a download that nobody goes on with is kept: whoever was killed comes back sooner.
const LEFTOVER: Duration = Duration::from_hours(1);

/// The part of the cache that holds one version of one model.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    cache: PathBuf,
    folder: PathBuf,
}

/// What there is of a listing.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is there.
    Published(Published),
    /// It is to be downloaded, by this process.
    Missing(Partial),
    /// Another process downloads it, and has come so far.
    Elsewhere(Come),
}

/// How far another process has come with a download.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Come {
    /// What is there, in bytes.
    pub(crate) bytes: u64,
    /// When it last said that it is at work, by its journal.
    pub(crate) at_work: Option<SystemTime>,
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
        Ok(Self { cache: cache.to_owned(), folder: cache.join(model).join(version) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.folder
    }

    /// The published folder with these contents, in use from now on.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Published> {
        Published::open(&self.entry(digest)).filter(|published| published.digest() == *digest)
    }

    /// Whether there is any published folder.
    pub(crate) fn has_any(&self) -> bool {
        self.published_names().is_ok_and(|names| !names.is_empty())
    }

    /// What there is of the listing `key`. Does not wait.
    pub(crate) fn claim(&self, key: &str) -> Result<Found, ArtifactError> {
        match self.claim_once(key) {
            // The clean-up removed the folder while it was still empty; it comes by only once.
            Err(ArtifactError::Write { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                self.claim_once(key)
            }
            claimed => claimed,
        }
    }

    fn claim_once(&self, key: &str) -> Result<Found, ArtifactError> {
        let failed = |error| ArtifactError::writing(&self.folder, error);
        if let Some(published) = self.listed(key) {
            return Ok(Found::Published(published));
        }
        fs::create_dir_all(&self.folder).map_err(failed)?;
        self.sweep(Some(key), LEFTOVER).map_err(failed)?;
        let path = self.folder.join(format!("{LOCK}{key}"));
        let folder = self.folder.join(format!("{PARTIAL}{key}"));
        match try_exclusive(&path).map_err(failed)? {
            Lock::Busy => Ok(Found::Elsewhere(Come {
                bytes: partial::size(&folder),
                at_work: modified(&folder.join(super::journal::JOURNAL_FILE)),
            })),
            Lock::Unsupported => {
                absent(fs::remove_file(&path)).map_err(failed)?;
                let folder = self.folder.join(format!("{PARTIAL}{}", random()));
                Ok(Found::Missing(Partial::open(folder, None)?))
            }
            Lock::Held(file) => {
                let partial = Partial::open(folder, Some((path, file)))?;
                // It may have been published before the lock was free.
                match self.listed(key) {
                    None => Ok(Found::Missing(partial)),
                    Some(published) => {
                        partial.remove()?;
                        Ok(Found::Published(published))
                    }
                }
            }
        }
    }

    /// Makes a complete folder visible: under the digest of its files, and as what the listing
    /// `key` turned out to be.
    pub(crate) fn publish(
        &self,
        partial: &Partial,
        key: &str,
        origin: &Origin,
        files: &[FileRecord],
    ) -> Result<Published, ArtifactError> {
        let failed = |error| ArtifactError::writing(&self.folder, error);
        let digest = Digest::of(files);
        // The same bytes from elsewhere. What is no part of a digest may differ, but others may be
        // loading what is there.
        let published = if let Some(published) = self.find(&digest) {
            absent(fs::remove_dir_all(&partial.folder)).map_err(failed)?;
            published
        } else {
            super::journal::Journal::remove(&partial.folder).map_err(failed)?;
            entry::publish(&partial.folder, &self.entry(&digest), origin, files).map_err(failed)?
        };
        self.note_listing(key, &digest).and_then(|()| partial.unlock()).map_err(failed)?;
        Ok(published)
    }

    /// Notes that somebody relies on a published folder.
    pub(crate) fn note_user(&self, published: &Published, user: &str) -> Result<(), ArtifactError> {
        let folder = self.folder.join(format!("{USERS}{}", short(&published.digest())));
        let path = folder.join(user);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            // Truncated, it has the time of its last use.
            _ => File::create(&path).and_then(|file| file.set_modified(SystemTime::now())),
        }
        .map_err(|error| ArtifactError::writing(&path, error))
    }

    /// Removes what no running process writes, of any model: room on the volume is short.
    pub(crate) fn make_room(&self, key: &str) -> Result<(), ArtifactError> {
        for other in self.others() {
            if let Err(error) = other.sweep(None, Duration::ZERO) {
                let on = other.folder.display();
                tracing::warn!(shelf = %on, %error, "what an interrupted download left stays");
            }
        }
        self.sweep(Some(key), Duration::ZERO)
            .map_err(|error| ArtifactError::writing(&self.folder, error))
    }

    /// The other parts of the cache; of what cannot be read, none.
    fn others(&self) -> Vec<Self> {
        let within = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let mut others = Vec::new();
        for model in within(&self.cache) {
            for version in within(&self.cache.join(&model)) {
                others.extend(Self::new(&self.cache, &model, &version));
            }
        }
        others.retain(|other| other.folder != self.folder && other.folder.is_dir());
        others
    }

    /// Whether anything in the folder is the cache's own: other folders of a volume that others use,
    /// too, may be two deep as well.
    pub(super) fn is_ours(&self) -> io::Result<bool> {
        let marks = [PARTIAL, LOCK, LISTING, USERS, GOLDEN];
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if marks.iter().any(|mark| name.starts_with(mark))
                || entry.path().join(entry::RECORD_FILE).is_file()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn entry(&self, digest: &Digest) -> PathBuf {
        self.folder.join(short(digest))
    }

    fn listed(&self, key: &str) -> Option<Published> {
        let digest = fs::read_to_string(self.folder.join(format!("{LISTING}{key}"))).ok()?;
        self.find(&digest.trim().parse().ok()?)
    }

    fn note_listing(&self, key: &str, digest: &Digest) -> io::Result<()> {
        let path = self.folder.join(format!("{LISTING}{key}"));
        let new = self.folder.join(format!("{LISTING}{key}.{}", random()));
        fs::write(&new, format!("{digest}\n"))?;
        fs::rename(new, path)
    }

    /// Names of the visible folders that hold a record.
    pub(super) fn published_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if !name.starts_with('.') && self.folder.join(&name).join(entry::RECORD_FILE).is_file()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Removes what killed processes left and nobody came back for.
    pub(super) fn sweep_leftovers(&self) -> io::Result<()> {
        self.sweep(None, LEFTOVER)
    }

    /// Removes partial downloads of other listings than `key` that nobody writes and nobody wrote
    /// for `age`.
    fn sweep(&self, key: Option<&str>, age: Duration) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some(other) = name.to_str().and_then(|name| name.strip_prefix(PARTIAL)) else {
                continue;
            };
            let folder = self.folder.join(&name);
            if key == Some(other) || !is_older(&folder, age) {
                continue;
            }
            let lock = self.folder.join(format!("{LOCK}{other}"));
            if let Lock::Held(_held) = try_exclusive(&lock)? {
                let aside = aside(&folder);
                absent(fs::rename(&folder, &aside))?;
                absent(fs::remove_dir_all(&aside))?;
                absent(fs::remove_file(&lock))?;
            }
        }
        Ok(())
    }
}

/// Enough of a digest for a name; the record holds all of it.
pub(super) fn short(digest: &Digest) -> String {
    digest.to_string().trim_start_matches("sha256:").chars().take(16).collect()
}

/// Whether nothing was made or written in a folder for that long. Its own time changes when files
/// are made in it, the journal's whenever something arrived.
fn is_older(folder: &Path, age: Duration) -> bool {
    let times = [modified(folder), modified(&folder.join(super::journal::JOURNAL_FILE))];
    match times.into_iter().flatten().max() {
        Some(last) => last.elapsed().is_ok_and(|idle| idle >= age),
        None => true,
    }
}

pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
