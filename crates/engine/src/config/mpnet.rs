//! MPNet: scores of attention also depend on how far apart two tokens are, alike in all layers
//! (<https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/mpnet/modeling_mpnet.py>).

use std::path::Path;

use serde::Deserialize;

use super::bert::LAYER;
use super::family::{Family, Names};
use super::{Activation, EncoderConfig, FILE, Positions, check_heads, check_lengths, read_json};
use crate::error::EngineError;
use crate::projection::Then;

/// Whatever `pad_token_id` is: the code has this number.
const PADDING: u32 = 1;
/// Whatever the file says, the code counts with as many.
const BUCKETS: usize = 32;

pub(super) const MPNET: Family = Family {
    model_type: "mpnet",
    class: "MPNet",
    read,
    head: [("classifier.dense", Then::Tanh), ("classifier.out_proj", Then::Nothing)],
};

const NAMES: Names = Names {
    prefix: "mpnet.",
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attention: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..LAYER
};

/// The fields of the file, as
/// <https://huggingface.co/docs/transformers/model_doc/mpnet#transformers.MPNetConfig> defines them.
#[derive(Deserialize)]
struct Fields {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    #[serde(default = "buckets")]
    relative_attention_num_buckets: usize,
}

fn buckets() -> usize {
    BUCKETS
}

fn read(dir: &Path) -> Result<EncoderConfig, EngineError> {
    let fields: Fields = read_json(dir, FILE)?;
    check_lengths([
        ("vocab_size", fields.vocab_size),
        ("hidden_size", fields.hidden_size),
        ("num_hidden_layers", fields.num_hidden_layers),
        ("num_attention_heads", fields.num_attention_heads),
        ("intermediate_size", fields.intermediate_size),
        ("max_position_embeddings", fields.max_position_embeddings),
    ])?;
    check_heads(
        ("hidden_size", fields.hidden_size),
        ("num_attention_heads", fields.num_attention_heads),
    )?;
    if fields.relative_attention_num_buckets != BUCKETS {
        let expected = format!("relative_attention_num_buckets to be {BUCKETS}");
        return Err(EngineError::config(FILE, expected, fields.relative_attention_num_buckets));
    }
    Ok(EncoderConfig {
        vocabulary: fields.vocab_size,
        hidden: fields.hidden_size,
        layers: fields.num_hidden_layers,
        heads: fields.num_attention_heads,
        intermediate: fields.intermediate_size,
        activation: Activation::named("hidden_act", &fields.hidden_act)?,
        epsilon: fields.layer_norm_eps,
        padding: PADDING,
        positions: Positions { rows: fields.max_position_embeddings, after: Some(PADDING) },
        token_types: None,
        buckets: Some(BUCKETS),
        names: &NAMES,
    })
}
