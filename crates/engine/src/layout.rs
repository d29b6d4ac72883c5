//! Which tensors a model needs, and whether the weights are those.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::Dtype;
use crate::config::{EncoderConfig, FILE, Names};
use crate::error::EngineError;
use crate::projection::ProjectionConfig;
use crate::weights::{Floats, Stored, Values, Weights};

/// Rows are tokens of the vocabulary.
pub(crate) const VOCABULARY: &str = "embeddings.word_embeddings.weight";
pub(crate) const POSITIONS: &str = "embeddings.position_embeddings.weight";
pub(crate) const TOKEN_TYPES: &str = "embeddings.token_type_embeddings.weight";
/// What is added to the scores of two tokens for how far apart they are.
pub(crate) const BUCKETS: &str = "encoder.relative_attention_bias.weight";

/// The tensors of a model: all there, of the right shape, every number finite.
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
    /// Takes the needed tensors out of the weights. Others, such as a pooler that nothing comes
    /// of, are dropped.
    pub(crate) fn take(
        mut weights: Weights,
        config: &EncoderConfig,
        projections: &[ProjectionConfig],
    ) -> Result<Self, EngineError> {
        let headers = weights.headers();
        let mut network = Self { tensors: Vec::new(), dtype: Dtype::F32 };
        for Found { name, stored_name, dtype, shape } in find(&headers, config, projections)? {
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

    /// Takes the numbers of one tensor.
    pub(crate) fn take_tensor(&mut self, name: &str) -> Result<Vec<f32>, EngineError> {
        let at = self.tensors.iter().position(|weight| weight.name == name);
        let missing = || EngineError::TensorMissing { tensor: name.to_owned() };
        Ok(self.tensors.swap_remove(at.ok_or_else(missing)?).values)
    }
}

/// Whether these tensors are those that the configuration asks for, without their numbers.
pub(crate) fn check(
    headers: &BTreeMap<String, TensorHeader>,
    config: &EncoderConfig,
    projections: &[ProjectionConfig],
) -> Result<(), EngineError> {
    find(headers, config, projections).map(drop)
}

/// The needed tensors: all there, of a format that is served and of the right shape. Layers that
/// `config.json` does not count are an error, because a model without its last layers answers
/// wrongly without failing.
fn find(
    headers: &BTreeMap<String, TensorHeader>,
    config: &EncoderConfig,
    projections: &[ProjectionConfig],
) -> Result<Vec<Found>, EngineError> {
    let mut stored = by_canonical_name(headers, config.names)?;
    let mut all = Vec::new();
    for (name, shape) in all_needed(config, projections) {
        let Some((stored_name, header)) = stored.remove(&name) else {
            return Err(EngineError::TensorMissing { tensor: name });
        };
        let stored_name = stored_name.to_owned();
        let dtype = check_header(&stored_name, header, &shape)?;
        all.push(Found { name, stored_name, dtype, shape });
    }
    match stored.keys().filter_map(|name| layer(name, config.names)).max() {
        Some(layer) if layer >= config.layers => Err(EngineError::config(
            FILE,
            format!("{} to be at least {}, as the weights have", config.names.layers, layer + 1),
            config.layers,
        )),
        _ => Ok(all),
    }
}

/// Tensors by canonical name, each with the name it is stored under.
fn by_canonical_name<'a>(
    headers: &'a BTreeMap<String, TensorHeader>,
    names: &Names,
) -> Result<BTreeMap<String, (&'a str, &'a TensorHeader)>, EngineError> {
    let mut tensors: BTreeMap<String, (&str, &TensorHeader)> = BTreeMap::new();
    for (name, header) in headers {
        match tensors.entry(canonical(name, names)) {
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
fn canonical(name: &str, names: &Names) -> String {
    let name = name.strip_prefix(names.prefix).unwrap_or(name);
    if let Some(norm) = name.strip_suffix("LayerNorm.gamma") {
        format!("{norm}LayerNorm.weight")
    } else if let Some(norm) = name.strip_suffix("LayerNorm.beta") {
        format!("{norm}LayerNorm.bias")
    } else {
        name.to_owned()
    }
}

/// The layer that a tensor belongs to.
fn layer(name: &str, names: &Names) -> Option<usize> {
    let rest = name.strip_prefix(names.layer)?;
    rest.split('.').next()?.parse().ok()
}

/// Name and shape of every tensor that takes part in an output.
pub(crate) fn all_needed(
    config: &EncoderConfig,
    projections: &[ProjectionConfig],
) -> impl Iterator<Item = (String, Vec<usize>)> {
    needed(config).chain(projections.iter().flat_map(ProjectionConfig::needed))
}

/// Those of the encoder.
pub(crate) fn needed(config: &EncoderConfig) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
    let EncoderConfig { hidden, intermediate: inner, names, .. } = *config;
    let types = config.token_types;
    let buckets = config.buckets.map(|rows| (BUCKETS, vec![rows, config.heads]));
    let embeddings = [
        Some((VOCABULARY, vec![config.vocabulary, hidden])),
        Some((POSITIONS, vec![config.positions.rows, hidden])),
        types.map(|rows| (TOKEN_TYPES, vec![rows, hidden])),
        Some(("embeddings.LayerNorm.weight", vec![hidden])),
        Some(("embeddings.LayerNorm.bias", vec![hidden])),
        buckets,
    ];
    let linear = [
        (names.query, hidden, hidden),
        (names.key, hidden, hidden),
        (names.value, hidden, hidden),
        (names.attention, hidden, hidden),
        (names.inner, inner, hidden),
        (names.outer, hidden, inner),
    ];
    let norms = [names.attention_norm, names.outer_norm];
    let layers = (0..config.layers).flat_map(move |layer| {
        let linear = linear.into_iter().flat_map(|(part, rows, columns)| {
            [(part, "weight", vec![rows, columns]), (part, "bias", vec![rows])]
        });
        let norms = norms
            .into_iter()
            .flat_map(move |part| [(part, "weight", vec![hidden]), (part, "bias", vec![hidden])]);
        let of_layer = linear.chain(norms);
        of_layer.map(move |(part, kind, shape)| {
            (format!("{}{layer}.{part}.{kind}", names.layer), shape)
        })
    });
    let embeddings = embeddings.into_iter().flatten();
    embeddings.map(|(name, shape)| (name.to_owned(), shape)).chain(layers)
}
