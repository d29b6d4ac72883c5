//! Which tensors a BERT encoder needs, and whether the weights are those.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::Dtype;
use crate::config::{BertConfig, FILE};
use crate::error::EngineError;
use crate::weights::{Floats, Stored, Values, Weights};

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

/// A tensor as the header of its file describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TensorHeader {
    /// The file, relative to the artifact's root.
    pub file: String,
    /// The number format, as safetensors names it.
    pub dtype: safetensors::Dtype,
    /// The lengths of its dimensions, outermost first.
    pub shape: Vec<u64>,
}

/// A needed tensor that is there.
struct Found {
    name: String,
    /// The name it is stored under.
    stored_name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Network {
    /// Takes the needed tensors out of the weights. Others, such as a head or a table of
    /// positions, are dropped.
    pub(crate) fn take(mut weights: Weights, config: &BertConfig) -> Result<Self, EngineError> {
        let headers = weights.headers();
        let mut network = Self { tensors: Vec::new(), dtype: Dtype::F32 };
        for Found { name, stored_name, dtype, shape } in find(&headers, config)? {
            let stored = weights.tensors.remove(&stored_name);
            let Some(Stored { file, values: Values::Floats(floats), .. }) = stored else {
                return Err(EngineError::TensorMissing { tensor: name });
            };
            let values = finite(file, stored_name, floats)?;
            if name == VOCABULARY {
                network.dtype = dtype;
            }
            network.tensors.push(Weight { name, shape, values });
        }
        Ok(network)
    }
}

/// Whether these tensors are those that the configuration asks for, without their numbers.
pub(crate) fn check(
    headers: &BTreeMap<String, TensorHeader>,
    config: &BertConfig,
) -> Result<(), EngineError> {
    find(headers, config).map(drop)
}

/// The needed tensors: all there, of a format that is served and of the right shape. Layers that
/// `config.json` does not count are an error, because a model without its last layers answers
/// wrongly without failing.
fn find(
    headers: &BTreeMap<String, TensorHeader>,
    config: &BertConfig,
) -> Result<Vec<Found>, EngineError> {
    let mut stored = by_canonical_name(headers)?;
    let mut all = Vec::new();
    for (name, shape) in needed(config) {
        let Some((stored_name, header)) = stored.remove(&name) else {
            return Err(EngineError::TensorMissing { tensor: name });
        };
        let stored_name = stored_name.to_owned();
        let dtype = check_header(&stored_name, header, &shape)?;
        all.push(Found { name, stored_name, dtype, shape });
    }
    match stored.keys().filter_map(|name| layer(name)).max() {
        Some(layer) if layer >= config.num_hidden_layers => Err(EngineError::config(
            FILE,
            format!("num_hidden_layers to be at least {}, as the weights have", layer + 1),
            config.num_hidden_layers,
        )),
        _ => Ok(all),
    }
}

/// Tensors by canonical name, each with the name it is stored under.
fn by_canonical_name(
    headers: &BTreeMap<String, TensorHeader>,
) -> Result<BTreeMap<String, (&str, &TensorHeader)>, EngineError> {
    let mut tensors: BTreeMap<String, (&str, &TensorHeader)> = BTreeMap::new();
    for (name, header) in headers {
        match tensors.entry(canonical(name)) {
            Entry::Vacant(free) => {
                free.insert((name, header));
            }
            // Which of the two the model was trained with cannot be known.
            Entry::Occupied(taken) => {
                let (other, TensorHeader { file, .. }) = taken.get();
                let problem = format!("{name} is the same tensor as {other} in {file}");
                return Err(EngineError::HeaderInvalid { file: header.file.clone(), problem });
            }
        }
    }
    Ok(tensors)
}

fn check_header(
    tensor: &str,
    header: &TensorHeader,
    expected: &[usize],
) -> Result<Dtype, EngineError> {
    let TensorHeader { file, dtype, shape } = header;
    let (file, tensor) = (file.clone(), tensor.to_owned());
    let dtype = match dtype {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::BF16,
        other => {
            let found = format!("{other:?}");
            return Err(EngineError::UnsupportedDtype { file, tensor, found });
        }
    };
    // A length that does not fit is no length that is expected.
    let found: Vec<usize> =
        shape.iter().map(|&length| usize::try_from(length).unwrap_or(usize::MAX)).collect();
    if found == expected {
        return Ok(dtype);
    }
    Err(EngineError::TensorShapeMismatch { file, tensor, expected: expected.to_vec(), found })
}

fn finite(file: String, tensor: String, floats: Floats) -> Result<Vec<f32>, EngineError> {
    let Floats { values, non_finite, .. } = floats;
    match non_finite {
        Some(index) => {
            Err(EngineError::WeightsNonFinite { file, tensor, index, found: values[index] })
        }
        None => Ok(values),
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
