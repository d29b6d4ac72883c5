//! Why a model cannot be loaded or run.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::matryoshka::offered;

/// What a library that this crate uses said.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// One variant per cause. Files are named relative to the artifact's root.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A weight file ends before its header says.
    #[error("{file} is truncated: {found} bytes instead of {expected}")]
    Truncated {
        /// The file.
        file: String,
        /// Its size by its header, in bytes.
        expected: u64,
        /// Its size, in bytes.
        found: u64,
    },
    /// A weight file is no valid safetensors file.
    #[error("the header of {file} is not valid: {problem}")]
    HeaderInvalid {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A configuration file is missing, malformed, or asks for what cannot be done.
    #[error("{file} cannot be used: expected {expected}, found {found}")]
    ConfigInvalid {
        /// The file.
        file: String,
        /// What it must say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// The architecture is not one that this crate runs.
    #[error("the architecture {found} is not supported, supported is {supported}")]
    UnsupportedArchitecture {
        /// The architecture, as `config.json` or `modules.json` names it.
        found: String,
        /// What is supported.
        supported: &'static str,
    },
    /// The pooling is not one that this crate knows.
    #[error("{file} asks for the pooling {found}, known are cls, mean, max and lasttoken")]
    PoolingUnknown {
        /// The pooling's configuration.
        file: String,
        /// The pooling.
        found: String,
    },
    /// A tensor that the architecture needs is missing.
    #[error("the weights have no tensor {tensor}")]
    TensorMissing {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than `config.json` says.
    #[error("{tensor} in {file} has the shape {found:?}, by config.json it is {expected:?}")]
    TensorShapeMismatch {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape by `config.json`.
        expected: Vec<usize>,
        /// The stored shape.
        found: Vec<usize>,
    },
    /// A tensor has a number format that this crate does not read.
    #[error("{tensor} in {file} is stored as {found}; convert it to F32, F16 or BF16")]
    UnsupportedDtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its number format.
        found: String,
    },
    /// A weight is NaN or infinite.
    #[error("{tensor} in {file} has the value {found} at index {index}")]
    WeightsNonFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The index of the first such value, counted through the whole tensor.
        index: usize,
        /// The value.
        found: f32,
    },
    /// The tokenizer cannot be read.
    #[error("{file} is not a tokenizer that can be used: {problem}")]
    TokenizerInvalid {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer has more tokens than the embedding table has rows.
    #[error(
        "the tokenizer gives token ids up to {highest}, the embedding table has {rows} rows; \
         tokenizer and weights are not of one model"
    )]
    TokenizerVocabMismatch {
        /// The highest id that the tokenizer gives.
        highest: u32,
        /// The rows of the embedding table.
        rows: usize,
    },
    /// The model does not have the output that was asked for.
    #[error("the model has no such output: {output:?}")]
    NoSuchOutput {
        /// What was asked for.
        output: crate::Output,
    },
    /// The model's vectors cannot be brought to the length that was asked for.
    #[error(
        "the model's vectors cannot have {asked} dimensions, only {}",
        offered(*.dimensions, .declared)
    )]
    NoSuchDimensions {
        /// What was asked for.
        asked: usize,
        /// The vectors' own length.
        dimensions: usize,
        /// The shorter ones that the artifact declares.
        declared: Vec<usize>,
    },
    /// The device that was asked for is not there.
    #[error("the device {device:?} is not available: {source}")]
    DeviceUnavailable {
        /// The device.
        device: crate::Device,
        /// Why.
        source: Source,
    },
    /// A text has more tokens than the model reads.
    #[error("text {index} has {tokens} tokens, the model reads at most {limit}")]
    TooLong {
        /// The text's place among those that were given.
        index: usize,
        /// Its tokens, special ones included.
        tokens: usize,
        /// The most that the model reads.
        limit: usize,
    },
    /// A text cannot be tokenised, or gives no token at all.
    #[error("text {index} cannot be tokenised: {problem}")]
    Untokenizable {
        /// The text's place among those that were given.
        index: usize,
        /// Why.
        problem: String,
    },
    /// More was given at once than the engine's limits allow.
    #[error("a batch of {texts} texts with {tokens} tokens is above the limits {limits:?}")]
    BatchTooLarge {
        /// The number of texts.
        texts: usize,
        /// Their tokens, counted as the limits count them.
        tokens: usize,
        /// The limits.
        limits: crate::Limits,
    },
    /// The arithmetic failed.
    #[error("the model could not be run: {source}")]
    Run {
        /// What the library said.
        source: Source,
    },
    /// An output is NaN or infinite.
    #[error("the vector of text {index} has the value {found}")]
    OutputNonFinite {
        /// The text's place in the batch.
        index: usize,
        /// The value.
        found: f32,
    },
    /// The warm-up's time was over before every shape had run.
    #[error("the warm-up ran {ran} of {shapes} shapes within {} s; give it more time", .budget.as_secs())]
    WarmupTimeout {
        /// How many shapes had run.
        ran: usize,
        /// How many there are.
        shapes: usize,
        /// How long the warm-up might take.
        budget: Duration,
    },
    /// The golden file is malformed.
    #[error("golden.json cannot be used: {problem}")]
    GoldenInvalid {
        /// What is wrong with it.
        problem: String,
    },
    /// The golden file belongs to another artifact.
    #[error("golden.json was recorded for {expected}, the artifact is {found}; record it again")]
    GoldenForeign {
        /// The digest that it names.
        expected: String,
        /// The artifact's digest.
        found: String,
    },
}

impl EngineError {
    /// The file that the error is about.
    pub fn file(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } => Some(path.display().to_string()),
            Self::Truncated { file, .. }
            | Self::HeaderInvalid { file, .. }
            | Self::ConfigInvalid { file, .. }
            | Self::PoolingUnknown { file, .. }
            | Self::TensorShapeMismatch { file, .. }
            | Self::UnsupportedDtype { file, .. }
            | Self::WeightsNonFinite { file, .. }
            | Self::TokenizerInvalid { file, .. } => Some(file.clone()),
            Self::GoldenInvalid { .. } | Self::GoldenForeign { .. } => {
                Some(crate::golden::FILE.to_owned())
            }
            _ => None,
        }
    }

    /// The tensor that the error is about.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::TensorMissing { tensor }
            | Self::TensorShapeMismatch { tensor, .. }
            | Self::UnsupportedDtype { tensor, .. }
            | Self::WeightsNonFinite { tensor, .. } => Some(tensor),
            _ => None,
        }
    }

    /// What was expected.
    pub fn expected(&self) -> Option<String> {
        match self {
            Self::Truncated { expected, .. } => Some(format!("{expected} bytes")),
            Self::ConfigInvalid { expected, .. } | Self::GoldenForeign { expected, .. } => {
                Some(expected.clone())
            }
            Self::UnsupportedArchitecture { supported, .. } => Some((*supported).to_owned()),
            Self::PoolingUnknown { .. } => Some("cls, mean, max or lasttoken".to_owned()),
            Self::TensorShapeMismatch { expected, .. } => Some(format!("{expected:?}")),
            Self::UnsupportedDtype { .. } => Some("F32, F16 or BF16".to_owned()),
            Self::TokenizerVocabMismatch { rows, .. } => Some(format!("ids below {rows}")),
            Self::WeightsNonFinite { .. } | Self::OutputNonFinite { .. } => {
                Some("finite numbers".to_owned())
            }
            Self::TooLong { limit, .. } => Some(format!("at most {limit} tokens")),
            Self::NoSuchDimensions { dimensions, declared, .. } => {
                Some(offered(*dimensions, declared))
            }
            _ => None,
        }
    }

    /// What was found instead.
    pub fn found(&self) -> Option<String> {
        match self {
            Self::Truncated { found, .. } => Some(format!("{found} bytes")),
            Self::ConfigInvalid { found, .. }
            | Self::GoldenForeign { found, .. }
            | Self::UnsupportedArchitecture { found, .. }
            | Self::PoolingUnknown { found, .. }
            | Self::UnsupportedDtype { found, .. } => Some(found.clone()),
            Self::TensorShapeMismatch { found, .. } => Some(format!("{found:?}")),
            Self::WeightsNonFinite { found, .. } | Self::OutputNonFinite { found, .. } => {
                Some(found.to_string())
            }
            Self::TokenizerVocabMismatch { highest, .. } => Some(format!("the id {highest}")),
            Self::TooLong { tokens, .. } => Some(format!("{tokens} tokens")),
            Self::NoSuchDimensions { asked, .. } => Some(asked.to_string()),
            _ => None,
        }
    }

    /// The same error about a text of a batch that came after `texts` others.
    pub(crate) fn after(mut self, texts: usize) -> Self {
        if let Self::TooLong { index, .. }
        | Self::Untokenizable { index, .. }
        | Self::OutputNonFinite { index, .. } = &mut self
        {
            *index += texts;
        }
        self
    }

    pub(crate) fn config(file: &str, expected: impl Display, found: impl Display) -> Self {
        Self::ConfigInvalid {
            file: file.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn run(source: impl Into<Source>) -> Self {
        Self::Run { source: source.into() }
    }
}
