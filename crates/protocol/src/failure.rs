//! Why a worker gave up: a typed reason that survives the process in the termination message.

use serde::{Deserialize, Serialize};

use crate::manifest::ModelKey;
use crate::place::{RESOLVE_RECORD_LIMIT, TERMINATION_LOG_LIMIT};
use crate::report::Phase;

/// Why a model or the worker failed. The names are stable: users see them in conditions.
///
/// A name that this release does not know is read as [`Reason::Unknown`], so that an operator
/// understands the last words of a later worker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
pub enum Reason {
    /// The manifest cannot be read or contradicts itself.
    ManifestInvalid,
    /// The store has nothing at this address, or a file that the artifact must have is missing.
    ArtifactNotFound,
    /// The store refused the credentials, or there were none.
    AuthDenied,
    /// The store could not be reached or broke off, after all retries.
    DownloadFailed,
    /// The volume has no room for the artifact.
    DiskFull,
    /// A volume that the worker keeps things on is read-only, or may not be written by it.
    VolumeUnwritable,
    /// A file of the artifact cannot be read from its volume.
    ReadFailed,
    /// The bytes are not those that were pinned.
    DigestMismatch,
    /// A file is shorter than its own header or the store says.
    ArtifactTruncated,
    /// A safetensors header is not valid.
    HeaderInvalid,
    /// The weight index names a shard that is not there.
    IndexMissingShard,
    /// `config.json` or a sentence-transformers file cannot be understood.
    ConfigInvalid,
    /// The architecture is not one that this worker serves.
    UnsupportedArchitecture,
    /// The weights have a number format that this worker does not serve.
    UnsupportedDtype,
    /// The weights are in a pickle or another format that may run code.
    UnsafeFormat,
    /// A tensor that the architecture needs is missing.
    TensorMissing,
    /// A tensor has another shape than `config.json` says.
    TensorShapeMismatch,
    /// A weight is NaN or infinite.
    WeightsNonFinite,
    /// The tokenizer cannot be read.
    TokenizerInvalid,
    /// The tokenizer has more tokens than the embedding table has rows.
    TokenizerVocabMismatch,
    /// The pooling is not one that this worker serves.
    PoolingUnknown,
    /// The model is of another kind than its task asks for: it gives vectors where scores are
    /// wanted, or the other way round.
    TaskMismatch,
    /// The device that was asked for is not there. There is no silent fallback.
    DeviceUnavailable,
    /// The container ran out of memory.
    OutOfMemory,
    /// The models need more memory than the container may have: found out before they were loaded.
    HostMemoryExceeded,
    /// The models need more memory than any GPU has that their pods may run on: found out before
    /// there was a pod.
    DeviceMemoryExceeded,
    /// The system starts no more threads for the worker.
    ThreadsUnavailable,
    /// A warm-up run failed.
    WarmupFailed,
    /// Not every shape ran before the warm-up's deadline.
    WarmupTimeout,
    /// An output is NaN or infinite.
    OutputNonFinite,
    /// There is neither a validation case nor a golden file.
    NoValidationCases,
    /// The golden file cannot be used: malformed, or it belongs to another artifact.
    GoldenInvalid,
    /// A validation case gave another answer than expected.
    ValidationFailed,
    /// A model that was right gave a wrong answer to the same validation case twice in a row.
    RevalidationFailed,
    /// The start took longer than its deadline.
    StartDeadlineExceeded,
    /// A flag or an environment variable of the worker cannot be used, or two contradict.
    ArgumentsInvalid,
    /// The file of API keys is not there, or holds none, too many, or something that is no key.
    ApiKeysUnusable,
    /// Requests were cut off: they were not done when the drain's time was over.
    DrainTimeout,
    /// A bug: the worker gave up for a reason that it has no name for.
    Internal,
    /// A reason of a later release. Never given, only read; [`Failure::message`] begins with its
    /// name.
    #[serde(other)]
    Unknown,
}

/// What to do about a [`Reason`]: whether trying the same revision again can help.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Class {
    /// The same bytes and the same settings fail again: stop, a person must change something.
    Deterministic,
    /// The surroundings failed: try again, with back-off.
    Transient,
    /// Something that is no part of the settings is missing, and a person may put it right at any
    /// time: try again, with back-off, for as long as it takes.
    Outside,
}

impl Reason {
    /// Every reason of this release, in the order of the enum.
    pub const ALL: [Self; 39] = [
        Self::ManifestInvalid,
        Self::ArtifactNotFound,
        Self::AuthDenied,
        Self::DownloadFailed,
        Self::DiskFull,
        Self::VolumeUnwritable,
        Self::ReadFailed,
        Self::DigestMismatch,
        Self::ArtifactTruncated,
        Self::HeaderInvalid,
        Self::IndexMissingShard,
        Self::ConfigInvalid,
        Self::UnsupportedArchitecture,
        Self::UnsupportedDtype,
        Self::UnsafeFormat,
        Self::TensorMissing,
        Self::TensorShapeMismatch,
        Self::WeightsNonFinite,
        Self::TokenizerInvalid,
        Self::TokenizerVocabMismatch,
        Self::PoolingUnknown,
        Self::TaskMismatch,
        Self::DeviceUnavailable,
        Self::OutOfMemory,
        Self::HostMemoryExceeded,
        Self::DeviceMemoryExceeded,
        Self::ThreadsUnavailable,
        Self::WarmupFailed,
        Self::WarmupTimeout,
        Self::OutputNonFinite,
        Self::NoValidationCases,
        Self::GoldenInvalid,
        Self::ValidationFailed,
        Self::RevalidationFailed,
        Self::StartDeadlineExceeded,
        Self::ArgumentsInvalid,
        Self::ApiKeysUnusable,
        Self::DrainTimeout,
        Self::Internal,
    ];

    /// Whether the same revision can be expected to fail again in the same way. Of a reason that
    /// is not known that cannot be said, and trying again does less harm than giving up.
    pub fn class(self) -> Class {
        match self {
            Self::DownloadFailed
            | Self::DiskFull
            | Self::ReadFailed
            | Self::ThreadsUnavailable
            | Self::WarmupTimeout
            | Self::StartDeadlineExceeded
            | Self::DrainTimeout
            | Self::Internal
            | Self::Unknown => Class::Transient,
            Self::ArtifactNotFound
            | Self::AuthDenied
            | Self::DeviceMemoryExceeded
            | Self::ApiKeysUnusable
            | Self::VolumeUnwritable => Class::Outside,
            Self::ManifestInvalid
            | Self::DigestMismatch
            | Self::ArtifactTruncated
            | Self::HeaderInvalid
            | Self::IndexMissingShard
            | Self::ConfigInvalid
            | Self::UnsupportedArchitecture
            | Self::UnsupportedDtype
            | Self::UnsafeFormat
            | Self::TensorMissing
            | Self::TensorShapeMismatch
            | Self::WeightsNonFinite
            | Self::TokenizerInvalid
            | Self::TokenizerVocabMismatch
            | Self::PoolingUnknown
            | Self::TaskMismatch
            | Self::DeviceUnavailable
            | Self::OutOfMemory
            | Self::HostMemoryExceeded
            | Self::WarmupFailed
            | Self::OutputNonFinite
            | Self::NoValidationCases
            | Self::GoldenInvalid
            | Self::ValidationFailed
            | Self::RevalidationFailed
            | Self::ArgumentsInvalid => Class::Deterministic,
        }
    }

    /// The reason of this name; [`Reason::Unknown`] if there is none.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Self::Unknown)
    }

    /// The name as users see it, for example in a condition's reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManifestInvalid => "ManifestInvalid",
            Self::ArtifactNotFound => "ArtifactNotFound",
            Self::AuthDenied => "AuthDenied",
            Self::DownloadFailed => "DownloadFailed",
            Self::DiskFull => "DiskFull",
            Self::VolumeUnwritable => "VolumeUnwritable",
            Self::ReadFailed => "ReadFailed",
            Self::DigestMismatch => "DigestMismatch",
            Self::ArtifactTruncated => "ArtifactTruncated",
            Self::HeaderInvalid => "HeaderInvalid",
            Self::IndexMissingShard => "IndexMissingShard",
            Self::ConfigInvalid => "ConfigInvalid",
            Self::UnsupportedArchitecture => "UnsupportedArchitecture",
            Self::UnsupportedDtype => "UnsupportedDtype",
            Self::UnsafeFormat => "UnsafeFormat",
            Self::TensorMissing => "TensorMissing",
            Self::TensorShapeMismatch => "TensorShapeMismatch",
            Self::WeightsNonFinite => "WeightsNonFinite",
            Self::TokenizerInvalid => "TokenizerInvalid",
            Self::TokenizerVocabMismatch => "TokenizerVocabMismatch",
            Self::PoolingUnknown => "PoolingUnknown",
            Self::TaskMismatch => "TaskMismatch",
            Self::DeviceUnavailable => "DeviceUnavailable",
            Self::OutOfMemory => "OutOfMemory",
            Self::HostMemoryExceeded => "HostMemoryExceeded",
            Self::DeviceMemoryExceeded => "DeviceMemoryExceeded",
            Self::ThreadsUnavailable => "ThreadsUnavailable",
            Self::WarmupFailed => "WarmupFailed",
            Self::WarmupTimeout => "WarmupTimeout",
            Self::OutputNonFinite => "OutputNonFinite",
            Self::NoValidationCases => "NoValidationCases",
            Self::GoldenInvalid => "GoldenInvalid",
            Self::ValidationFailed => "ValidationFailed",
            Self::RevalidationFailed => "RevalidationFailed",
            Self::StartDeadlineExceeded => "StartDeadlineExceeded",
            Self::ArgumentsInvalid => "ArgumentsInvalid",
            Self::ApiKeysUnusable => "ApiKeysUnusable",
            Self::DrainTimeout => "DrainTimeout",
            Self::Internal => "Internal",
            Self::Unknown => "Unknown",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The last words of a worker: one line of JSON of at most [`TERMINATION_LOG_LIMIT`] bytes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{}{reason}: {message}", .model.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
#[serde(rename_all = "camelCase", from = "Heard")]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// A sentence that names the thing and the way out.
    pub message: String,
    /// The model that failed; none when the worker itself did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelKey>,
    /// The phase in which it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The file of the artifact, relative to its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The tensor, by its name in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// A failure as it was written, perhaps by a later release.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heard {
    reason: String,
    message: String,
    #[serde(default)]
    model: Option<ModelKey>,
    #[serde(default)]
    phase: Option<Phase>,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    tensor: Option<String>,
    #[serde(default)]
    expected: Option<String>,
    #[serde(default)]
    found: Option<String>,
}

impl From<Heard> for Failure {
    fn from(heard: Heard) -> Self {
        let Heard { reason: word, message, model, phase, file, tensor, expected, found } = heard;
        let reason = Reason::named(&word);
        let message = match reason {
            // Whoever reads it can still look the word up.
            Reason::Unknown if word != Reason::Unknown.as_str() => format!("{word}: {message}"),
            _ => message,
        };
        Self { reason, message, model, phase, file, tensor, expected, found }
    }
}

impl Failure {
    /// A failure with a reason and a sentence; the details are filled in by the `with_` methods.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            model: None,
            phase: None,
            file: None,
            tensor: None,
            expected: None,
            found: None,
        }
    }

    /// Names the model that failed.
    #[must_use]
    pub fn with_model(mut self, model: ModelKey) -> Self {
        self.model = Some(model);
        self
    }

    /// Names the phase in which it failed.
    #[must_use]
    pub fn with_phase(mut self, phase: Phase) -> Self {
        self.phase = Some(phase);
        self
    }

    /// One line of JSON of at most [`TERMINATION_LOG_LIMIT`] bytes.
    pub fn to_termination_message(&self) -> String {
        self.to_message_within(TERMINATION_LOG_LIMIT)
    }

    /// One line of JSON of at most `limit` bytes, at least
    /// [`crate::place::RESOLVE_RECORD_LIMIT`]: shorter limits are raised to that.
    ///
    /// The kubelet cuts longer messages in the middle of a byte sequence, which would leave
    /// JSON that nobody can read; here the free texts are shortened instead, longest first.
    pub fn to_message_within(&self, limit: usize) -> String {
        let limit = limit.max(RESOLVE_RECORD_LIMIT);
        let mut shortened = self.clone();
        let mut budget = limit;
        loop {
            let line = serde_json::to_string(&shortened).unwrap_or_else(|error| {
                format!(r#"{{"reason":"Internal","message":"failure not printable: {error}"}}"#)
            });
            if line.len() <= limit {
                return line;
            }
            budget /= 2;
            for text in [
                Some(&mut shortened.message),
                shortened.file.as_mut(),
                shortened.tensor.as_mut(),
                shortened.expected.as_mut(),
                shortened.found.as_mut(),
            ]
            .into_iter()
            .flatten()
            {
                shorten(text, budget);
            }
            if let Some(model) = &mut shortened.model {
                shorten(&mut model.name, budget);
                shorten(&mut model.version, budget);
            }
        }
    }

    /// Reads what [`Failure::to_termination_message`] wrote. None for anything else, such as
    /// the last log lines of a container that crashed.
    pub fn from_termination_message(message: &str) -> Option<Self> {
        serde_json::from_str(message.trim()).ok()
    }
}

fn shorten(text: &mut String, bytes: usize) {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes {
        return;
    }
    let mut end = bytes.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(ELLIPSIS);
}
