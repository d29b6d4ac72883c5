//! `config.json`: the shape of the network.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::EngineError;

pub(crate) const FILE: &str = "config.json";
/// What this crate runs, as error messages say it.
pub(crate) const SUPPORTED: &str = "BertModel";
/// More of anything than any model has. Below it, no product of two sizes overflows.
const MAX_SIZE: usize = 1 << 24;

/// A BERT encoder, as
/// <https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertConfig> defines it.
/// Fields that only matter in training are left out.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct BertConfig {
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    model_type: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    hidden_act: String,
    pub(crate) max_position_embeddings: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) layer_norm_eps: f64,
    #[serde(default)]
    pub(crate) pad_token_id: u32,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    matryoshka_dimensions: Option<Vec<usize>>,
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

impl BertConfig {
    /// Reads and checks `config.json`.
    pub(crate) fn read(dir: &Path) -> Result<Self, EngineError> {
        // The architecture first: another one has other fields, and saying that a field is
        // missing would hide why.
        let named: Named = read_json(dir, FILE)?;
        if named.architectures != [SUPPORTED] || named.model_type != "bert" {
            let found = match named.architectures.as_slice() {
                [] => format!("of the type {:?}", named.model_type),
                several => several.join(", "),
            };
            return Err(EngineError::UnsupportedArchitecture { found, supported: SUPPORTED });
        }
        let config: Self = read_json(dir, FILE)?;
        config.check()?;
        Ok(config)
    }

    pub(crate) fn architecture(&self) -> &str {
        self.architectures.first().map_or(&self.model_type, String::as_str)
    }

    pub(crate) fn model_type(&self) -> &str {
        &self.model_type
    }

    /// <https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/activations.py>
    pub(crate) fn activation(&self) -> Result<Activation, EngineError> {
        match self.hidden_act.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(EngineError::config(
                FILE,
                "hidden_act to be gelu, gelu_new, gelu_pytorch_tanh or relu",
                other,
            )),
        }
    }

    /// The shorter lengths that vectors were trained for, rising
    /// (<https://docs.vllm.ai/en/stable/models/pooling_models/embed.html#matryoshka-embeddings>).
    pub(crate) fn matryoshka(&self) -> Vec<usize> {
        let mut lengths = self.matryoshka_dimensions.clone().unwrap_or_default();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    fn check(&self) -> Result<(), EngineError> {
        self.activation()?;
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            if !(1..=MAX_SIZE).contains(&value) {
                let expected = format!("{name} between 1 and {MAX_SIZE}");
                return Err(EngineError::config(FILE, expected, value));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = "hidden_size to be a multiple of num_attention_heads";
            let found = format!("{} and {}", self.hidden_size, self.num_attention_heads);
            return Err(EngineError::config(FILE, expected, found));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            let expected = "layer_norm_eps between 0 and 1";
            return Err(EngineError::config(FILE, expected, self.layer_norm_eps));
        }
        if usize::try_from(self.pad_token_id).is_ok_and(|pad| pad >= self.vocab_size) {
            let expected = format!("pad_token_id below {}", self.vocab_size);
            return Err(EngineError::config(FILE, expected, self.pad_token_id));
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                let expected = "position_embedding_type to be absolute";
                return Err(EngineError::config(FILE, expected, other));
            }
        }
        for length in self.matryoshka_dimensions.iter().flatten() {
            if !(1..=self.hidden_size).contains(length) {
                let expected = format!(
                    "matryoshka_dimensions between 1 and the vectors' {}",
                    self.hidden_size
                );
                return Err(EngineError::config(FILE, expected, length));
            }
        }
        if self.is_decoder {
            return Err(EngineError::config(FILE, "an encoder", "is_decoder"));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    model_type: String,
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
