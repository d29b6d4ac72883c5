//! Files below a prefix of an object store: S3, Google Cloud Storage, Azure.

use std::ops::Range;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::{Activity, Body, Listing, Object, Source, brief, check_length};
use crate::error::ArtifactError;

/// A prefix of a bucket. The client library tries again what breaks off.
pub(crate) struct Bucket {
    pub(crate) client: Arc<dyn ObjectStore>,
    /// The bucket's or container's name.
    pub(crate) name: String,
    /// The prefix, without a slash at either end.
    pub(crate) prefix: String,
    /// The store's endpoint.
    pub(crate) store: String,
    /// The whole address, for errors.
    pub(crate) uri: String,
    /// The setting that says where the store is.
    pub(crate) endpoint: &'static str,
}

impl Source for Bucket {
    fn list<'a>(&'a self, activity: &'a Activity) -> BoxFuture<'a, Result<Listing, ArtifactError>> {
        self.list_prefix(activity).boxed()
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Body<'a>, ArtifactError>> {
        self.read_range(object, range).boxed()
    }
}

impl Bucket {
    async fn list_prefix(&self, activity: &Activity) -> Result<Listing, ArtifactError> {
        let failed = |error| self.error(None, &error);
        let prefix = Path::parse(&self.prefix).map_err(|source| failed(source.into()))?;
        let mut listing = self.client.list(Some(&prefix));
        let mut objects = Vec::new();
        while let Some(meta) = listing.try_next().await.map_err(failed)? {
            activity.heard(0);
            objects.extend(self.object(prefix.as_ref(), &meta)?);
            check_length(&self.uri, objects.len())?;
        }
        Ok(Listing { objects, commit: None })
    }

    /// None for the mark of the prefix itself.
    fn object(&self, prefix: &str, meta: &ObjectMeta) -> Result<Option<Object>, ArtifactError> {
        let key = meta.location.as_ref();
        if key == prefix {
            return Ok(None);
        }
        let path = key.strip_prefix(prefix).and_then(|path| path.strip_prefix('/'));
        let path = path.ok_or_else(|| ArtifactError::PathRefused {
            uri: self.uri.clone(),
            path: key.to_owned(),
            problem: "it is not below the prefix",
        })?;
        Ok(Some(Object {
            path: path.to_owned(),
            size: meta.size,
            version: meta.version.clone(),
            e_tag: meta.e_tag.clone(),
            modified: Some(meta.last_modified.timestamp_millis()),
            ..Object::default()
        }))
    }

    async fn read_range<'a>(
        &'a self,
        object: &'a Object,
        range: Range<u64>,
    ) -> Result<Body<'a>, ArtifactError> {
        let failed = |error: object_store::Error| self.error(Some(&object.path), &error);
        let key = Path::parse(format!("{}/{}", self.prefix, object.path))
            .map_err(|source| failed(source.into()))?;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: object.e_tag.clone(),
            ..GetOptions::default()
        };
        let got = self.client.get_opts(&key, options).await.map_err(failed)?;
        Ok(got.into_stream().map_err(failed).boxed())
    }

    /// What the store's error means. `file` is the object that was asked for, if one was.
    fn error(&self, file: Option<&str>, error: &object_store::Error) -> ArtifactError {
        use object_store::Error;

        let uri = self.uri.clone();
        let found = brief(&error.to_string());
        let replaced = |file: &str| ArtifactError::ChangedMeanwhile {
            uri: uri.clone(),
            file: file.to_owned(),
        };
        // A bucket that is there is listed, even if it is empty: so a listing is answered with 404
        // only where there is none, or no store at all.
        let no_bucket =
            file.is_none() || found.contains("NoSuchBucket") || found.contains("ContainerNotFound");
        match (error, status(error), file) {
            (Error::NotFound { .. }, _, _) | (_, Some(404), _) if no_bucket => {
                ArtifactError::BucketMissing {
                    uri,
                    bucket: self.name.clone(),
                    store: self.store.clone(),
                    setting: self.endpoint,
                }
            }
            (Error::NotFound { .. } | Error::Precondition { .. }, _, Some(file))
            | (_, Some(404 | 412), Some(file)) => replaced(file),
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _, _)
            | (_, Some(401 | 403), _) => ArtifactError::AuthDenied { uri, found },
            // An expired token is answered with 400:
            // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
            (_, Some(400), _)
                if found.contains("ExpiredToken") || found.contains("InvalidToken") =>
            {
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
