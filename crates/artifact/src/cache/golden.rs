//! Golden files beside the copies that they are for.
//!
//! A golden file is no part of a digest, so it may be corrected while the copy stays right. A copy is
//! never changed: others may be loading it. What the store has now lies beside it, under a name that
//! is another for another file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use sha2::Digest as _;

use super::entry::random;
use super::shelf::{Shelf, short};
use crate::Progress;
use crate::digest::{Digest, GOLDEN_FILE, Sha256Sum};
use crate::error::ArtifactError;
use crate::source::{Activity, Object, Origin, Remote};

pub(super) const GOLDEN: &str = ".golden-";
/// How long a store is asked for another golden file. A copy with the expected digest needs no
/// store, so it does not wait for one either.
const PATIENCE: Duration = Duration::from_secs(5);
/// A thousand cases with their vectors need less.
const MAX_GOLDEN: u64 = 16 << 20;

/// The golden file of a listing, and a name that is another for another one.
pub(super) fn of<'a>(origin: &Origin, objects: &'a [Object]) -> Option<(&'a Object, String)> {
    let object = objects.iter().find(|object| object.path == GOLDEN_FILE)?;
    let mut hasher = sha2::Sha256::new();
    let (size, identity) = (object.size, object.identity());
    let modified = object.modified.unwrap_or_default();
    hasher.update(format!("{}\n{}\n{size} {modified} {identity}\n", origin.store, origin.uri));
    let mut name = Sha256Sum::of(hasher).to_string();
    name.truncate(16);
    Some((object, name))
}

/// The golden file for a copy: as the store has it now, if it says so soon, else the last one that
/// was read. None where the copy's own is to be taken.
pub(super) async fn current(remote: &Remote, shelf: &Shelf, digest: Digest) -> Option<PathBuf> {
    match tokio::time::timeout(PATIENCE, ask(remote, shelf, digest)).await {
        Ok(Ok(Some(golden))) => return Some(golden),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "no golden file but the cached one"),
        Err(_) => tracing::debug!(seconds = PATIENCE.as_secs(), "the store does not say in time"),
    }
    let on = shelf.clone();
    tokio::task::spawn_blocking(move || on.last_golden(&digest)).await.ok()?
}

/// What the store has now, if that is for this copy.
async fn ask(
    remote: &Remote,
    shelf: &Shelf,
    digest: Digest,
) -> Result<Option<PathBuf>, ArtifactError> {
    let activity = Activity::new();
    let objects = remote.list(&activity).await?.objects;
    let Some((object, name)) = of(&remote.origin, &objects) else { return Ok(None) };
    let (on, of) = (shelf.clone(), name.clone());
    let kept = activity.local(move || Ok(on.golden(&digest, &of))).await?;
    if kept.is_some() || object.size == 0 || object.size > MAX_GOLDEN {
        return Ok(kept);
    }
    let pieces = remote.read(object, 0..object.size, &Unheard, &activity).await?;
    let content = pieces.concat();
    // Other files may be at the address by now, with a golden file of theirs.
    if !is_for(&content, &digest) {
        return Ok(None);
    }
    let on = shelf.clone();
    activity.local(move || on.keep_golden(&digest, &name, &content).map(Some)).await
}

/// Whether a golden file says that it is for the files with this digest.
fn is_for(content: &[u8], digest: &Digest) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Golden {
        artifact_digest: String,
    }
    serde_json::from_slice::<Golden>(content)
        .is_ok_and(|golden| golden.artifact_digest == digest.to_string())
}

impl Shelf {
    /// The golden file of that name for a copy, if it is kept.
    pub(super) fn golden(&self, digest: &Digest, name: &str) -> Option<PathBuf> {
        let path = self.root().join(format!("{GOLDEN}{}-{name}", short(digest)));
        path.is_file().then_some(path)
    }

    /// The golden file for a copy that was kept last.
    fn last_golden(&self, digest: &Digest) -> Option<PathBuf> {
        let prefix = format!("{GOLDEN}{}-", short(digest));
        let entries = fs::read_dir(self.root()).ok()?.flatten();
        let of_copy = entries.filter(|entry| {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            rest.is_some_and(|rest| !rest.contains('.'))
        });
        let newest =
            of_copy.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
        newest.map(|entry| entry.path())
    }

    /// Keeps a golden file beside its copy; it appears there whole.
    pub(super) fn keep_golden(
        &self,
        digest: &Digest,
        name: &str,
        content: &[u8],
    ) -> Result<PathBuf, ArtifactError> {
        let path = self.root().join(format!("{GOLDEN}{}-{name}", short(digest)));
        let new = path.with_file_name(format!("{GOLDEN}{}-{name}.{}", short(digest), random()));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| ArtifactError::writing(&path, error))?;
        Ok(path)
    }
}

/// A golden file is little.
struct Unheard;

impl Progress for Unheard {
    fn total(&self, _bytes: u64) {}
    fn add(&self, _bytes: u64) {}
}
