//! Whether files are an artifact that is fit to be loaded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sha2::Digest as _;

use crate::Progress;
use crate::cache::{self, Published};
use crate::digest::{Digest, FileRecord, GOLDEN_FILE, Sha256Sum, is_counted};
use crate::error::ArtifactError;
use crate::fetch::{Fetched, Sums};
use crate::folder::{Entry, Folder};
use crate::stamp::Stamp;
use crate::structure::{self, OnDisk};
use crate::sums::{self, Listed};
use crate::weights::WeightIndex;

/// How many files are summed at a time.
const FILES_AT_A_TIME: usize = 4;
/// After how many bytes progress is reported.
const STEP: u64 = 16 << 20;
const BUFFER: usize = 256 << 10;

/// The files of one model version: complete, in a safe format, and known by their digest.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The folder they are in.
    pub root: PathBuf,
    /// The files that make up the digest, sorted by path.
    pub files: Vec<FileRecord>,
    /// The identity of their contents.
    pub digest: Digest,
    /// Their size altogether, in bytes.
    pub bytes: u64,
    /// The tensors.
    pub weights: WeightIndex,
    /// The file with validation cases, which is no part of the digest; none if there is none.
    pub golden: Option<PathBuf>,
    folder: Folder,
    /// The files before the first of their bytes was read.
    listed: Vec<Entry>,
    /// The cached copy, in use as long as this lives.
    _copy: Option<Arc<Published>>,
}

impl Artifact {
    /// Whether the files on disk are still those that were verified. To be asked after the last
    /// of them was read again for loading: what was read in between is then what was verified.
    /// Files that are no part of the digest may change. Reads the folder, not the files; blocks.
    ///
    /// The error is [`ArtifactError::ChangedSinceVerified`] with the first file that was added,
    /// changed or removed, unless the folder itself cannot be read.
    pub fn unchanged(&self) -> Result<(), ArtifactError> {
        let now = self.folder.list()?;
        let [was, is] = [&self.listed, &now].map(|files| stamps(files));
        for path in was.keys().chain(is.keys()) {
            let change = match (was.get(path), is.get(path)) {
                (None, _) => "added",
                (_, None) => "removed",
                (was, is) if was != is => "changed",
                _ => continue,
            };
            return Err(ArtifactError::ChangedSinceVerified {
                uri: self.folder.uri.clone(),
                file: (*path).to_owned(),
                change,
            });
        }
        Ok(())
    }
}

/// The files that make up the digest.
fn stamps(files: &[Entry]) -> BTreeMap<&str, Stamp> {
    let counted = files.iter().filter(|file| is_counted(&file.path));
    counted.map(|file| (file.path.as_str(), file.stamp)).collect()
}

/// Checks that all files are there and well-formed, and as the artifact's own `SHA256SUMS` says,
/// and sums every byte that has not been summed while it was downloaded.
///
/// What is wrong with a file's structure is reported before a wrong digest: it says more.
pub async fn verify(
    fetched: Fetched,
    expected: Option<&Digest>,
    progress: &dyn Progress,
) -> Result<Artifact, ArtifactError> {
    let Fetched { folder, sums, golden } = fetched;
    let folder = Arc::new(folder);
    let files = blocking(&folder, Folder::list).await?;
    if let Sums::Recorded(recorded) = sums {
        let records = sum_files(&folder, files.clone(), progress).await?;
        if let Some(rotten) = first_difference(&recorded.files, &records) {
            // Of no use to anyone; removed, it will be downloaded again.
            blocking(&folder, move |_| cache::discard(&recorded)).await?;
            return Err(rotten);
        }
        let (weights, sums) = check_structure(&folder, files.clone()).await?;
        let copy = Some(recorded);
        let checked = Checked { listed: files, weights, sums, records, copy, golden };
        return finish(&folder, checked, expected);
    }
    let (weights, stated) = check_structure(&folder, files.clone()).await?;
    let (records, copy) = match sums {
        Sums::Fresh(published) => (published.files.clone(), Some(published)),
        Sums::Unknown | Sums::Recorded(_) => {
            (sum_files(&folder, files.clone(), progress).await?, None)
        }
    };
    let checked = Checked { listed: files, weights, sums: stated, records, copy, golden };
    finish(&folder, checked, expected)
}

/// What is known of an artifact but its digest.
struct Checked {
    listed: Vec<Entry>,
    weights: WeightIndex,
    /// Its own list of sums.
    sums: Option<Listed>,
    records: Vec<FileRecord>,
    copy: Option<Arc<Published>>,
    /// A golden file that is newer than the one among the files.
    golden: Option<PathBuf>,
}

fn finish(
    folder: &Folder,
    checked: Checked,
    expected: Option<&Digest>,
) -> Result<Artifact, ArtifactError> {
    let Checked { listed, weights, sums, records: mut files, copy, golden } = checked;
    // It says which file, where a digest only says that one is another.
    sums.map_or(Ok(()), |sums| sums.check(&files))?;
    let found = Digest::of(&files);
    if let Some(&expected) = expected
        && expected != found
    {
        return Err(ArtifactError::DigestMismatch { expected, found });
    }
    let own = files.iter().any(|file| file.path == GOLDEN_FILE);
    files.retain(|file| is_counted(&file.path));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Artifact {
        root: folder.root.clone(),
        bytes: files.iter().map(|file| file.size).sum(),
        digest: found,
        weights,
        golden: golden.or_else(|| own.then(|| folder.root.join(GOLDEN_FILE))),
        files,
        folder: folder.clone(),
        listed,
        _copy: copy,
    })
}

fn first_difference(recorded: &[FileRecord], found: &[FileRecord]) -> Option<ArtifactError> {
    let describe = |file: Option<&FileRecord>| match file {
        Some(file) => format!("{} bytes with the sum {}", file.size, file.sha256),
        None => "missing".to_owned(),
    };
    let by_path = |files: &[FileRecord], path: &str| -> Option<FileRecord> {
        files.iter().find(|file| file.path == path).cloned()
    };
    let paths = recorded.iter().chain(found).map(|file| file.path.as_str());
    paths.into_iter().find_map(|path| {
        let [was, is] = [recorded, found].map(|files| by_path(files, path));
        (was != is).then(|| ArtifactError::CacheRotten {
            file: path.to_owned(),
            expected: describe(was.as_ref()),
            found: describe(is.as_ref()),
        })
    })
}

async fn check_structure(
    folder: &Arc<Folder>,
    files: Vec<Entry>,
) -> Result<(WeightIndex, Option<Listed>), ArtifactError> {
    blocking(folder, move |folder| {
        let files = OnDisk { root: &folder.root, files: &files };
        Ok((structure::check(&files)?, sums::read(&files)?))
    })
    .await
}

pub(crate) async fn sum_files(
    folder: &Arc<Folder>,
    files: Vec<Entry>,
    progress: &dyn Progress,
) -> Result<Vec<FileRecord>, ArtifactError> {
    progress.total(files.iter().map(|file| file.size).sum());
    let sums = files.into_iter().map(|entry| sum_file(folder, entry, progress));
    stream::iter(sums).buffer_unordered(FILES_AT_A_TIME).try_collect().await
}

async fn sum_file(
    folder: &Folder,
    entry: Entry,
    progress: &dyn Progress,
) -> Result<FileRecord, ArtifactError> {
    let path = folder.root.join(&entry.path);
    let unreadable = |error| ArtifactError::reading(&path, error);
    let opened = path.clone();
    let mut sum =
        tokio::task::spawn_blocking(move || Sum::open(&opened)).await?.map_err(unreadable)?;
    loop {
        let (advanced, read) =
            tokio::task::spawn_blocking(move || sum.step()).await?.map_err(unreadable)?;
        sum = advanced;
        if read == 0 {
            break;
        }
        progress.add(read);
    }
    if sum.size != entry.size {
        return Err(ArtifactError::ChangedMeanwhile { uri: folder.uri.clone(), file: entry.path });
    }
    Ok(FileRecord { path: entry.path, size: sum.size, sha256: Sha256Sum::of(sum.hasher) })
}

/// The sum of a file, as far as it has been read.
struct Sum {
    file: File,
    hasher: sha2::Sha256,
    size: u64,
}

impl Sum {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, hasher: sha2::Sha256::new(), size: 0 })
    }

    /// Reads up to [`STEP`] bytes; none at the end.
    fn step(mut self) -> io::Result<(Self, u64)> {
        let mut buffer = vec![0; BUFFER];
        let mut read = 0;
        while read < STEP {
            let length = match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.hasher.update(&buffer[..length]);
            read += length as u64;
        }
        self.size += read;
        Ok((self, read))
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    folder: &Arc<Folder>,
    work: impl FnOnce(&Folder) -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    let folder = Arc::clone(folder);
    tokio::task::spawn_blocking(move || work(&folder)).await?
}
