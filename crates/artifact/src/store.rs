//! What an object store holds below a prefix, and reading parts of it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use crate::Progress;
use crate::activity::Activity;
use crate::digest::is_hidden;
use crate::error::ArtifactError;
use crate::location::check_components;
use crate::publish::Origin;

/// How long nothing may arrive before a fetch is given up. Longer than all retries of one
/// request, which end sooner when the store answers at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

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

/// One of the artifact's files.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its path below the prefix.
    pub(crate) path: String,
    pub(crate) meta: ObjectMeta,
}

/// The work's outcome, unless the store falls silent for longer than it is waited for.
pub(crate) async fn patient<T>(
    remote: &Remote,
    activity: &Activity,
    work: impl Future<Output = Result<T, ArtifactError>>,
) -> Result<T, ArtifactError> {
    tokio::select! {
        done = work => done,
        bytes = activity.stalled(remote.patience) => Err(ArtifactError::Stalled {
            uri: remote.origin.uri.clone(),
            seconds: remote.patience.as_secs(),
            bytes,
        }),
    }
}

/// The artifact's files, sorted by path.
pub(crate) async fn list(
    remote: &Remote,
    activity: &Activity,
) -> Result<Vec<Object>, ArtifactError> {
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
pub(crate) fn select(
    uri: &str,
    prefix: &str,
    metas: Vec<ObjectMeta>,
) -> Result<Vec<Object>, ArtifactError> {
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

/// Reads a part of an object, if it is still the one that was listed.
pub(crate) async fn download_range(
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
