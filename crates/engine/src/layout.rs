//! Which tensors a BERT encoder needs, and whether the weights are those.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::Dtype;
use crate::config::{BertConfig, FILE};
use crate::error::EngineError;
use crate::weights::{Stored, Values, Weights};

/// Rows are tokens of the vocabulary.
const VOCABULARY: &str = "embeddings.word_embeddings.weight";
/// Checkpoints of models with a head keep the encoder below this name.
const PREFIX: &str = "bert.";

/// The tensors of an encoder: all there, of the right shape, every number finite.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) tensors: Vec<Weight>,
    /// The stored number format of the embedding table.
    pub(crate) dtype: Dtype,
}

#[derive(Debug)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Network {
    /// Takes the needed tensors out of the weights. Others, such as a head or a table of
    /// positions, are dropped; layers that `config.json` does not count are an error, because
    /// a model without its last layers answers wrongly without failing.
    pub(crate) fn take(weights: Weights, config: &BertConfig) -> Result<Self, EngineError> {
        let mut stored = by_canonical_name(weights)?;
        let mut network = Self { tensors: Vec::new(), dtype: Dtype::F32 };
        for (name, shape) in needed(config) {
            let Some((stored_name, stored)) = stored.remove(&name) else {
                return Err(EngineError::TensorMissing { tensor: name });
            };
            let (dtype, values) = check(stored_name, stored, &shape)?;
            if name == VOCABULARY {
                network.dtype = dtype;
            }
            network.tensors.push(Weight { name, shape, values });
        }
        match stored.keys().filter_map(|name| layer(name)).max() {
            Some(layer) if layer >= config.num_hidden_layers => Err(EngineError::config(
                FILE,
                format!("num_hidden_layers to be at least {}, as the weights have", layer + 1),
                config.num_hidden_layers,
            )),
            _ => Ok(network),
        }
    }
}

/// Tensors by canonical name, each with the name it is stored under.
fn by_canonical_name(weights: Weights) -> Result<BTreeMap<String, (String, Stored)>, EngineError> {
    let mut tensors: BTreeMap<String, (String, Stored)> = BTreeMap::new();
    for (name, stored) in weights.tensors {
        match tensors.entry(canonical(&name)) {
            Entry::Vacant(free) => {
                free.insert((name, stored));
            }
            // Which of the two the model was trained with cannot be known.
            Entry::Occupied(taken) => {
                let (other, Stored { file, .. }) = taken.get();
                let problem = format!("{name} is the same tensor as {other} in {file}");
                return Err(EngineError::HeaderInvalid { file: stored.file, problem });
            }
        }
    }
    Ok(tensors)
}

fn check(
    tensor: String,
    stored: Stored,
    expected: &[usize],
) -> Result<(Dtype, Vec<f32>), EngineError> {
    let Stored { file, shape, values } = stored;
    let (dtype, values) = match values {
        Values::Floats(dtype, values) => (dtype, values),
        Values::Other(other) => {
            let found = format!("{other:?}");
            return Err(EngineError::UnsupportedDtype { file, tensor, found });
        }
    };
    if shape != expected {
        return Err(EngineError::TensorShapeMismatch {
            file,
            tensor,
            expected: expected.to_vec(),
            found: shape,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(EngineError::WeightsNonFinite { file, tensor, index, found: values[index] })
        }
        None => Ok((dtype, values)),
    }
}

/// Names differ with a checkpoint's age: early ones say gamma and beta
/// (<https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/modeling_utils.py>).
fn canonical(name: &str) -> String {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some(norm) = name.strip_suffix("LayerNorm.gamma") {
        format!("{norm}LayerNorm.weight")
    } else if let Some(norm) = name.strip_suffix("LayerNorm.beta") {
        format!("{norm}LayerNorm.bias")
    } else {
        name.to_owned()
    }
}

/// The layer that a tensor belongs to.
fn layer(name: &str) -> Option<usize> {
    let rest = name.strip_prefix("encoder.layer.")?;
    rest.split('.').next()?.parse().ok()
}

/// Name and shape of every tensor that takes part in an output.
pub(crate) fn needed(config: &BertConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    let hidden = config.hidden_size;
    let inner = config.intermediate_size;
    let embeddings = [
        ("embeddings.word_embeddings.weight", vec![config.vocab_size, hidden]),
        ("embeddings.position_embeddings.weight", vec![config.max_position_embeddings, hidden]),
        ("embeddings.token_type_embeddings.weight", vec![config.type_vocab_size, hidden]),
        ("embeddings.LayerNorm.weight", vec![hidden]),
        ("embeddings.LayerNorm.bias", vec![hidden]),
    ];
    let linear = [
        ("attention.self.query", hidden, hidden),
        ("attention.self.key", hidden, hidden),
        ("attention.self.value", hidden, hidden),
        ("attention.output.dense", hidden, hidden),
        ("intermediate.dense", inner, hidden),
        ("output.dense", hidden, inner),
    ];
    let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
    let layers = (0..config.num_hidden_layers).flat_map(move |layer| {
        let linear = linear.into_iter().flat_map(|(part, rows, columns)| {
            [(part, "weight", vec![rows, columns]), (part, "bias", vec![rows])]
        });
        let norms = norms
            .into_iter()
            .flat_map(move |part| [(part, "weight", vec![hidden]), (part, "bias", vec![hidden])]);
        linear
            .chain(norms)
            .map(move |(part, kind, shape)| (format!("encoder.layer.{layer}.{part}.{kind}"), shape))
    });
    embeddings.into_iter().map(|(name, shape)| (name.to_owned(), shape)).chain(layers)
}
