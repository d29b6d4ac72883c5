//! From an object store into the cache.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use sha2::Digest as _;

use crate::Progress;
use crate::activity::Activity;
use crate::digest::{Digest, FileRecord, Sha256Sum, is_hidden};
use crate::error::ArtifactError;
use crate::fetch::{Fetched, Sums};
use crate::folder::Folder;
use crate::location::check_components;
use crate::publish::{Origin, Partial, Published, Shelf};

/// How long nothing may arrive before a fetch is given up. Longer than all retries of one
/// request, which end sooner when the store answers at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Two files with four requests each keep a fast line busy and hold at most 64 MiB in memory.
const FILES_AT_A_TIME: usize = 2;
const REQUESTS_PER_FILE: usize = 4;
const REQUEST_BYTES: u64 = 8 << 20;
/// More objects than any model has: someone gave a whole bucket's prefix as a model's address.
const MAX_OBJECTS: usize = 10_000;

/// A prefix of an object store.
pub(crate) struct Remote {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    /// Which store and which address, for errors and records.
    pub(crate) origin: Origin,
    pub(crate) patience: Duration,
}

/// An object to download.
#[derive(Clone, Debug)]
struct Object {
    /// Its path below the prefix.
    path: String,
    meta: ObjectMeta,
}

/// Brings the objects below the prefix into the cache, unless they are there.
pub(crate) async fn fetch(
    remote: &Remote,
    shelf: &Shelf,
    expected: Option<&Digest>,
    progress: &dyn Progress,
) -> Result<Fetched, ArtifactError> {
    let activity = Activity::new();
    tokio::select! {
        fetched = fetch_watched(remote, shelf, expected, progress, &activity) => fetched,
        bytes = activity.stalled(remote.patience) => Err(ArtifactError::Stalled {
            uri: remote.origin.uri.clone(),
            seconds: remote.patience.as_secs(),
            bytes,
        }),
    }
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

async fn list(remote: &Remote, activity: &Activity) -> Result<Vec<Object>, ArtifactError> {
    let failed = |error| store_error(remote, None, &error);
    let prefix =
        object_store::path::Path::parse(&remote.prefix).map_err(|source| failed(source.into()))?;
    let mut listing = remote.store.list(Some(&prefix));
    let mut metas = Vec::new();
    while let Some(meta) = listing.try_next().await.map_err(failed)? {
        activity.heard(0);
        metas.push(meta);
        if metas.len() > MAX_OBJECTS {
            return Err(ArtifactError::LocationInvalid {
                uri: remote.origin.uri.clone(),
                problem: format!("it holds more than {MAX_OBJECTS} objects"),
            });
        }
    }
    select(&remote.origin.uri, prefix.as_ref(), metas)
}

/// Which of the listed objects are the artifact's files, sorted by path.
///
/// Hidden ones are none, nor are the empty objects that consoles make to show a folder. A key
/// that would be written outside the artifact's folder is refused, not left out.
fn select(uri: &str, prefix: &str, metas: Vec<ObjectMeta>) -> Result<Vec<Object>, ArtifactError> {
    let refuse = |path: &str, problem| ArtifactError::PathRefused {
        uri: uri.to_owned(),
        path: path.to_owned(),
        problem,
    };
    let mut objects = Vec::new();
    for meta in metas {
        let key = meta.location.as_ref();
        if key == prefix {
            continue;
        }
        let path = key.strip_prefix(prefix).and_then(|path| path.strip_prefix('/'));
        let path = path.ok_or_else(|| refuse(key, "it is not below the prefix"))?.to_owned();
        check_components(&path).map_err(|problem| refuse(&path, problem))?;
        if !is_hidden(&path) {
            objects.push(Object { path, meta });
        }
    }
    let folders: BTreeSet<String> =
        objects.iter().flat_map(|object| folders(&object.path)).collect();
    if let Some(both) = objects.iter().find(|o| folders.contains(&o.path) && o.meta.size > 0) {
        return Err(refuse(&both.path, "it is both a file and a folder"));
    }
    objects.retain(|object| !folders.contains(&object.path));
    if objects.is_empty() {
        return Err(ArtifactError::NotFound { uri: uri.to_owned() });
    }
    objects.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(objects)
}

/// The folders above a path: `a` and `a/b` for `a/b/c`.
fn folders(path: &str) -> impl Iterator<Item = String> {
    path.match_indices('/').map(|(end, _)| path[..end].to_owned())
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
    progress.total(objects.iter().map(|object| object.meta.size).sum());
    let files =
        objects.into_iter().map(|object| download_file(remote, object, folder, progress, activity));
    stream::iter(files).buffer_unordered(FILES_AT_A_TIME).try_collect().await
}

async fn download_file(
    remote: &Remote,
    object: Object,
    folder: &Path,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<FileRecord, ArtifactError> {
    let size = object.meta.size;
    let path = folder.join(&object.path);
    let mut written = activity.local(move || Written::create(&path)).await?;
    let object = &object;
    let ranges = (0..size.div_ceil(REQUEST_BYTES)).map(|index| {
        let begin = index * REQUEST_BYTES;
        begin..size.min(begin + REQUEST_BYTES)
    });
    let requests = ranges.map(|range| download_range(remote, object, range, progress, activity));
    let mut pieces = stream::iter(requests).buffered(REQUESTS_PER_FILE);
    while let Some(piece) = pieces.try_next().await? {
        written = activity.local(move || written.append(&piece)).await?;
    }
    let sha256 = activity.local(move || written.finish()).await?;
    Ok(FileRecord { path: object.path.clone(), size, sha256 })
}

async fn download_range(
    remote: &Remote,
    object: &Object,
    range: Range<u64>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Vec<Bytes>, ArtifactError> {
    let failed = |error| store_error(remote, Some(&object.path), &error);
    let expected = range.end - range.start;
    let options = GetOptions {
        range: Some(GetRange::Bounded(range)),
        if_match: object.meta.e_tag.clone(),
        ..GetOptions::default()
    };
    let got = remote.store.get_opts(&object.meta.location, options).await.map_err(failed)?;
    let mut body = got.into_stream();
    let mut pieces = Vec::new();
    let mut received = 0;
    while let Some(piece) = body.try_next().await.map_err(failed)? {
        let length = piece.len() as u64;
        received += length;
        activity.heard(length);
        progress.add(length);
        pieces.push(piece);
    }
    if received != expected {
        return Err(ArtifactError::Download {
            uri: remote.origin.uri.clone(),
            found: format!("{received} bytes of {} instead of {expected}", object.path),
        });
    }
    Ok(pieces)
}

/// A file that is being written and summed.
struct Written {
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
}

impl Written {
    fn create(path: &Path) -> Result<Self, ArtifactError> {
        let failed = |error| ArtifactError::writing(path, error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        Ok(Self {
            file: File::create_new(path).map_err(failed)?,
            path: path.to_owned(),
            hasher: sha2::Sha256::new(),
        })
    }

    fn append(mut self, pieces: &[Bytes]) -> Result<Self, ArtifactError> {
        for piece in pieces {
            self.hasher.update(piece);
            self.file
                .write_all(piece)
                .map_err(|error| ArtifactError::writing(&self.path, error))?;
        }
        Ok(self)
    }

    fn finish(self) -> Result<Sha256Sum, ArtifactError> {
        self.file.sync_all().map_err(|error| ArtifactError::writing(&self.path, error))?;
        Ok(Sha256Sum::of(self.hasher))
    }
}

/// What the store's error means. `file` is the object that was asked for, if one was.
fn store_error(remote: &Remote, file: Option<&str>, error: &object_store::Error) -> ArtifactError {
    use object_store::Error;

    let uri = remote.origin.uri.clone();
    let found = brief(&error.to_string());
    let replaced =
        |file: &str| ArtifactError::ChangedMeanwhile { uri: uri.clone(), file: file.to_owned() };
    // A bucket that is there is listed, even if it is empty: so a listing is answered with 404
    // only where there is none, or no store at all.
    let no_bucket = file.is_none() || found.contains("NoSuchBucket");
    match (error, status(error), file) {
        (Error::NotFound { .. }, _, _) | (_, Some(404), _) if no_bucket => {
            ArtifactError::BucketMissing {
                uri,
                bucket: remote.bucket.clone(),
                store: remote.origin.store.clone(),
            }
        }
        (Error::NotFound { .. } | Error::Precondition { .. }, _, Some(file))
        | (_, Some(404 | 412), Some(file)) => replaced(file),
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _, _)
        | (_, Some(401 | 403), _) => ArtifactError::AuthDenied { uri, found },
        // An expired token is answered with 400:
        // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
        (_, Some(400), _) if found.contains("ExpiredToken") || found.contains("InvalidToken") => {
            ArtifactError::AuthDenied { uri, found }
        }
        (Error::InvalidPath { source }, _, _) => ArtifactError::PathRefused {
            uri,
            path: source.to_string(),
            problem: "it would leave the folder, or cannot be stored as a file",
        },
        _ => ArtifactError::Download { uri, found },
    }
}

/// The HTTP status at the end of an error's chain of sources. `object_store` keeps the type
/// that holds it to itself and turns it into a variant for single objects but not for listings,
/// so its words are read; a test with a real server notices when they change.
fn status(error: &object_store::Error) -> Option<u16> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let text = error.to_string();
        if let Some(rest) = text.strip_prefix("Server returned non-2xx status code: ") {
            return rest.get(..3)?.parse().ok();
        }
        source = error.source();
    }
    None
}

/// Errors of stores quote whole XML documents.
fn brief(text: &str) -> String {
    const LIMIT: usize = 600;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
