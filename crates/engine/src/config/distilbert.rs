//! DistilBERT: BERT's network without token types, under names of its own
//! (<https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/distilbert/modeling_distilbert.py>).

use std::path::Path;

use serde::Deserialize;

use super::family::{Family, Names};
use super::{Activation, EncoderConfig, FILE, Positions, check_heads, check_lengths, read_json};
use crate::error::EngineError;
use crate::projection::Then;

/// Not in the file, but in the code.
const EPSILON: f64 = 1e-12;

pub(super) const DISTILBERT: Family = Family {
    model_type: "distilbert",
    class: "DistilBert",
    read,
    head: [("pre_classifier", Then::Relu), ("classifier", Then::Nothing)],
};

const NAMES: Names = Names {
    prefix: "distilbert.",
    layers: "n_layers",
    layer: "transformer.layer.",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    inner: "ffn.lin1",
    outer: "ffn.lin2",
    outer_norm: "output_layer_norm",
};

/// The fields of the file, as
/// <https://huggingface.co/docs/transformers/model_doc/distilbert#transformers.DistilBertConfig>
/// defines them. Sinusoidal positions are numbers of the table like any others.
#[derive(Deserialize)]
struct Fields {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: String,
    max_position_embeddings: usize,
    #[serde(default)]
    pad_token_id: u32,
}

fn read(dir: &Path) -> Result<EncoderConfig, EngineError> {
    let fields: Fields = read_json(dir, FILE)?;
    check_lengths([
        ("vocab_size", fields.vocab_size),
        ("dim", fields.dim),
        ("n_layers", fields.n_layers),
        ("n_heads", fields.n_heads),
        ("hidden_dim", fields.hidden_dim),
        ("max_position_embeddings", fields.max_position_embeddings),
    ])?;
    check_heads(("dim", fields.dim), ("n_heads", fields.n_heads))?;
    Ok(EncoderConfig {
        vocabulary: fields.vocab_size,
        hidden: fields.dim,
        layers: fields.n_layers,
        heads: fields.n_heads,
        intermediate: fields.hidden_dim,
        activation: Activation::named("activation", &fields.activation)?,
        epsilon: EPSILON,
        padding: fields.pad_token_id,
        positions: Positions { rows: fields.max_position_embeddings, after: None },
        token_types: None,
        buckets: None,
        names: &NAMES,
    })
}
