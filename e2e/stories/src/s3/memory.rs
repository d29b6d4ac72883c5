//! A store whose objects are in memory, so that it takes as little of the machine as it can: what
//! is measured beside it is then not the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use futures::stream;
use s3s::dto::{
    ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, StreamingBlob, Timestamp,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

/// How many bytes an answer carries at a time.
const PIECE: usize = 256 << 10;

/// Objects by bucket and key. They are read when it is made, and never written.
pub(super) struct InMemory {
    objects: BTreeMap<(String, String), Bytes>,
    buckets: BTreeSet<String>,
    since: Timestamp,
}

impl InMemory {
    /// Reads all files below the folders of `root`, which are the buckets.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut objects = BTreeMap::new();
        let mut buckets = BTreeSet::new();
        for path in files(root)? {
            let below = path.strip_prefix(root)?;
            let below = below.to_str().with_context(|| format!("{} is odd", path.display()))?;
            let Some((bucket, key)) = below.split_once('/') else { continue };
            let bytes = std::fs::read(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            buckets.insert(bucket.to_owned());
            objects.insert((bucket.to_owned(), key.to_owned()), Bytes::from(bytes));
        }
        Ok(Self { objects, buckets, since: Timestamp::from(std::time::SystemTime::now()) })
    }

    fn find(&self, bucket: String, key: String) -> S3Result<&Bytes> {
        self.objects.get(&(bucket, key)).ok_or_else(|| s3_error!(NoSuchKey))
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("{} cannot be listed", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Nobody writes: the length tells one object from another of its key.
fn e_tag(bytes: &Bytes) -> ETag {
    ETag::Strong(format!("{:x}", bytes.len()))
}

fn length(bytes: &Bytes) -> S3Result<i64> {
    i64::try_from(bytes.len()).map_err(S3Error::internal_error)
}

#[async_trait::async_trait]
impl S3 for InMemory {
    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { bucket, key, range, .. } = request.input;
        let whole = self.find(bucket, key)?;
        let mut output = GetObjectOutput {
            e_tag: Some(e_tag(whole)),
            last_modified: Some(self.since.clone()),
            ..GetObjectOutput::default()
        };
        let part = match range {
            None => whole.clone(),
            Some(range) => {
                let range = range.check(whole.len() as u64)?;
                let last = range.end.saturating_sub(1);
                output.content_range =
                    Some(format!("bytes {}-{last}/{}", range.start, whole.len()));
                let at = |offset: u64| usize::try_from(offset).map_err(S3Error::internal_error);
                whole.slice(at(range.start)?..at(range.end)?)
            }
        };
        output.content_length = Some(length(&part)?);
        let pieces = (0..part.len()).step_by(PIECE).map(move |begin| {
            Ok::<_, std::io::Error>(part.slice(begin..part.len().min(begin + PIECE)))
        });
        output.body = Some(StreamingBlob::wrap(stream::iter(pieces)));
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let whole = self.find(request.input.bucket, request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(length(whole)?),
            e_tag: Some(e_tag(whole)),
            last_modified: Some(self.since.clone()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input { bucket, prefix, .. } = request.input;
        if !self.buckets.contains(&bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        let prefix = prefix.unwrap_or_default();
        let below = |(of, key): &(String, String)| *of == bucket && key.starts_with(&prefix);
        let object = |((_, key), bytes): (&(String, String), &Bytes)| {
            Ok(Object {
                key: Some(key.clone()),
                size: Some(length(bytes)?),
                e_tag: Some(e_tag(bytes)),
                last_modified: Some(self.since.clone()),
                ..Object::default()
            })
        };
        let found = self.objects.iter().filter(|(name, _)| below(name));
        let contents: Vec<Object> = found.map(object).collect::<S3Result<_>>()?;
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            is_truncated: Some(false),
            name: Some(bucket),
            prefix: Some(prefix),
            ..ListObjectsV2Output::default()
        }))
    }
}
