//! Removing copies that nobody relies on any more.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::entry::{RECORD_FILE, absent, aside};
use super::golden::GOLDEN;
use super::lock::is_unsupported;
use super::partial;
use super::shelf::{LISTING, Shelf, USERS, modified, short};
use crate::digest::Digest;
use crate::error::ArtifactError;

/// What may be removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The users that there are, by the names of [`crate::Places::user`], whose first part is a
    /// namespace: the reliance of others of these namespaces counts for nothing. Users of a
    /// namespace of which none is known count: who looked does not see them. None: every user
    /// counts that was ever noted.
    pub known: Option<BTreeSet<String>>,
    /// How long a copy that nobody relies on is kept after its last use.
    pub grace: Duration,
    /// When the users were asked who they are: what was used later may be of one that is not known.
    pub as_of: Option<SystemTime>,
    /// Only says what would be removed.
    pub dry_run: bool,
}

/// A copy in the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CachedCopy {
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The beginning of its digest, which is its folder's name.
    pub digest: String,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// Who relies on it, as far as was noted.
    pub users: Vec<String>,
    /// How long ago it was last downloaded, or a user of it began.
    pub idle: Duration,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// A known user relies on it.
    Needed,
    /// Nobody relies on it, but its time of grace is not over.
    InGrace,
    /// Nobody who is known relies on it, but it was used after they were asked.
    UsedSince,
    /// Nobody relies on it, but a process is loading it.
    InUse,
    /// Nobody relies on it, but the file system has no locks, so nobody knows whether a process is
    /// loading it.
    Unlockable,
    /// Nobody relies on it, but it could not be removed; the log says why.
    Stuck,
    /// It is removed; in a dry run, it would be.
    Removed,
}

/// Looks at all copies of a cache and removes those that `policy` lets go, with what interrupted
/// downloads left. Blocks. A folder that is not there is an empty cache.
///
/// Each copy is renamed before it is removed, so that nobody finds half of it. The volume may hold
/// other things, too: folders without a mark of the cache's own are left alone. What cannot be read
/// or removed is logged, and the rest is looked at; only a cache that cannot be read at all is an
/// error.
pub fn collect(cache: &Path, policy: &Policy) -> Result<Vec<CachedCopy>, ArtifactError> {
    let mut copies = Vec::new();
    for model in folders(cache)? {
        let mut has_ours = false;
        for version in folders(&cache.join(&model)).unwrap_or_else(|error| skipped(&error)) {
            match collect_shelf(cache, &model, &version, policy) {
                Ok(Some(found)) => {
                    copies.extend(found);
                    has_ours = true;
                }
                Ok(None) => {}
                Err(error) => skipped(&error),
            }
        }
        if has_ours && !policy.dry_run {
            remove_empty(&cache.join(&model));
        }
    }
    Ok(copies)
}

/// Nothing, of what cannot be looked at.
fn skipped<T: Default>(error: &ArtifactError) -> T {
    tracing::warn!(%error, "a part of the cache is passed over");
    T::default()
}

/// The copies of one version of one model; None if the folder is none of the cache's own.
fn collect_shelf(
    cache: &Path,
    model: &str,
    version: &str,
    policy: &Policy,
) -> Result<Option<Vec<CachedCopy>>, ArtifactError> {
    let on = Shelf::new(cache, model, version)?;
    let unreadable = |error| ArtifactError::reading(on.root(), error);
    if !on.is_ours().map_err(unreadable)? {
        return Ok(None);
    }
    let mut copies = Vec::new();
    for name in on.published_names().map_err(unreadable)? {
        let look = || look_at(&on, model, version, &name, policy);
        let mut copy = look();
        if copy.fate == Fate::Removed {
            let fate = lock_and_remove(&on, &mut copy, look, policy).unwrap_or_else(|error| {
                let copy = on.root().join(&name);
                tracing::warn!(copy = %copy.display(), %error, "a copy could not be removed");
                Fate::Stuck
            });
            copy.fate = fate;
        }
        copies.push(copy);
    }
    if !policy.dry_run
        && let Err(error) = on.sweep_leftovers().and_then(|()| tidy(&on))
    {
        tracing::warn!(shelf = %on.root().display(), %error, "leftovers stay");
    }
    Ok(Some(copies))
}

/// Whether a copy may go, as far as its users and its age say.
fn judge(users: &[String], idle: Duration, policy: &Policy) -> Fate {
    let counts = |user: &String| {
        policy.known.as_ref().is_none_or(|known| {
            let is_seen = known.iter().any(|other| namespace(other) == namespace(user));
            known.contains(user) || !is_seen
        })
    };
    if users.iter().any(counts) {
        Fate::Needed
    } else if idle < policy.grace {
        Fate::InGrace
    } else {
        Fate::Removed
    }
}

/// Whether a copy was used after the known users were asked who they are.
fn is_newer(idle: Duration, policy: &Policy) -> bool {
    let age = policy.as_of.map(|time| time.elapsed().unwrap_or_default());
    age.is_some_and(|age| idle < age)
}

fn namespace(user: &str) -> &str {
    user.split_once('.').map_or(user, |(namespace, _)| namespace)
}

fn look_at(on: &Shelf, model: &str, version: &str, name: &str, policy: &Policy) -> CachedCopy {
    let folder = on.root().join(name);
    let noted = on.root().join(format!("{USERS}{name}"));
    let mut users = Vec::new();
    let mut times = vec![modified(&folder.join(RECORD_FILE))];
    for user in fs::read_dir(noted).into_iter().flatten().flatten() {
        users.push(user.file_name().to_string_lossy().into_owned());
        times.push(modified(&user.path()));
    }
    users.sort();
    // Of a clock that was put back, nothing is old.
    let since = |time: SystemTime| time.elapsed().unwrap_or_default();
    let idle = times.into_iter().flatten().map(since).min().unwrap_or_default();
    let fate = match judge(&users, idle, policy) {
        Fate::Removed if is_newer(idle, policy) => Fate::UsedSince,
        fate => fate,
    };
    CachedCopy {
        model: model.to_owned(),
        version: version.to_owned(),
        digest: name.to_owned(),
        bytes: partial::size(&folder),
        users,
        idle,
        fate,
    }
}

/// Removes a copy that nobody is loading, if it is still to go when nobody can begin to.
fn lock_and_remove(
    on: &Shelf,
    copy: &mut CachedCopy,
    look: impl FnOnce() -> CachedCopy,
    policy: &Policy,
) -> io::Result<Fate> {
    let folder = on.root().join(&copy.digest);
    // A network file system locks exclusively only what may be written.
    let opened = OpenOptions::new().read(true).write(true).open(folder.join(RECORD_FILE));
    let record = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Fate::Removed),
        opened => opened?,
    };
    match record.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Fate::InUse),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => return Ok(Fate::Unlockable),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Somebody may have noted that he relies on it, and have loaded it, since it was looked at.
    *copy = look();
    if copy.fate != Fate::Removed || policy.dry_run {
        return Ok(copy.fate);
    }
    // Who opens it from now on finds the lock, and then that the record is gone.
    let aside = aside(&folder);
    absent(fs::rename(&folder, &aside))?;
    absent(fs::remove_dir_all(&aside))?;
    absent(fs::remove_dir_all(on.root().join(format!("{USERS}{}", copy.digest))))?;
    Ok(Fate::Removed)
}

/// Removes notes of listings and golden files whose copies are no longer there, and what is empty
/// then.
fn tidy(on: &Shelf) -> io::Result<()> {
    let there: BTreeSet<String> = on.published_names()?.into_iter().collect();
    for entry in fs::read_dir(on.root())? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let noted = || fs::read_to_string(entry.path()).ok()?.trim().parse::<Digest>().ok();
        let copy = if name.starts_with(LISTING) {
            noted().map(|digest| short(&digest))
        } else if let Some(golden) = name.strip_prefix(GOLDEN) {
            golden.split_once('-').map(|(copy, _)| copy.to_owned())
        } else {
            continue;
        };
        if copy.is_none_or(|copy| !there.contains(&copy)) {
            absent(fs::remove_file(entry.path()))?;
        }
    }
    remove_empty(on.root());
    Ok(())
}

/// A folder that is not empty, or was made anew by somebody, stays.
fn remove_empty(folder: &Path) {
    if let Err(error) = fs::remove_dir(folder) {
        tracing::debug!(folder = %folder.display(), %error, "the folder stays");
    }
}

/// The names of the visible folders in a folder, sorted.
fn folders(folder: &Path) -> Result<Vec<String>, ArtifactError> {
    let unreadable = |error| ArtifactError::reading(folder, error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
        // Names that are no UTF-8 are none of ours, nor is a file system's lost+found.
        if let (true, Ok(name)) = (is_folder, entry.file_name().into_string())
            && !name.starts_with('.')
            && name != "lost+found"
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
