//! `config.json`: the shape of the network, in one form for all families.
//!
//! A family is a file here: how its configuration names things, how its weights name their
//! tensors, and what its networks have that others have not.

mod bert;
mod distilbert;
mod family;
mod mpnet;
mod roberta;

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use family::Names;

use crate::error::EngineError;
use crate::projection::ProjectionConfig;
use family::Family;

pub(crate) const FILE: &str = "config.json";
/// More of anything than any model has. Below it, no product of two sizes overflows.
pub(crate) const MAX_SIZE: usize = 1 << 24;

/// What a model consists of.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// As the file names it.
    pub(crate) architecture: String,
    /// As the file names it.
    pub(crate) model_type: String,
    /// The layers between token ids and tokens' vectors.
    pub(crate) encoder: EncoderConfig,
    family: &'static Family,
    has_head: bool,
}

/// An encoder of <https://arxiv.org/abs/1810.04805>, with what families have changed about it.
#[derive(Clone, Debug)]
pub(crate) struct EncoderConfig {
    /// Rows of the embedding table.
    pub(crate) vocabulary: usize,
    /// Length of a token's vector between layers.
    pub(crate) hidden: usize,
    /// Number of layers.
    pub(crate) layers: usize,
    /// Number of attention heads.
    pub(crate) heads: usize,
    /// Length of a token's vector within a feed-forward layer.
    pub(crate) intermediate: usize,
    pub(crate) activation: Activation,
    /// Added to a variance before its root is taken.
    pub(crate) epsilon: f64,
    /// The token id that fills up batches.
    pub(crate) padding: u32,
    pub(crate) positions: Positions,
    /// Rows of the table that tells the first text of a pair from the second; none without one.
    pub(crate) token_types: Option<usize>,
    /// Rows of the table of what is added to a score for how far apart two tokens are; none
    /// without one.
    pub(crate) buckets: Option<usize>,
    /// How the weights name its tensors.
    pub(crate) names: &'static Names,
}

/// The table of positions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Positions {
    pub(crate) rows: usize,
    /// The token id that does not count as a position: it has the row of its own number, and the
    /// first other token has the row after that. None where rows count from 0, whatever the
    /// tokens.
    pub(crate) after: Option<u32>,
}

impl Positions {
    /// Tokens of the longest text.
    pub(crate) fn longest(self) -> usize {
        match self.after {
            None => self.rows,
            Some(padding) => self.rows.saturating_sub(as_index(padding).saturating_add(1)),
        }
    }
}

/// The function between the two halves of a feed-forward layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Activation {
    /// The exact one, with the error function.
    Gelu,
    /// The approximation with the hyperbolic tangent; differs in the third decimal.
    GeluTanh,
    /// The rectifier.
    Relu,
}

impl Activation {
    /// By the names of
    /// <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/activations.py>.
    fn named(field: &str, name: &str) -> Result<Self, EngineError> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "relu" => Ok(Self::Relu),
            other => {
                let expected = format!("{field} to be gelu, gelu_new, gelu_pytorch_tanh or relu");
                Err(EngineError::config(FILE, expected, other))
            }
        }
    }
}

impl Config {
    /// Reads and checks `config.json`.
    pub(crate) fn read(dir: &Path) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            architectures: Vec<String>,
            #[serde(default)]
            model_type: String,
        }

        // The architecture first: another one has other fields, and saying that a field is
        // missing would hide why.
        let Named { architectures, model_type } = read_json(dir, FILE)?;
        let (family, has_head) = Family::of(&architectures, &model_type)?;
        let encoder = (family.read)(dir)?;
        encoder.check()?;
        let architecture = architectures.into_iter().next().unwrap_or_default();
        Ok(Self { architecture, model_type, encoder, family, has_head })
    }

    /// The layers that make `labels` numbers of the first token's vector, if the model has such.
    pub(crate) fn head(&self, labels: usize) -> Option<Vec<ProjectionConfig>> {
        let hidden = self.encoder.hidden;
        let [(first, then), (last, after)] = self.family.head;
        let layer = |tensor: &str, to, then| ProjectionConfig {
            tensor: tensor.to_owned(),
            from: hidden,
            to,
            has_bias: true,
            then,
        };
        self.has_head.then(|| vec![layer(first, hidden, then), layer(last, labels, after)])
    }

    /// Whether the model has layers that make scores.
    pub(crate) fn has_head(&self) -> bool {
        self.has_head
    }
}

impl EncoderConfig {
    /// What the families have in common; lengths are checked by name when they are read.
    fn check(&self) -> Result<(), EngineError> {
        if !(self.epsilon > 0.0 && self.epsilon < 1.0) {
            let expected = "layer_norm_eps between 0 and 1";
            return Err(EngineError::config(FILE, expected, self.epsilon));
        }
        if as_index(self.padding) >= self.vocabulary {
            let expected = format!("pad_token_id below {}", self.vocabulary);
            return Err(EngineError::config(FILE, expected, self.padding));
        }
        if self.positions.longest() == 0 {
            let expected = "max_position_embeddings to leave room after pad_token_id";
            return Err(EngineError::config(FILE, expected, self.positions.rows));
        }
        Ok(())
    }
}

/// An id as a place in a table; of no table where it does not fit.
pub(crate) fn as_index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

/// Whether the lengths, each with its name in the file, are such as models have.
fn check_lengths<const N: usize>(lengths: [(&str, usize); N]) -> Result<(), EngineError> {
    match lengths.into_iter().find(|(_, length)| !(1..=MAX_SIZE).contains(length)) {
        Some((name, length)) => {
            let expected = format!("{name} between 1 and {MAX_SIZE}");
            Err(EngineError::config(FILE, expected, length))
        }
        None => Ok(()),
    }
}

/// Whether each head has the same share of a token's vector.
fn check_heads(hidden: (&str, usize), heads: (&str, usize)) -> Result<(), EngineError> {
    let ((of_hidden, hidden), (of_heads, heads)) = (hidden, heads);
    if heads != 0 && hidden.is_multiple_of(heads) {
        return Ok(());
    }
    let expected = format!("{of_hidden} to be a multiple of {of_heads}");
    Err(EngineError::config(FILE, expected, format!("{hidden} and {heads}")))
}

/// A JSON file of the artifact; `file` is relative to `dir`.
pub(crate) fn read_json<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<T, EngineError> {
    read_json_if_any(dir, file)?
        .ok_or_else(|| EngineError::config(file, "the file to be there", "none"))
}

/// Whether there is no file of the name, or could not be: names come from the artifact.
fn is_no_file(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    )
}

/// As [`read_json`], but the file may be missing.
pub(crate) fn read_json_if_any<T: DeserializeOwned>(
    dir: &Path,
    file: &str,
) -> Result<Option<T>, EngineError> {
    let path = dir.join(file);
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if is_no_file(error.kind()) => return Ok(None),
        Err(source) => return Err(EngineError::Read { path, source }),
    };
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|error| EngineError::config(file, "valid JSON with all fields", error))
}

/// A configuration without its file.
#[cfg(test)]
pub(crate) fn of_bert(config: &serde_json::Value) -> EncoderConfig {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), config.to_string()).unwrap();
    (bert::BERT.read)(dir.path()).unwrap()
}
