//! From a store into the cache.

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

use super::entry::Published;
use super::golden;
use super::journal::Journal;
use super::partial::Partial;
use super::room;
use super::shelf::{Come, Found, Shelf};
use super::steady::Steady;
use crate::Progress;
use crate::digest::{Digest, FileRecord, GOLDEN_FILE, Sha256Sum};
use crate::error::ArtifactError;
use crate::fetch::{Fetched, Sums};
use crate::folder::Folder;
use crate::source::{Activity, Object, Origin, Remote, window};

/// Most files are small: with that many at a time, their latencies overlap. What large ones may hold
/// in memory is bounded by the budget.
const FILES_AT_A_TIME: usize = 8;
const REQUESTS_PER_FILE: usize = 4;
const REQUEST_BYTES: u64 = 8 << 20;

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

fn total(objects: &[Object]) -> u64 {
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
enum Sink<'a> {
    Folder(&'a Path, &'a Arc<Journal>),
    Nothing,
}

async fn receive(
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
fn open_to_append(
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

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
