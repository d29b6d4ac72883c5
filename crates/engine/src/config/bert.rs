//! BERT: <https://huggingface.co/docs/transformers/model_doc/bert>. What
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/bert/modeling_bert.py>
//! computes.

use std::path::Path;

use serde::Deserialize;

use super::family::{Family, Names};
use super::{Activation, EncoderConfig, FILE, Positions, check_heads, check_lengths, read_json};
use crate::error::EngineError;
use crate::projection::Then;

pub(super) const BERT: Family = Family {
    model_type: "bert",
    class: "Bert",
    read: |dir| Fields::read(dir)?.encoder(&NAMES, None),
    head: [("pooler.dense", Then::Tanh), ("classifier", Then::Nothing)],
};

const NAMES: Names = Names { prefix: "bert.", ..LAYER };

/// The names of a layer's tensors, which later families have kept.
pub(super) const LAYER: Names = Names {
    prefix: "",
    layers: "num_hidden_layers",
    layer: "encoder.layer.",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    inner: "intermediate.dense",
    outer: "output.dense",
    outer_norm: "output.LayerNorm",
};

/// The fields of the file, as
/// <https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertConfig> defines them.
/// Those that only matter in training are left out.
#[derive(Deserialize)]
pub(super) struct Fields {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    #[serde(default)]
    pub(super) pad_token_id: Option<u32>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

impl Fields {
    pub(super) fn read(dir: &Path) -> Result<Self, EngineError> {
        read_json(dir, FILE)
    }

    /// `after` is the token id after which positions begin, if they do not begin with 0.
    pub(super) fn encoder(
        self,
        names: &'static Names,
        after: Option<u32>,
    ) -> Result<EncoderConfig, EngineError> {
        let activation = Activation::named("hidden_act", &self.hidden_act)?;
        check_lengths([
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        check_heads(
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
        )?;
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                let expected = "position_embedding_type to be absolute";
                return Err(EngineError::config(FILE, expected, other));
            }
        }
        if self.is_decoder {
            return Err(EngineError::config(FILE, "an encoder", "is_decoder"));
        }
        Ok(EncoderConfig {
            vocabulary: self.vocab_size,
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            activation,
            epsilon: self.layer_norm_eps,
            padding: self.pad_token_id.unwrap_or(0),
            positions: Positions { rows: self.max_position_embeddings, after },
            token_types: Some(self.type_vocab_size),
            buckets: None,
            names,
        })
    }
}
