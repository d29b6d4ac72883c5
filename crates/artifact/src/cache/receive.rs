//! Bytes from a store: summed, and written if they are to be kept.

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sha2::Digest as _;
use tokio::time::Instant;

use super::download::total;
use super::journal::Journal;
use crate::Progress;
use crate::digest::{FileRecord, Sha256Sum};
use crate::error::ArtifactError;
use crate::source::{Activity, Object, Remote, window};

/// Most files are small: with that many at a time, their latencies overlap. What large ones may hold
/// in memory is bounded by the budget.
pub(super) const FILES_AT_A_TIME: usize = 8;
const REQUESTS_PER_FILE: usize = 4;
pub(super) const REQUEST_BYTES: u64 = 8 << 20;

/// The sums of objects that are read and not kept.
pub(crate) async fn sum(
    remote: &Remote,
    objects: &[Object],
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Vec<FileRecord>, ArtifactError> {
    receive(remote, objects, Sink::Nothing, progress, activity).await
}

/// Where bytes go when they have been summed.
#[derive(Clone, Copy)]
pub(super) enum Sink<'a> {
    Folder(&'a Path, &'a Arc<Journal>),
    Nothing,
}

pub(super) async fn receive(
    remote: &Remote,
    objects: &[Object],
    into: Sink<'_>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Vec<FileRecord>, ArtifactError> {
    progress.total(total(objects));
    // The largest first: what is begun last must not be what takes longest.
    let mut objects: Vec<&Object> = objects.iter().collect();
    objects.sort_by_key(|object| Reverse(object.size));
    let files: Vec<_> = objects
        .into_iter()
        .map(|object| receive_file(remote, object, into, progress, activity))
        .collect();
    stream::iter(files).buffer_unordered(FILES_AT_A_TIME).try_collect().await
}

async fn receive_file(
    remote: &Remote,
    object: &Object,
    into: Sink<'_>,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<FileRecord, ArtifactError> {
    let size = object.size;
    let mut received = activity.local(Received::begin(object, into)).await?;
    progress.add(received.length);
    let (first, begun) = (received.length, Instant::now());
    received = if object.is_whole {
        receive_body(remote, object, received, progress, activity).await?
    } else {
        receive_ranges(remote, object, received, progress, activity).await?
    };
    let sha256 = activity.local(move || received.finish()).await?;
    tell(&object.path, size, size - first, begun.elapsed());
    match object.sha256 {
        Some(stated) if stated.sum != sha256 => Err(ArtifactError::SumMismatch {
            file: object.path.clone(),
            by: stated.by,
            expected: stated.sum,
            found: sha256,
        }),
        _ => Ok(FileRecord { path: object.path.clone(), size, sha256 }),
    }
}

/// One line for each file: of which one the line or the disk was slow. The rate is that of the bytes
/// that arrived, without those that were there.
fn tell(file: &str, bytes: u64, received: u64, time: Duration) {
    let seconds = time.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib_per_second = received as f64 / f64::from(1 << 20) / seconds.max(1e-6);
    tracing::info!(file, bytes, received, seconds, mib_per_second, "file received");
}

/// In several requests at a time.
async fn receive_ranges(
    remote: &Remote,
    object: &Object,
    mut received: Received,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Received, ArtifactError> {
    let (size, first) = (object.size, received.length);
    let ranges = (0..(size - first).div_ceil(REQUEST_BYTES)).map(|index| {
        let begin = first + index * REQUEST_BYTES;
        begin..size.min(begin + REQUEST_BYTES)
    });
    let request = async |range: Range<u64>| -> Result<_, ArtifactError> {
        let length = range.end - range.start;
        let share = activity.queued(remote.in_flight.take(length, 0)).await;
        let read = remote.read(object, range, progress, activity);
        Ok((activity.asked(read).await?, share))
    };
    let mut pieces = stream::iter(ranges.map(request)).buffered(REQUESTS_PER_FILE);
    while let Some((piece, share)) = pieces.try_next().await? {
        received = activity.local(move || received.append(&piece)).await?;
        drop(share);
    }
    Ok(received)
}

/// In one request, of which no more is in memory than of any other: each further one might be
/// answered with the whole file.
async fn receive_body(
    remote: &Remote,
    object: &Object,
    mut received: Received,
    progress: &dyn Progress,
    activity: &Activity,
) -> Result<Received, ArtifactError> {
    let (size, first) = (object.size, received.length);
    if first == size {
        return Ok(received);
    }
    let mut body = activity.asked(remote.source.read(object, first..size)).await?;
    while received.length < size {
        let wanted = REQUEST_BYTES.min(size - received.length);
        let share = activity.queued(remote.in_flight.take(wanted, 0)).await;
        let reading = window(&mut body, wanted, progress, activity);
        let (pieces, bytes) = activity.asked(reading).await?;
        let length = received.length + bytes;
        if bytes == 0 || length > size {
            return Err(remote.other_length(object, length - first, size - first));
        }
        received = activity.local(move || received.append(&pieces)).await?;
        drop(share);
    }
    Ok(received)
}

/// A file that is being summed, and written if it is to be kept.
struct Received {
    kept: Option<Kept>,
    hasher: sha2::Sha256,
    /// How many bytes were summed.
    length: u64,
}

struct Kept {
    name: String,
    path: PathBuf,
    file: File,
    journal: Arc<Journal>,
}

impl Received {
    /// Prepares to receive an object: after what an earlier attempt left, as far as that is proven
    /// to be right.
    fn begin(
        object: &Object,
        into: Sink<'_>,
    ) -> impl FnOnce() -> Result<Self, ArtifactError> + Send + 'static {
        let into = match into {
            Sink::Nothing => None,
            Sink::Folder(folder, journal) => Some((folder.join(&object.path), Arc::clone(journal))),
        };
        let (name, size) = (object.path.clone(), object.size);
        move || {
            let Some((path, journal)) = into else {
                return Ok(Self { kept: None, hasher: sha2::Sha256::new(), length: 0 });
            };
            let opened = open_to_append(&path, &journal, &name, size);
            let (file, length, hasher) =
                opened.map_err(|error| ArtifactError::writing(&path, error))?;
            Ok(Self { kept: Some(Kept { name, path, file, journal }), hasher, length })
        }
    }

    fn append(mut self, pieces: &[Bytes]) -> Result<Self, ArtifactError> {
        for piece in pieces {
            self.hasher.update(piece);
            self.length += piece.len() as u64;
            if let Some(Kept { path, file, .. }) = &mut self.kept {
                file.write_all(piece).map_err(|error| ArtifactError::writing(path, error))?;
            }
        }
        if let Some(Kept { name, path, journal, .. }) = &self.kept {
            journal
                .note(name, self.length, Sha256Sum::of(self.hasher.clone()))
                .map_err(|error| ArtifactError::writing(path, error))?;
        }
        Ok(self)
    }

    fn finish(self) -> Result<Sha256Sum, ArtifactError> {
        if let Some(Kept { path, file, .. }) = self.kept {
            file.sync_all().map_err(|error| ArtifactError::writing(&path, error))?;
        }
        Ok(Sha256Sum::of(self.hasher))
    }
}

/// The file at the end of what is proven of it, how much that is, and the sum up to there.
pub(super) fn open_to_append(
    path: &Path,
    journal: &Journal,
    name: &str,
    size: u64,
) -> io::Result<(File, u64, sha2::Sha256)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    // Summing what is there takes long, and nothing grows meanwhile: who waits is told by the time.
    let (mut length, mut hasher) = journal.prove(name, &file, &|_| journal.touch())?;
    if length > size {
        (length, hasher) = (0, sha2::Sha256::new());
        file.set_len(0)?;
    }
    file.seek(SeekFrom::Start(length))?;
    Ok((file, length, hasher))
}
