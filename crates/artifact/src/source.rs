//! Where files are fetched from: one trait, and one module for each kind of store.

mod activity;
mod again;
mod azure;
mod bucket;
mod client;
mod gcs;
mod https;
mod hub;
mod moved;
mod parts;
mod s3;
mod settings;
mod web;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, TryStreamExt as _};

pub(crate) use activity::Activity;
#[cfg(test)]
pub(crate) use bucket::Bucket;
pub(crate) use hub::is_foreign;
pub(crate) use parts::InStore;

use crate::Progress;
use crate::budget::Budget;
use crate::digest::{Sha256Sum, is_hidden};
use crate::error::ArtifactError;
use crate::location::{Location, check_components};

/// How long nothing may arrive before a fetch is given up. Longer than all retries of one
/// request, which end sooner when the store answers at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// More files than any model has: someone gave a whole bucket's prefix as a model's address.
const MAX_OBJECTS: usize = 10_000;

/// The bytes of a range, in order.
pub(crate) type Body<'a> = BoxStream<'a, Result<Bytes, ArtifactError>>;

/// A store that can be asked what it holds below an address.
pub(crate) trait Source: Send + Sync {
    /// The artifact's files as they are now. `activity` hears of every answer.
    fn list<'a>(&'a self, activity: &'a Activity) -> BoxFuture<'a, Result<Listing, ArtifactError>>;

    /// A part of a file, if it is still the one that was listed; else
    /// [`ArtifactError::ChangedMeanwhile`]. What breaks off is tried again, from where it broke
    /// off.
    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Body<'a>, ArtifactError>>;
}

/// What a store holds below an address.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The artifact's files, sorted by path.
    pub(crate) objects: Vec<Object>,
    /// The commit that a reference stood for when it was listed, where the store has such.
    pub(crate) commit: Option<String>,
}

/// One of the artifact's files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Object {
    /// Its path below the address.
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its version or generation.
    pub(crate) version: Option<String>,
    /// Its entity tag.
    pub(crate) e_tag: Option<String>,
    /// When it was written, in milliseconds since 1970.
    pub(crate) modified: Option<i64>,
    /// The commit that it is part of.
    pub(crate) commit: Option<String>,
    /// The sum of its contents, where it is known beforehand.
    pub(crate) sha256: Option<Stated>,
    /// Whether the store does not say that it hands out parts: whoever asks for one may be sent the
    /// whole.
    pub(crate) is_whole: bool,
}

/// A sum that somebody stated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stated {
    pub(crate) sum: Sha256Sum,
    pub(crate) by: Author,
}

/// Who knows a file's sum beforehand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Author {
    /// The store, which computed it when the file was uploaded.
    Store,
    /// Whoever wrote the artifact's `SHA256SUMS`.
    SumsFile,
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "the store",
            Self::SumsFile => "SHA256SUMS",
        })
    }
}

impl Object {
    /// The strongest identity that the store itself gives.
    pub(crate) fn identity(&self) -> String {
        match (&self.sha256, &self.version, &self.e_tag) {
            (Some(Stated { sum, by: Author::Store }), _, _) => format!("sha256:{sum}"),
            (_, Some(version), _) => format!("version:{version:?}"),
            (_, None, Some(e_tag)) => format!("etag:{e_tag:?}"),
            (_, None, None) => format!("modified:{}", self.modified.unwrap_or_default()),
        }
    }
}

/// Where a copy came from.
#[derive(Clone, Debug, serde::Deserialize, Eq, PartialEq, serde::Serialize)]
pub(crate) struct Origin {
    /// The store's endpoint: two stores may have a bucket of one name.
    pub(crate) store: String,
    /// The address in the store.
    pub(crate) uri: String,
}

/// An address of a store.
pub(crate) struct Remote {
    pub(crate) source: Box<dyn Source>,
    /// Which store and which address, for errors and records.
    pub(crate) origin: Origin,
    pub(crate) patience: Duration,
    /// Bytes that may be in memory at a time.
    pub(crate) in_flight: Arc<Budget>,
}

impl Remote {
    /// Prepares to ask the store of an address, to which nothing is sent yet. None for an address
    /// of this machine.
    pub(crate) fn open(
        location: &Location,
        credentials: Option<&Path>,
    ) -> Result<Option<Self>, ArtifactError> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (source, store): (Box<dyn Source>, String) = match location {
            Location::S3 { bucket, prefix } => {
                s3::open(bucket, prefix, &location.to_string(), credentials, &environment)?
            }
            Location::Gcs { bucket, prefix } => {
                gcs::open(bucket, prefix, &location.to_string(), credentials, &environment)?
            }
            Location::Azure { container, prefix } => {
                azure::open(container, prefix, &location.to_string(), credentials, &environment)?
            }
            Location::Https { base } => https::open(base, credentials, &environment)?,
            Location::Hub { repository, revision } => {
                hub::open(repository, revision, credentials, &environment)?
            }
            Location::Image { .. } | Location::Claim { .. } | Location::Oci { .. } => {
                return Ok(None);
            }
        };
        let origin = Origin { store, uri: location.to_string() };
        Ok(Some(Self {
            source,
            origin,
            patience: PATIENCE,
            in_flight: Arc::new(Budget::for_downloads()),
        }))
    }

    /// The artifact's files, sorted by path.
    pub(crate) async fn list(&self, activity: &Activity) -> Result<Listing, ArtifactError> {
        let listing = self.source.list(activity).await?;
        Ok(Listing { objects: select(&self.origin.uri, listing.objects)?, ..listing })
    }

    /// The work's outcome, unless the store falls silent for longer than it is waited for.
    pub(crate) async fn patient<T>(
        &self,
        activity: &Activity,
        work: impl Future<Output = Result<T, ArtifactError>>,
    ) -> Result<T, ArtifactError> {
        tokio::select! {
            done = work => done,
            bytes = activity.stalled(self.patience) => Err(ArtifactError::Stalled {
                uri: self.origin.uri.clone(),
                seconds: self.patience.as_secs(),
                bytes,
            }),
        }
    }

    /// Reads a part of a file, if it is still the one that was listed.
    pub(crate) async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
        progress: &dyn Progress,
        activity: &Activity,
    ) -> Result<Vec<Bytes>, ArtifactError> {
        let expected = range.end - range.start;
        let mut body = self.source.read(object, range).await?;
        let (pieces, received) = window(&mut body, u64::MAX, progress, activity).await?;
        if received != expected {
            return Err(self.other_length(object, received, expected));
        }
        Ok(pieces)
    }

    /// A file that is another length than was listed.
    pub(crate) fn other_length(
        &self,
        object: &Object,
        received: u64,
        expected: u64,
    ) -> ArtifactError {
        ArtifactError::Download {
            uri: self.origin.uri.clone(),
            found: format!("{received} bytes of {} instead of {expected}", object.path),
        }
    }
}

/// The next pieces of a body, until they are at least so many bytes or it ends; and how many they
/// are.
pub(crate) async fn window(
    body: &mut Body<'_>,
    bytes: u64,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<(Vec<Bytes>, u64), ArtifactError> {
    let (mut pieces, mut received) = (Vec::new(), 0);
    while received < bytes
        && let Some(piece) = body.try_next().await?
    {
        let length = piece.len() as u64;
        received += length;
        activity.heard(length);
        progress.add(length);
        pieces.push(piece);
    }
    Ok((pieces, received))
}

/// Which of the listed objects are the artifact's files, sorted by path.
///
/// Hidden ones are none, nor are the empty objects that consoles make to show a folder. A path
/// that would be written outside the artifact's folder is refused, not left out.
fn select(uri: &str, listed: Vec<Object>) -> Result<Vec<Object>, ArtifactError> {
    let refuse = |path: &str, problem| ArtifactError::PathRefused {
        uri: uri.to_owned(),
        path: path.to_owned(),
        problem,
    };
    let mut objects = Vec::new();
    for object in listed {
        check_components(&object.path).map_err(|problem| refuse(&object.path, problem))?;
        if !is_hidden(&object.path) {
            objects.push(object);
        }
    }
    let folders: BTreeSet<String> =
        objects.iter().flat_map(|object| folders(&object.path)).collect();
    if let Some(both) = objects.iter().find(|o| folders.contains(&o.path) && o.size > 0) {
        return Err(refuse(&both.path, "it is both a file and a folder"));
    }
    objects.retain(|object| !folders.contains(&object.path));
    if objects.is_empty() {
        return Err(ArtifactError::NotFound { uri: uri.to_owned() });
    }
    objects.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(twice) = objects.windows(2).find(|two| two[0].path == two[1].path) {
        return Err(refuse(&twice[0].path, "it is listed twice"));
    }
    Ok(objects)
}

/// The folders above a path: `a` and `a/b` for `a/b/c`.
fn folders(path: &str) -> impl Iterator<Item = String> {
    path.match_indices('/').map(|(end, _)| path[..end].to_owned())
}

/// Refuses a listing that is too long to be a model's.
fn check_length(uri: &str, objects: usize) -> Result<(), ArtifactError> {
    if objects <= MAX_OBJECTS {
        return Ok(());
    }
    Err(ArtifactError::LocationInvalid {
        uri: uri.to_owned(),
        problem: format!("it holds more than {MAX_OBJECTS} objects"),
    })
}

/// Answers of stores quote whole documents.
fn brief(text: &str) -> String {
    const LIMIT: usize = 600;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "s3://models/p";

    fn objects(listed: &[(&str, u64)]) -> Vec<Object> {
        let object = |(path, size): &(&str, u64)| Object {
            path: (*path).to_owned(),
            size: *size,
            ..Object::default()
        };
        listed.iter().map(object).collect()
    }

    #[test]
    fn hidden_objects_and_folder_marks_are_no_files() {
        let listed = [("b/x", 1), ("b", 0), ("a", 0), (".hidden/x", 1), ("c/.x", 1)];
        let found = select(URI, objects(&listed)).unwrap();
        let paths: Vec<_> = found.iter().map(|object| object.path.as_str()).collect();
        assert_eq!(paths, ["a", "b/x"]);
    }

    #[test]
    fn listings_that_are_no_folder_are_refused() {
        for listed in [&[][..], &[(".hidden", 1)]] {
            let error = select(URI, objects(listed)).unwrap_err();
            assert!(matches!(error, ArtifactError::NotFound { .. }), "{error:?}");
        }
        for listed in [
            &[("a", 1), ("a/b", 1)][..],
            &[("../a", 1)],
            &[("a//b", 1)],
            &[("a\nb", 1)],
            &[("a", 1), ("a", 1)],
        ] {
            let error = select(URI, objects(listed)).unwrap_err();
            assert!(matches!(error, ArtifactError::PathRefused { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_listing_that_is_no_models_is_refused() {
        check_length(URI, MAX_OBJECTS).unwrap();
        let error = check_length(URI, MAX_OBJECTS + 1).unwrap_err();
        assert!(matches!(error, ArtifactError::LocationInvalid { .. }), "{error:?}");
    }
}
