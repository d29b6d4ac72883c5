//! Why an artifact cannot be fetched or is not fit to be loaded.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Sha256Sum};
use crate::location::SCHEMES;
use crate::source::Author;

/// One variant per cause. Files are named relative to the artifact's root, unless the trouble
/// is with this machine's own disk.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The address cannot be understood.
    #[error("{uri:?} is not an address of model files: {problem}")]
    LocationInvalid {
        /// The address.
        uri: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The address has a scheme for which there is no source.
    #[error("{uri:?} has the scheme {scheme}, supported are {SCHEMES}")]
    SchemeUnsupported {
        /// The address.
        uri: String,
        /// Its scheme.
        scheme: String,
    },
    /// The expected digest is not one.
    #[error("{text:?} is not a digest; write sha256: and 64 lower-case hexadecimal digits")]
    DigestInvalid {
        /// What was found.
        text: String,
    },
    /// Nothing is at the address.
    #[error("there are no model files at {uri}")]
    NotFound {
        /// The address.
        uri: String,
    },
    /// The store has no such bucket.
    #[error(
        "there is no bucket {bucket} at {store} for {uri}: create it, or correct the address or \
         the setting {setting}"
    )]
    BucketMissing {
        /// The address.
        uri: String,
        /// The bucket's name.
        bucket: String,
        /// The store's endpoint.
        store: String,
        /// The setting that names it.
        setting: &'static str,
    },
    /// The address is one of an image that is not mounted here.
    #[error(
        "{uri} is not mounted: only the pods of a ModelDeployment have the volumes of its images"
    )]
    NotMounted {
        /// The address.
        uri: String,
    },
    /// A file that every artifact must have is missing.
    #[error("the artifact has no {file}; {remedy}")]
    FileMissing {
        /// The file.
        file: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A path would leave its folder, or is nothing that can be read as a file.
    #[error("{uri} holds {path:?}, which is refused: {problem}")]
    PathRefused {
        /// The address.
        uri: String,
        /// The path.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// The store refused the credentials, or wanted some.
    #[error("{uri} may not be read with these credentials: {found}")]
    AuthDenied {
        /// The address.
        uri: String,
        /// What the store said.
        found: String,
    },
    /// The credentials or the store's settings are incomplete or malformed.
    #[error("the setting {setting} cannot be used: {problem}")]
    SettingInvalid {
        /// The file below the credentials folder, or the environment variable.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store could not be reached or broke off, after all retries.
    #[error("{uri} could not be downloaded: {found}")]
    Download {
        /// The address.
        uri: String,
        /// What happened.
        found: String,
    },
    /// No byte arrived for too long.
    #[error("nothing arrived from {uri} for {seconds} s, after {bytes} bytes")]
    Stalled {
        /// The address.
        uri: String,
        /// How long, in seconds.
        seconds: u64,
        /// How many bytes had arrived before.
        bytes: u64,
    },
    /// A file was replaced while it was being read.
    #[error("{file} of {uri} was replaced while it was read; publish new files under a new path")]
    ChangedMeanwhile {
        /// The address.
        uri: String,
        /// The file.
        file: String,
    },
    /// The cache's volume has no room.
    #[error("there is no room for {}: {source}; give the model cache a larger volume", .path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache's volume has less room than the download needs.
    #[error(
        "there is no room in {}: {need} bytes are needed, {have} are free; give the model cache a \
         larger volume, or remove what is not needed with lamplighter-worker cache gc",
        .path.display()
    )]
    NoRoom {
        /// Where the files were to be written.
        path: PathBuf,
        /// What is missing of them, in bytes.
        need: u64,
        /// What is free, in bytes.
        have: u64,
    },
    /// Another process downloads the same, and gets no further.
    #[error(
        "another process downloads into {} and has not come beyond {bytes} bytes for {seconds} s",
        .path.display()
    )]
    CacheBusy {
        /// The folder of the model's version in the cache.
        path: PathBuf,
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// How far it had come, in bytes.
        bytes: u64,
    },
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache cannot be written.
    #[error("{} cannot be written: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache's volume is read-only, or belongs to somebody else.
    #[error(
        "{} may not be written: {source}; give the model cache a volume that is mounted for writing \
         and belongs to the user or the group of the worker",
        .path.display()
    )]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A cached copy is no longer what was downloaded. It has been removed: fetching again helps.
    #[error("the cached {file} is {found}, it was {expected}; the copy was removed")]
    CacheRotten {
        /// The file.
        file: String,
        /// What was downloaded.
        expected: String,
        /// What is there now.
        found: String,
    },
    /// The contents are not those that were pinned.
    #[error("the artifact has the digest {found}, expected is {expected}")]
    DigestMismatch {
        /// The pinned digest.
        expected: Digest,
        /// The digest of the files.
        found: Digest,
    },
    /// A file has another sum than was stated beforehand.
    #[error(
        "{file} has the SHA-256 sum {found}, {by} says {expected}; upload the file again{}",
        match .by { Author::SumsFile => ", or write SHA256SUMS anew", Author::Store => "" }
    )]
    SumMismatch {
        /// The file.
        file: String,
        /// Who stated it.
        by: Author,
        /// The sum that was stated.
        expected: Sha256Sum,
        /// The sum of the bytes.
        found: Sha256Sum,
    },
    /// A file is no longer the one that was verified.
    #[error(
        "{file} of {uri} was {change} while it was being loaded; publish new files under a new path"
    )]
    ChangedSinceVerified {
        /// The address.
        uri: String,
        /// The file.
        file: String,
        /// What happened to it: added, changed or removed.
        change: &'static str,
    },
    /// A weight file ends before its own header says.
    #[error("{file} is truncated: {found} bytes instead of {expected}")]
    Truncated {
        /// The file.
        file: String,
        /// Its size by its header, in bytes.
        expected: u64,
        /// Its size, in bytes.
        found: u64,
    },
    /// A weight file's header is not a valid safetensors header.
    #[error("the header of {file} is not valid{}: expected {expected}, found {found}",
        .tensor.as_ref().map(|tensor| format!(" at {tensor}")).unwrap_or_default())]
    HeaderInvalid {
        /// The file.
        file: String,
        /// The tensor, unless the header as a whole is wrong.
        tensor: Option<String>,
        /// What a valid header has.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// The list of sums, without which nobody knows what files there are, cannot be understood.
    #[error("{file} is not a list of SHA-256 sums: {problem}")]
    SumsInvalid {
        /// The list.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The weight index cannot be understood.
    #[error("{file} is not a weight index: {problem}")]
    IndexInvalid {
        /// The index.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The weight index names a file that is not there.
    #[error("{file} places {tensor} in {shard}, which is missing")]
    IndexMissingShard {
        /// The index.
        file: String,
        /// A tensor of the shard.
        tensor: String,
        /// The missing file.
        shard: String,
    },
    /// The weight index places a tensor in a file that does not hold it.
    #[error("{file} places {tensor} in {shard}, which does not hold it")]
    IndexMissingTensor {
        /// The index.
        file: String,
        /// The tensor.
        tensor: String,
        /// The file that should hold it.
        shard: String,
    },
    /// The only weights are in a format that can run code when it is read.
    #[error(
        "{file} is a pickle, which can run code when it is read; convert the weights to safetensors"
    )]
    UnsafeFormat {
        /// The file.
        file: String,
    },
    /// A configuration file is not what it must be.
    #[error("{file} cannot be used: {problem}")]
    ConfigInvalid {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer cannot be understood.
    #[error("{file} is not a tokenizer: {problem}")]
    TokenizerInvalid {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A bug: a task of this crate panicked.
    #[error("a task broke off: {source}")]
    Internal {
        /// The runtime's words.
        #[from]
        source: tokio::task::JoinError,
    },
}

impl ArtifactError {
    /// The file or folder that the error is about.
    pub fn file(&self) -> Option<String> {
        match self {
            Self::FileMissing { file, .. }
            | Self::ChangedMeanwhile { file, .. }
            | Self::ChangedSinceVerified { file, .. }
            | Self::CacheRotten { file, .. }
            | Self::Truncated { file, .. }
            | Self::HeaderInvalid { file, .. }
            | Self::IndexInvalid { file, .. }
            | Self::SumMismatch { file, .. }
            | Self::SumsInvalid { file, .. }
            | Self::TokenizerInvalid { file, .. }
            | Self::IndexMissingShard { file, .. }
            | Self::IndexMissingTensor { file, .. }
            | Self::UnsafeFormat { file }
            | Self::ConfigInvalid { file, .. } => Some(file.clone()),
            Self::PathRefused { path, .. } => Some(path.clone()),
            Self::DiskFull { path, .. }
            | Self::NoRoom { path, .. }
            | Self::CacheBusy { path, .. }
            | Self::Read { path, .. }
            | Self::Unwritable { path, .. }
            | Self::Write { path, .. } => Some(path.display().to_string()),
            Self::LocationInvalid { .. }
            | Self::SchemeUnsupported { .. }
            | Self::DigestInvalid { .. }
            | Self::NotFound { .. }
            | Self::BucketMissing { .. }
            | Self::NotMounted { .. }
            | Self::AuthDenied { .. }
            | Self::SettingInvalid { .. }
            | Self::Download { .. }
            | Self::Stalled { .. }
            | Self::DigestMismatch { .. }
            | Self::Internal { .. } => None,
        }
    }

    /// The tensor that the error is about.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::HeaderInvalid { tensor, .. } => tensor.as_deref(),
            Self::IndexMissingShard { tensor, .. } | Self::IndexMissingTensor { tensor, .. } => {
                Some(tensor)
            }
            _ => None,
        }
    }

    /// What was expected.
    pub fn expected(&self) -> Option<String> {
        match self {
            Self::CacheRotten { expected, .. } | Self::HeaderInvalid { expected, .. } => {
                Some(expected.clone())
            }
            Self::DigestMismatch { expected, .. } => Some(expected.to_string()),
            Self::SumMismatch { expected, .. } => Some(expected.to_string()),
            Self::Truncated { expected, .. } => Some(format!("{expected} bytes")),
            Self::NoRoom { need, .. } => Some(format!("{need} bytes")),
            Self::IndexMissingShard { shard, .. } => Some(shard.clone()),
            Self::IndexMissingTensor { tensor, shard, .. } => Some(format!("{tensor} in {shard}")),
            Self::FileMissing { file, .. } => Some(file.clone()),
            Self::ConfigInvalid { .. } => Some("a configuration that can be used".to_owned()),
            Self::TokenizerInvalid { .. } => Some("a tokenizer".to_owned()),
            Self::IndexInvalid { .. } => Some("a weight index".to_owned()),
            Self::SumsInvalid { .. } => Some("a list of SHA-256 sums".to_owned()),
            Self::SchemeUnsupported { .. } => Some(SCHEMES.to_owned()),
            Self::ChangedSinceVerified { .. } => Some("the file that was verified".to_owned()),
            _ => None,
        }
    }

    /// What was found instead.
    pub fn found(&self) -> Option<String> {
        match self {
            Self::CacheRotten { found, .. }
            | Self::HeaderInvalid { found, .. }
            | Self::AuthDenied { found, .. }
            | Self::Download { found, .. } => Some(found.clone()),
            Self::DigestMismatch { found, .. } => Some(found.to_string()),
            Self::SumMismatch { found, .. } => Some(found.to_string()),
            Self::Truncated { found, .. } => Some(format!("{found} bytes")),
            Self::NoRoom { have, .. } => Some(format!("{have} bytes")),
            Self::SchemeUnsupported { scheme, .. } => Some(scheme.clone()),
            Self::IndexMissingShard { .. } | Self::FileMissing { .. } => {
                Some("no such file".to_owned())
            }
            Self::IndexMissingTensor { .. } => Some("a file without it".to_owned()),
            Self::ConfigInvalid { problem, .. }
            | Self::TokenizerInvalid { problem, .. }
            | Self::IndexInvalid { problem, .. }
            | Self::SumsInvalid { problem, .. } => Some(problem.clone()),
            Self::DigestInvalid { text } => Some(text.clone()),
            Self::ChangedSinceVerified { change, .. } => Some(format!("a file that was {change}")),
            _ => None,
        }
    }

    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::Unwritable { path, source }
            }
            _ => Self::Write { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_expected_and_what_was_found_are_told_of_whatever_has_them() {
        let (file, problem) = ("a".to_owned(), "it is empty".to_owned());
        for error in [
            ArtifactError::FileMissing { file: file.clone(), remedy: "upload it" },
            ArtifactError::ConfigInvalid { file: file.clone(), problem: problem.clone() },
            ArtifactError::TokenizerInvalid { file: file.clone(), problem: problem.clone() },
            ArtifactError::IndexInvalid { file: file.clone(), problem: problem.clone() },
            ArtifactError::SumsInvalid { file: file.clone(), problem },
            ArtifactError::IndexMissingShard {
                file: file.clone(),
                tensor: "t".to_owned(),
                shard: "s".to_owned(),
            },
            ArtifactError::IndexMissingTensor {
                file,
                tensor: "t".to_owned(),
                shard: "s".to_owned(),
            },
        ] {
            let (expected, found) = (error.expected(), error.found());
            assert!(expected.is_some() && found.is_some() && expected != found, "{error:?}");
        }
    }

    #[test]
    fn a_full_device_is_told_apart_from_other_trouble() {
        let path = Path::new("/dev/full");
        let mut full = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let source = full.write_all(b"x").unwrap_err();
        let error = ArtifactError::writing(path, source);
        assert!(matches!(error, ArtifactError::DiskFull { .. }), "{error:?}");
        assert_eq!(error.file().unwrap(), "/dev/full");

        // EACCES, EROFS and EIO, as errno(3) numbers them on Linux.
        for (code, is_forbidden) in [(13, true), (30, true), (5, false)] {
            let error = ArtifactError::writing(path, io::Error::from_raw_os_error(code));
            let is_unwritable = matches!(error, ArtifactError::Unwritable { .. });
            assert_eq!(is_unwritable, is_forbidden, "{error:?}");
        }
    }
}
