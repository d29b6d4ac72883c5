//! From a store into the cache.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use tokio::time::Instant;

use super::entry::Published;
use super::golden;
use super::partial::Partial;
use super::receive::{Sink, receive};
use super::room;
use super::shelf::{Come, Found, Shelf};
use super::steady::Steady;
use crate::Progress;
use crate::digest::{Digest, GOLDEN_FILE, Sha256Sum};
use crate::error::ArtifactError;
use crate::fetch::{Fetched, Sums};
use crate::folder::Folder;
use crate::source::{Activity, Object, Origin, Remote};

/// How often it is looked whether another process has come further.
const GLANCE: Duration = Duration::from_millis(250);
/// How long another process may download without a byte more before it is not waited for any
/// longer. Longer than it waits for the store itself, and than most disks need to sync.
const WAIT: Duration = Duration::from_mins(5);

/// Brings the files of the remote address into the cache, unless they are there. A copy with the
/// expected digest is right whatever the store holds now, so then the store is only asked for
/// another golden file, and not waited for.
pub(crate) async fn fetch(
    remote: &Remote,
    shelf: &Shelf,
    expected: Option<&Digest>,
    progress: &dyn Progress,
) -> Result<Fetched, ArtifactError> {
    let activity = Activity::new();
    if let Some(&digest) = expected {
        let on = shelf.clone();
        if let Some(published) = activity.local(move || Ok(on.find(&digest))).await? {
            let golden = golden::current(remote, shelf, digest).await;
            return open(remote, shelf, published, Sums::Recorded, golden);
        }
    }
    let objects = match remote.patient(&activity, remote.list(&activity)).await {
        Ok(listing) => listing.objects,
        Err(error) => return Err(with_hint(error, shelf, expected)),
    };
    bring(remote, shelf, &objects, progress).await
}

/// Says of a store that cannot be reached what the cache could do about it.
fn with_hint(error: ArtifactError, shelf: &Shelf, expected: Option<&Digest>) -> ArtifactError {
    match error {
        ArtifactError::Download { uri, found } => {
            let hint = match expected {
                Some(_) => "; no cached copy has the expected digest",
                None if shelf.has_any() => {
                    "; there is a cached copy, which needs no store if its digest is expected"
                }
                None => "",
            };
            ArtifactError::Download { uri, found: format!("{found}{hint}") }
        }
        other => other,
    }
}

/// Brings the listed objects into the cache, unless they are there, or another process does.
pub(crate) async fn bring(
    remote: &Remote,
    shelf: &Shelf,
    objects: &[Object],
    progress: &dyn Progress,
) -> Result<Fetched, ArtifactError> {
    let key = key(&remote.origin, objects);
    let steady = Steady::new(progress);
    let activity = Activity::new();
    let mut waiting: Option<Waiting> = None;
    loop {
        let (on, of) = (shelf.clone(), key.clone());
        let found = activity.local(move || on.claim(&of)).await?;
        match found {
            Found::Published(published) => {
                if waiting.is_some() {
                    steady.reached(total(objects));
                }
                let golden = golden_of(remote, shelf, objects, &published);
                return open(remote, shelf, published, Sums::Recorded, golden);
            }
            Found::Missing(partial) => {
                steady.anew();
                let (published, is_ours) =
                    complete(remote, shelf, &key, objects, partial, &steady, &activity).await?;
                let sums = if is_ours { Sums::Fresh } else { Sums::Recorded };
                let golden = golden_of(remote, shelf, objects, &published);
                return open(remote, shelf, published, sums, golden);
            }
            Found::Elsewhere(come) => {
                steady.total(total(objects));
                steady.reached(come.bytes);
                waiting.get_or_insert_with(|| Waiting::begin(shelf)).saw(come, shelf)?;
                tokio::time::sleep(GLANCE).await;
            }
        }
    }
}

/// The golden file that was listed for a copy.
fn golden_of(
    remote: &Remote,
    shelf: &Shelf,
    objects: &[Object],
    published: &Published,
) -> Option<PathBuf> {
    let (_, name) = golden::of(&remote.origin, objects)?;
    shelf.golden(&published.digest(), &name)
}

/// Another process downloads; when it last came further.
struct Waiting {
    come: Come,
    since: Instant,
}

impl Waiting {
    fn begin(shelf: &Shelf) -> Self {
        tracing::info!(shelf = %shelf.root().display(), "another process downloads it: waiting");
        Self { come: Come::default(), since: Instant::now() }
    }

    fn saw(&mut self, come: Come, on: &Shelf) -> Result<(), ArtifactError> {
        if come != self.come {
            *self = Self { come, since: Instant::now() };
        }
        if self.since.elapsed() < WAIT {
            return Ok(());
        }
        let (path, bytes) = (on.root().to_owned(), come.bytes);
        Err(ArtifactError::CacheBusy { path, seconds: WAIT.as_secs(), bytes })
    }
}

pub(super) fn total(objects: &[Object]) -> u64 {
    objects.iter().map(|object| object.size).sum()
}

/// Downloads what is missing and publishes it; says whether the published folder is the one that
/// was written here.
///
/// What arrived before an error stays for the next attempt, unless it was in vain.
async fn complete(
    remote: &Remote,
    shelf: &Shelf,
    key: &str,
    objects: &[Object],
    partial: Partial,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<(Published, bool), ArtifactError> {
    let there = super::partial::size(partial.path());
    let need = total(objects).saturating_sub(there);
    let (on, of, folder) = (shelf.clone(), key.to_owned(), partial.path().to_owned());
    let room = move || match room::check(&folder, need) {
        Err(ArtifactError::NoRoom { .. }) => {
            on.make_room(&of)?;
            room::check(&folder, need)
        }
        checked => checked,
    };
    let arriving = async {
        activity.local(room).await?;
        let into = Sink::Folder(partial.path(), &partial.journal);
        remote.patient(activity, receive(remote, objects, into, progress, activity)).await
    };
    let files = match arriving.await {
        Ok(files) => files,
        Err(error) => {
            if is_in_vain(&error) {
                activity.local(move || partial.remove()).await?;
            }
            return Err(error);
        }
    };
    let (on, of, origin) = (shelf.clone(), key.to_owned(), remote.origin.clone());
    let golden = golden::of(&remote.origin, objects).map(|(_, name)| name);
    activity
        .local(move || {
            let content = fs::read(partial.path().join(GOLDEN_FILE)).ok();
            let published = on.publish(&partial, &of, &origin, &files)?;
            if let Some((name, content)) = golden.zip(content)
                && let Err(error) = on.keep_golden(&published.digest(), &name, &content)
            {
                tracing::warn!(%error, "the golden file is not kept beside its copy");
            }
            let is_ours = published.files == files;
            Ok((published, is_ours))
        })
        .await
}

/// Whether what arrived is of no use to a later attempt, or takes the room that others need.
fn is_in_vain(error: &ArtifactError) -> bool {
    matches!(
        error,
        ArtifactError::SumMismatch { .. }
            | ArtifactError::ChangedMeanwhile { .. }
            | ArtifactError::DiskFull { .. }
            | ArtifactError::NoRoom { .. }
    )
}

fn open(
    remote: &Remote,
    shelf: &Shelf,
    published: Published,
    sums: fn(Arc<Published>) -> Sums,
    golden: Option<PathBuf>,
) -> Result<Fetched, ArtifactError> {
    Ok(Fetched {
        folder: Folder::open(&published.folder, shelf.root(), &remote.origin.uri)?,
        sums: sums(Arc::new(published)),
        golden,
    })
}

/// Names a listing: the same address of the same store with the same objects has the same name.
/// Accounts need no part in it: the listing was made with the model's own credentials, and what
/// another account has under the same name has other entity tags and times.
fn key(origin: &Origin, objects: &[Object]) -> String {
    let mut hasher = sha2::Sha256::new();
    hasher.update(format!("{}\n{}\n", origin.store, origin.uri));
    for object in objects {
        let modified = object.modified.unwrap_or_default();
        let (size, identity, path) = (object.size, object.identity(), &object.path);
        hasher.update(format!("{size} {modified} {identity} {path}\n"));
    }
    let mut key = Sha256Sum::of(hasher).to_string();
    key.truncate(16);
    key
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
