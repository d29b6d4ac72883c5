//! Files in a store, read in part: for headers and small files.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{Activity, Object, Remote};
use crate::Progress;
use crate::error::ArtifactError;
use crate::structure::Files;

/// Most headers and configurations fit into one request of this many bytes.
const FIRST: u64 = 64 << 10;
/// What is longer is asked for in parts that double up to this many bytes.
const LARGEST: u64 = 8 << 20;

/// Objects of a store as files. To be read on a thread that may block.
pub(crate) struct InStore {
    pub(crate) remote: Arc<Remote>,
    pub(crate) objects: Arc<Vec<Object>>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) runtime: Handle,
}

impl Files for InStore {
    fn listed(&self) -> Vec<(&str, u64)> {
        self.objects.iter().map(|object| (object.path.as_str(), object.size)).collect()
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>, ArtifactError> {
        let object = self.objects.iter().find(|object| object.path == path);
        let object = object.ok_or_else(|| ArtifactError::ChangedMeanwhile {
            uri: self.remote.origin.uri.clone(),
            file: path.to_owned(),
        })?;
        let part = Parts { store: self, object, position: 0, step: FIRST, buffer: Bytes::new() };
        Ok(Box::new(part))
    }

    fn unreadable(&self, path: &str, error: io::Error) -> ArtifactError {
        error.downcast().unwrap_or_else(|error| ArtifactError::Download {
            uri: self.remote.origin.uri.clone(),
            found: format!("{path}: {error}"),
        })
    }
}

/// One object, from its first byte on.
struct Parts<'a> {
    store: &'a InStore,
    object: &'a Object,
    position: u64,
    step: u64,
    buffer: Bytes,
}

impl Read for Parts<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer = self.next_part().map_err(io::Error::other)?;
        }
        let length = into.len().min(self.buffer.len());
        let part = self.buffer.split_to(length);
        into[..length].copy_from_slice(&part);
        Ok(length)
    }
}

impl Parts<'_> {
    /// Empty at the end.
    fn next_part(&mut self) -> Result<Bytes, ArtifactError> {
        let end = self.object.size.min(self.position.saturating_add(self.step));
        if end == self.position {
            return Ok(Bytes::new());
        }
        let InStore { remote, activity, runtime, .. } = self.store;
        let range = self.position..end;
        let pieces = runtime.block_on(remote.read(self.object, range, &Unheard, activity))?;
        self.position = end;
        self.step = (2 * self.step).min(LARGEST);
        Ok(Bytes::from(pieces.concat()))
    }
}

/// What is read here is little, and some of it is read again with the whole file.
struct Unheard;

impl Progress for Unheard {
    fn total(&self, _bytes: u64) {}
    fn add(&self, _bytes: u64) {}
}
