//! What an artifact is, found out before anything is loaded.
//!
//! The listing, the small files and the headers of the weights are always read. What else has to
//! be read depends on who knows the sums of the files, which the digest is made of:
//!
//! * where the store says the sums, or the artifact has a `SHA256SUMS`, only the other files are
//!   read;
//! * otherwise every byte is read once: in a folder where it is, from a store into the cache, or,
//!   without one, to be summed and dropped.
//!
//! S3's own SHA-256 sums would do as well, but the client library does not hand them on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::IgnoredAny;
use sha2::Digest as _;
use tokio::runtime::Handle;

use crate::Progress;
use crate::cache::{self, Shelf};
use crate::digest::{Digest, FileRecord, GOLDEN_FILE, Sha256Sum, is_counted};
use crate::error::ArtifactError;
use crate::fetch::{Place, Places, note_user, place};
use crate::folder::{Entry, Folder};
use crate::location::Location;
use crate::source::{Activity, Author, InStore, Object, Remote, Stated};
use crate::structure::{self, CONFIG_FILE, Files, OnDisk, TOKENIZER_FILE};
use crate::sums::{self, SUMS_FILE};
use crate::verify::{blocking, sum_files, verify};
use crate::weights::WeightIndex;

/// Longer files are tables, not settings.
const MAX_SETTINGS: u64 = 1 << 20;
/// More than any model has; those nearest the root are taken.
const MAX_SETTINGS_FILES: usize = 100;
/// Tokenizers with a million tokens have a tenth of that.
const MAX_TOKENIZER: u64 = 256 << 20;

/// What an artifact is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolved {
    /// The files that make up the digest, sorted by path.
    pub files: Vec<FileRecord>,
    /// The identity of their contents.
    pub digest: Digest,
    /// The identity of what holds them.
    pub pin: Pin,
    /// Their size altogether, in bytes.
    pub bytes: u64,
    /// The tensors.
    pub weights: WeightIndex,
    /// The sum of `tokenizer.json`.
    pub tokenizer: Sha256Sum,
    /// The contents of `tokenizer.json`.
    pub tokenizer_json: Vec<u8>,
    /// The contents of `config.json` and of the other small JSON files by path.
    pub settings: BTreeMap<String, Vec<u8>>,
    /// The commit that the address stood for, where the store has such.
    pub commit: Option<String>,
}

/// What becomes of a store's bytes that are read because nobody knows their sums.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsummed {
    /// They go into the cache, where whoever loads the model finds them.
    Keep,
    /// They are summed and dropped.
    Drop,
}

/// The identity of what holds an artifact's files, printed as `sha256:` and 64 hexadecimal
/// digits.
///
/// It is made like [`Digest`], from lines `<identity> <size in bytes> <path>\n`, where the
/// identity is the strongest that is known without trusting anyone but the store: the sum of a
/// folder's file, else an object's version, else its entity tag, else its time. So it may change
/// while the digest stays, and stays only if nobody wrote to the files.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Pin(Sha256Sum);

impl Pin {
    fn of<'a>(files: impl Iterator<Item = (&'a str, u64, String)>) -> Self {
        let mut counted: Vec<_> = files.filter(|(path, _, _)| is_counted(path)).collect();
        counted.sort();
        let mut hasher = sha2::Sha256::new();
        for (path, size, identity) in counted {
            hasher.update(format!("{identity} {size} {path}\n"));
        }
        Self(Sha256Sum::of(hasher))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Finds out what the artifact of `model` in `version` is.
///
/// What is missing, forbidden or structurally broken is the error that [`crate::fetch()`] and
/// [`crate::verify()`] have for it, before a weight is read. `progress` hears of the bytes that are
/// summed.
pub async fn resolve(
    location: &Location,
    model: &str,
    version: &str,
    expected: Option<&Digest>,
    places: &Places,
    unsummed: Unsummed,
    progress: &dyn Progress,
) -> Result<Resolved, ArtifactError> {
    let resolved = match place(location, places).await? {
        Place::Folder(folder) => in_folder(folder, progress).await?,
        Place::Store(remote) => {
            let kept = match unsummed {
                Unsummed::Keep => Some(Kept {
                    shelf: Shelf::new(&places.cache, model, version)?,
                    user: places.user.as_deref(),
                }),
                Unsummed::Drop => None,
            };
            in_store(remote, kept.as_ref(), progress).await?
        }
    };
    match expected {
        Some(&expected) if expected != resolved.digest => {
            Err(ArtifactError::DigestMismatch { expected, found: resolved.digest })
        }
        _ => Ok(resolved),
    }
}

async fn in_folder(folder: Folder, progress: &dyn Progress) -> Result<Resolved, ArtifactError> {
    let folder = Arc::new(folder);
    let (look, entries) = blocking(&folder, |folder| {
        let entries = folder.list()?;
        let files = OnDisk { root: &folder.root, files: &entries };
        let look = Look::at(&files, &BTreeMap::new())?;
        Ok((look, entries))
    })
    .await?;
    let (known, unknown) = look.split(entries, |entry: &Entry| (&entry.path, entry.size));
    let summed = sum_files(&folder, unknown, progress).await?;
    let files = [known, summed].concat();
    let identity = |file: &FileRecord| format!("sha256:{}", file.sha256);
    let pin = Pin::of(files.iter().map(|file| (file.path.as_str(), file.size, identity(file))));
    Ok(look.conclude(files, pin))
}

/// Where bytes go that have to be read, and who relies on them there.
pub(crate) struct Kept<'a> {
    pub(crate) shelf: Shelf,
    pub(crate) user: Option<&'a str>,
}

pub(crate) async fn in_store(
    remote: Remote,
    kept: Option<&Kept<'_>>,
    progress: &dyn Progress,
) -> Result<Resolved, ArtifactError> {
    let remote = Arc::new(remote);
    let activity = Arc::new(Activity::new());
    let looking = async {
        let listing = remote.list(&activity).await?;
        let objects = Arc::new(listing.objects);
        let files = InStore {
            remote: Arc::clone(&remote),
            objects: Arc::clone(&objects),
            activity: Arc::clone(&activity),
            runtime: Handle::current(),
        };
        let stated = stated(&objects);
        let look = tokio::task::spawn_blocking(move || Look::at(&files, &stated)).await??;
        Ok((objects, listing.commit, look))
    };
    let (objects, commit, look) = remote.patient(&activity, looking).await?;
    let pin = Pin::of(
        objects.iter().map(|object| (object.path.as_str(), object.size, object.identity())),
    );
    let files = match kept {
        Some(kept) if !look.knows_weights() => {
            let files = keep(&remote, &objects, kept, progress).await?;
            look.check_listed(&files)?;
            files
        }
        _ => {
            let (known, unknown) =
                look.split(objects.to_vec(), |object: &Object| (&object.path, object.size));
            let activity = Activity::new();
            let summing = cache::sum(&remote, &unknown, progress, &activity);
            [known, remote.patient(&activity, summing).await?].concat()
        }
    };
    Ok(Resolved { commit, ..look.conclude(files, pin) })
}

/// The sums that are known without reading, by path.
fn stated(objects: &[Object]) -> BTreeMap<String, Stated> {
    let of = |object: &Object| Some((object.path.clone(), object.sha256?));
    objects.iter().filter_map(of).collect()
}

/// Brings all objects into the cache. A copy there that is rotten is removed and brought again.
async fn keep(
    remote: &Remote,
    objects: &[Object],
    kept: &Kept<'_>,
    progress: &dyn Progress,
) -> Result<Vec<FileRecord>, ArtifactError> {
    let attempt = async || {
        let fetched = cache::bring(remote, &kept.shelf, objects, progress).await?;
        note_user(&kept.shelf, &fetched, kept.user);
        verify(fetched, None, progress).await
    };
    let artifact = match attempt().await {
        Err(rotten @ ArtifactError::CacheRotten { .. }) => {
            tracing::warn!(error = %rotten, "fetching again");
            attempt().await?
        }
        first => first?,
    };
    Ok(artifact.files)
}

/// What is known when the small files and the headers have been read.
struct Look {
    weights: WeightIndex,
    settings: BTreeMap<String, Vec<u8>>,
    tokenizer: Sha256Sum,
    tokenizer_json: Vec<u8>,
    /// Sums by path: of the bytes where they were read, else those of `SHA256SUMS`.
    sums: BTreeMap<String, Sha256Sum>,
}

impl Look {
    /// `stated` are sums that whoever hands out the files knows.
    fn at(files: &dyn Files, stated: &BTreeMap<String, Stated>) -> Result<Self, ArtifactError> {
        let weights = structure::check(files)?;
        let settings = read_settings(files)?;
        let tokenizer_json = read_tokenizer(files)?;
        let tokenizer = Sha256Sum::of_bytes(&tokenizer_json);
        let mut sums: BTreeMap<String, Sha256Sum> = settings
            .iter()
            .map(|(path, content)| (path.clone(), Sha256Sum::of_bytes(content)))
            .collect();
        sums.insert(TOKENIZER_FILE.to_owned(), tokenizer);
        let listed = sums::read(files)?.map(|listed| {
            sums.insert(SUMS_FILE.to_owned(), listed.itself);
            listed.sums
        });
        let listed = listed.into_iter().flatten();
        let listed = listed.map(|(file, sum)| (file, Stated { sum, by: Author::SumsFile }));
        let stated = stated.iter().map(|(file, stated)| (file.clone(), *stated));
        for (file, stated) in stated.chain(listed) {
            let sum = *sums.entry(file.clone()).or_insert(stated.sum);
            sums::check(&file, stated, sum)?;
        }
        Ok(Self { weights, settings, tokenizer, tokenizer_json, sums })
    }

    fn knows_weights(&self) -> bool {
        self.weights.files().into_iter().all(|file| self.sums.contains_key(file))
    }

    /// The records of the counted files with known sums, and the other counted files.
    fn split<T>(
        &self,
        files: Vec<T>,
        path_and_size: impl Fn(&T) -> (&String, u64),
    ) -> (Vec<FileRecord>, Vec<T>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for file in files {
            let (path, size) = path_and_size(&file);
            match self.sums.get(path) {
                _ if !is_counted(path) => {}
                Some(&sha256) => known.push(FileRecord { path: path.clone(), size, sha256 }),
                None => unknown.push(file),
            }
        }
        (known, unknown)
    }

    /// Whether all bytes have the sums that were read or listed before.
    fn check_listed(&self, files: &[FileRecord]) -> Result<(), ArtifactError> {
        files.iter().try_for_each(|file| match self.sums.get(&file.path) {
            Some(&sum) => {
                sums::check(&file.path, Stated { sum, by: Author::SumsFile }, file.sha256)
            }
            None => Ok(()),
        })
    }

    fn conclude(self, mut files: Vec<FileRecord>, pin: Pin) -> Resolved {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Resolved {
            digest: Digest::of(&files),
            pin,
            bytes: files.iter().map(|file| file.size).sum(),
            files,
            weights: self.weights,
            tokenizer: self.tokenizer,
            tokenizer_json: self.tokenizer_json,
            settings: self.settings,
            commit: None,
        }
    }
}

/// Those of the artifact's root and of the folders in it.
fn read_settings(files: &dyn Files) -> Result<BTreeMap<String, Vec<u8>>, ArtifactError> {
    let depth = |path: &str| path.matches('/').count();
    let is_settings = |path: &str, size: u64| {
        let small = path == CONFIG_FILE || size <= MAX_SETTINGS;
        let other = [TOKENIZER_FILE, GOLDEN_FILE].contains(&path);
        let json = Path::new(path).extension().is_some_and(|extension| extension == "json");
        json && depth(path) <= 1 && small && !other
    };
    let mut paths: Vec<&str> = files
        .listed()
        .into_iter()
        .filter(|(path, size)| is_settings(path, *size))
        .map(|(path, _)| path)
        .collect();
    paths.sort_by_key(|path| (*path != CONFIG_FILE, depth(path)));
    paths.truncate(MAX_SETTINGS_FILES);
    paths.into_iter().map(|path| Ok((path.to_owned(), files.whole(path)?))).collect()
}

fn read_tokenizer(files: &dyn Files) -> Result<Vec<u8>, ArtifactError> {
    let invalid = |problem: String| ArtifactError::TokenizerInvalid {
        file: TOKENIZER_FILE.to_owned(),
        problem,
    };
    match files.size(TOKENIZER_FILE) {
        Some(size) if size > MAX_TOKENIZER => Err(invalid(format!("it has {size} bytes"))),
        _ => {
            let content = files.whole(TOKENIZER_FILE)?;
            // Only looked over: a large vocabulary in memory would take many times its size.
            serde_json::from_slice::<IgnoredAny>(&content)
                .map_err(|error| invalid(error.to_string()))?;
            if content.trim_ascii_start().first() != Some(&b'{') {
                return Err(invalid("it is no JSON object".to_owned()));
            }
            Ok(content)
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
