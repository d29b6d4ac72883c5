//! From an object store into the cache.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sha2::Digest as _;

use crate::Progress;
use crate::activity::Activity;
use crate::digest::{Digest, FileRecord, Sha256Sum};
use crate::error::ArtifactError;
use crate::fetch::{Fetched, Sums};
use crate::folder::Folder;
use crate::publish::{Origin, Partial, Published, Shelf};
use crate::store::{Object, Remote, download_range, list, patient};

/// Two files with four requests each keep a fast line busy and hold at most 64 MiB in memory.
const FILES_AT_A_TIME: usize = 2;
const REQUESTS_PER_FILE: usize = 4;
const REQUEST_BYTES: u64 = 8 << 20;

/// Brings the objects below the prefix into the cache, unless they are there.
pub(crate) async fn fetch(
    remote: &Remote,
    shelf: &Shelf,
    expected: Option<&Digest>,
    progress: &dyn Progress,
) -> Result<Fetched, ArtifactError> {
    let activity = Activity::new();
    let fetched = fetch_watched(remote, shelf, expected, progress, &activity);
    patient(remote, &activity, fetched).await
}

async fn fetch_watched(
    remote: &Remote,
    shelf: &Shelf,
    expected: Option<&Digest>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Fetched, ArtifactError> {
    let objects = match list(remote, activity).await {
        Ok(objects) => objects,
        Err(ArtifactError::Download { uri, found }) => {
            let (on, origin) = (shelf.clone(), remote.origin.clone());
            let copies = activity.local(move || Ok(on.copies(&origin))).await?;
            let copy = kept(copies, expected)
                .map_err(|hint| ArtifactError::Download { uri, found: format!("{found}{hint}") })?;
            tracing::warn!(
                store = remote.origin.store,
                found,
                "the store cannot be reached, using the cached copy with the pinned digest"
            );
            return open(remote, shelf, copy, Sums::Recorded);
        }
        Err(error) => return Err(error),
    };
    bring(remote, shelf, objects, progress, activity).await
}

/// Brings the listed objects into the cache, unless they are there.
pub(crate) async fn bring(
    remote: &Remote,
    shelf: &Shelf,
    objects: Vec<Object>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Fetched, ArtifactError> {
    let identity = identity(&remote.origin, &objects);
    let found = {
        let (shelf, identity, origin) = (shelf.clone(), identity.clone(), remote.origin.clone());
        activity.local(move || Ok(shelf.find(&identity, &origin))).await?
    };
    if let Some(published) = found {
        return open(remote, shelf, published, Sums::Recorded);
    }
    let partial = {
        let shelf = shelf.clone();
        activity.local(move || shelf.begin()).await?
    };
    let files = download(remote, objects, partial.path(), progress, activity).await?;
    let (onto, origin) = (shelf.clone(), remote.origin.clone());
    let publish = move || publish(&onto, partial, &identity, &origin, &files);
    let (published, is_ours) = activity.local(publish).await?;
    let sums = if is_ours { Sums::Fresh } else { Sums::Recorded };
    open(remote, shelf, published, sums)
}

/// The copy that is known to be right without asking the store: the one with the pinned digest.
/// If there is none, what to add to the error.
fn kept(copies: Vec<Published>, expected: Option<&Digest>) -> Result<Published, &'static str> {
    match expected {
        Some(digest) => copies
            .into_iter()
            .find(|copy| Digest::of(&copy.files) == *digest)
            .ok_or("; no cached copy has the pinned digest"),
        None if copies.is_empty() => Err(""),
        None => {
            Err("; there is a cached copy, which may be used meanwhile if the digest is pinned")
        }
    }
}

/// The published folder, and whether it is the one that was written here.
fn publish(
    shelf: &Shelf,
    partial: Partial,
    identity: &str,
    origin: &Origin,
    files: &[FileRecord],
) -> Result<(Published, bool), ArtifactError> {
    let published = partial.publish(shelf, identity, origin, files.to_vec())?;
    shelf.evict_others(&published);
    let is_ours = published.files == files;
    Ok((published, is_ours))
}

fn open(
    remote: &Remote,
    shelf: &Shelf,
    published: Published,
    sums: fn(Arc<Published>) -> Sums,
) -> Result<Fetched, ArtifactError> {
    Ok(Fetched {
        folder: Folder::open(&published.folder, shelf.root(), &remote.origin.uri)?,
        sums: sums(Arc::new(published)),
    })
}

/// Names a listing: the same address of the same store with the same objects has the same name.
/// Accounts need no part in it: the listing was made with the model's own credentials, and what
/// another account has under the same name has other entity tags and times.
fn identity(origin: &Origin, objects: &[Object]) -> String {
    let mut hasher = sha2::Sha256::new();
    hasher.update(format!("{}\n{}\n", origin.store, origin.uri));
    for Object { path, meta } in objects {
        let e_tag = meta.e_tag.as_deref().unwrap_or_default();
        let modified = meta.last_modified.timestamp_millis();
        hasher.update(format!("{} {modified} {e_tag:?} {path}\n", meta.size));
    }
    let mut identity = Sha256Sum::of(hasher).to_string();
    identity.truncate(16);
    identity
}

async fn download(
    remote: &Remote,
    objects: Vec<Object>,
    folder: &Path,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Vec<FileRecord>, ArtifactError> {
    receive(remote, objects, Some(folder), progress, activity).await
}

/// The sums of objects that are read and not kept.
pub(crate) async fn sum(
    remote: &Remote,
    objects: Vec<Object>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Vec<FileRecord>, ArtifactError> {
    receive(remote, objects, None, progress, activity).await
}

async fn receive(
    remote: &Remote,
    objects: Vec<Object>,
    folder: Option<&Path>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Vec<FileRecord>, ArtifactError> {
    progress.total(objects.iter().map(|object| object.meta.size).sum());
    let files =
        objects.into_iter().map(|object| receive_file(remote, object, folder, progress, activity));
    stream::iter(files).buffer_unordered(FILES_AT_A_TIME).try_collect().await
}

async fn receive_file(
    remote: &Remote,
    object: Object,
    folder: Option<&Path>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<FileRecord, ArtifactError> {
    let size = object.meta.size;
    let path = folder.map(|folder| folder.join(&object.path));
    let mut received = activity.local(move || Received::begin(path)).await?;
    let object = &object;
    let ranges = (0..size.div_ceil(REQUEST_BYTES)).map(|index| {
        let begin = index * REQUEST_BYTES;
        begin..size.min(begin + REQUEST_BYTES)
    });
    let requests = ranges.map(|range| download_range(remote, object, range, progress, activity));
    let mut pieces = stream::iter(requests).buffered(REQUESTS_PER_FILE);
    while let Some(piece) = pieces.try_next().await? {
        received = activity.local(move || received.append(&piece)).await?;
    }
    let sha256 = activity.local(move || received.finish()).await?;
    Ok(FileRecord { path: object.path.clone(), size, sha256 })
}

/// A file that is being summed, and written if it is to be kept.
struct Received {
    kept: Option<(PathBuf, File)>,
    hasher: sha2::Sha256,
}

impl Received {
    fn begin(path: Option<PathBuf>) -> Result<Self, ArtifactError> {
        let create = |path: PathBuf| -> Result<(PathBuf, File), ArtifactError> {
            let failed = |error| ArtifactError::writing(&path, error);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(failed)?;
            }
            let file = File::create_new(&path).map_err(failed)?;
            Ok((path, file))
        };
        Ok(Self { kept: path.map(create).transpose()?, hasher: sha2::Sha256::new() })
    }

    fn append(mut self, pieces: &[Bytes]) -> Result<Self, ArtifactError> {
        for piece in pieces {
            self.hasher.update(piece);
            if let Some((path, file)) = &mut self.kept {
                file.write_all(piece).map_err(|error| ArtifactError::writing(path, error))?;
            }
        }
        Ok(self)
    }

    fn finish(self) -> Result<Sha256Sum, ArtifactError> {
        if let Some((path, file)) = self.kept {
            file.sync_all().map_err(|error| ArtifactError::writing(&path, error))?;
        }
        Ok(Sha256Sum::of(self.hasher))
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
