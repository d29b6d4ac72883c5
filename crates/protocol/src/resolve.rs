//! What an artifact is, told before anything is loaded: the record of `lamplighter-worker resolve`.

use serde::{Deserialize, Serialize};

use crate::manifest::{ModelKey, Task};

/// Longest model name of the resource, in bytes.
const NAME: usize = 63;
/// Longest model version of the resource, in bytes.
const VERSION: usize = 64;
/// Longest name of an architecture, in bytes. Those of transformers have at most 60.
const ARCHITECTURE: usize = 80;
/// Longest kind of model, in bytes. Those of transformers have at most 30.
const MODEL_TYPE: usize = 32;
/// Longest name of a pooling, in bytes.
const POOLING: usize = 24;
/// Longest commit, in bytes: SHA-256 in hexadecimal.
const COMMIT: usize = 64;
/// Longest name of a number format, in bytes.
const DTYPE: usize = 16;
/// `sha256:` and 64 hexadecimal digits.
const DIGEST: usize = 71;

/// What one model's artifact is: one line of JSON of at most [`crate::place::RESOLVE_RECORD_LIMIT`] bytes in
/// the termination message of the container that looked.
///
/// The worker may be of a later release than its reader: fields that are not known are ignored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveRecord {
    /// `name:version`.
    pub model: ModelKey,
    /// What it is for, by the manifest.
    pub task: Task,
    /// The architecture as `config.json` names it, for example `BertModel`.
    pub architecture: String,
    /// The kind of model as `config.json` names it, for example `bert`. Empty in records of earlier
    /// releases, as are all fields that have a default.
    #[serde(default)]
    pub model_type: String,
    /// Number of layers.
    pub layers: u64,
    /// Length of a token's vector between layers.
    pub hidden: u64,
    /// Number of attention heads.
    #[serde(default)]
    pub heads: u64,
    /// Length of a token's vector within a feed-forward layer.
    #[serde(default)]
    pub intermediate: u64,
    /// Rows of the embedding table.
    pub vocabulary: u64,
    /// Longest text in tokens, special tokens included.
    #[serde(default)]
    pub max_tokens: u64,
    /// How token vectors become one, for example `mean`.
    #[serde(default)]
    pub pooling: String,
    /// Length of an output vector.
    pub dimensions: u64,
    /// The number format of most weights as they are stored, for example `F32`.
    pub dtype: String,
    /// Number of weights: the elements of all floating-point tensors.
    pub parameters: u64,
    /// Size of all files of the artifact, in bytes.
    pub bytes: u64,
    /// Memory that it takes on its device at least: weights as they are run, and what one largest
    /// batch takes beside them, in bytes.
    #[serde(default)]
    pub memory: u64,
    /// SHA-256 of `tokenizer.json`, as `sha256:` and 64 hexadecimal digits.
    pub tokenizer_digest: String,
    /// `sha256:` and 64 hexadecimal digits over the sorted list of (path, size, sha256).
    pub digest: String,
    /// As `digest`, but with the strongest identity that the store gives for each file: SHA-256
    /// where it was computed from a folder, else version or generation, else `ETag`. Another pin
    /// does not mean other contents; the same pin means that nobody wrote to the files.
    pub pin: String,
    /// The commit that the address stood for, where the store has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Why a record cannot be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResolveRecordError {
    /// It might not arrive whole.
    #[error(
        "{field} is {found:?}, in a resolve record it must be printable ASCII without quotes and \
         backslashes, of at most {limit} bytes, because the kubelet cuts longer termination \
         messages"
    )]
    Field {
        /// The field.
        field: ResolveField,
        /// The most bytes that it may have.
        limit: usize,
        /// Its value, shortened.
        found: String,
    },
    /// A bug: it cannot be written as JSON.
    #[error("the resolve record cannot be printed: {problem}")]
    Unprintable {
        /// What the JSON writer said.
        problem: String,
    },
}

/// A text field of a [`ResolveRecord`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResolveField {
    /// The model's name.
    Name,
    /// The model's version.
    Version,
    /// The architecture.
    Architecture,
    /// The kind of model.
    ModelType,
    /// The pooling.
    Pooling,
    /// The commit.
    Commit,
    /// The number format.
    Dtype,
    /// One of the digests.
    Digest,
}

impl std::fmt::Display for ResolveField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name => "the model's name",
            Self::Version => "the model's version",
            Self::Architecture => "the architecture",
            Self::ModelType => "the kind of model",
            Self::Pooling => "the pooling",
            Self::Commit => "the commit",
            Self::Dtype => "the number format",
            Self::Digest => "a digest",
        })
    }
}

/// Why a termination message is no record.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResolveReportError {
    /// The beginning of one: someone cut it.
    #[error(
        "the resolve record was cut after {bytes} bytes; containers that were added to the pod \
         take their share of what the kubelet keeps"
    )]
    Truncated {
        /// How many bytes arrived.
        bytes: usize,
    },
    /// Something else, or nothing.
    #[error("the termination message is no resolve record: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
}

impl ResolveReportError {
    /// The name as users see it in a condition's reason.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "ResolveReportTruncated",
            Self::Malformed { .. } => "ResolveReportMalformed",
        }
    }
}

impl ResolveRecord {
    /// One line of JSON of at most [`crate::place::RESOLVE_RECORD_LIMIT`] bytes.
    ///
    /// A text that is too long is refused and not cut: what is compared later must be whole.
    pub fn to_termination_message(&self) -> Result<String, ResolveRecordError> {
        let none = String::new();
        for (field, limit, text) in [
            (ResolveField::Name, NAME, &self.model.name),
            (ResolveField::Version, VERSION, &self.model.version),
            (ResolveField::Architecture, ARCHITECTURE, &self.architecture),
            (ResolveField::ModelType, MODEL_TYPE, &self.model_type),
            (ResolveField::Pooling, POOLING, &self.pooling),
            (ResolveField::Commit, COMMIT, self.commit.as_ref().unwrap_or(&none)),
            (ResolveField::Dtype, DTYPE, &self.dtype),
            (ResolveField::Digest, DIGEST, &self.tokenizer_digest),
            (ResolveField::Digest, DIGEST, &self.digest),
            (ResolveField::Digest, DIGEST, &self.pin),
        ] {
            check(field, limit, text)?;
        }
        serde_json::to_string(self)
            .map_err(|error| ResolveRecordError::Unprintable { problem: error.to_string() })
    }

    /// Reads what [`ResolveRecord::to_termination_message`] wrote.
    pub fn from_termination_message(message: &str) -> Result<Self, ResolveReportError> {
        let message = message.trim();
        let malformed = |problem: String| ResolveReportError::Malformed { problem };
        if message.is_empty() {
            return Err(malformed("it is empty".to_owned()));
        }
        serde_json::from_str(message).map_err(|error| {
            if error.is_eof() && message.starts_with('{') {
                ResolveReportError::Truncated { bytes: message.len() }
            } else {
                malformed(error.to_string())
            }
        })
    }
}

/// Characters that JSON writes as one byte each, so that the limits bound the record.
fn check(field: ResolveField, limit: usize, text: &str) -> Result<(), ResolveRecordError> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.len() <= limit && text.bytes().all(plain) {
        return Ok(());
    }
    let found = text.chars().take(limit).collect();
    Err(ResolveRecordError::Field { field, limit, found })
}
