//! A BERT encoder on candle's own implementation.
//!
//! Batches are padded on the right to their longest text. Padding takes no part: the attention
//! mask adds the smallest float to its scores, whose exponential is zero, and pooling looks
//! only at a text's own tokens.

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct, PositionEmbeddingType};

use crate::config::{Activation, BertConfig};
use crate::error::EngineError;
use crate::layout::Network;
use crate::pooling::normalize;
use crate::tokenizer::Tokenizer;
use crate::{Engine, Facts, Limits, Tokens};

/// A batch of this many tokens keeps two cores as busy as a larger one does, and what waits
/// behind it waits a few hundred milliseconds at most.
const MAX_BATCH_TOKENS: usize = 1024;
const MAX_BATCH_TEXTS: usize = 32;

pub(crate) struct Bert {
    model: BertModel,
    tokenizer: Tokenizer,
    facts: Facts,
    padding: u32,
}

impl Bert {
    /// Moves the tensors to the device.
    pub(crate) fn new(
        config: &BertConfig,
        network: Network,
        tokenizer: Tokenizer,
        facts: Facts,
        device: &candle_core::Device,
    ) -> Result<Self, EngineError> {
        let tensors = network
            .tensors
            .into_iter()
            .map(|weight| {
                // On the processor this takes the vector over, without a copy.
                let tensor = Tensor::from_vec(weight.values, weight.shape, device)?;
                Ok((weight.name, tensor))
            })
            .collect::<candle_core::Result<_>>()
            .map_err(EngineError::run)?;
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, device);
        Ok(Self {
            model: BertModel::load(tensors, &candle_config(config)?).map_err(EngineError::run)?,
            tokenizer,
            facts,
            padding: config.pad_token_id,
        })
    }

    /// The token vectors of all texts, one after the other, each padded to `length` tokens.
    fn forward(&self, batch: &[Tokens], length: usize) -> candle_core::Result<Vec<f32>> {
        let mut ids = Vec::with_capacity(batch.len() * length);
        let mut mask = Vec::with_capacity(batch.len() * length);
        for text in batch {
            ids.extend(&text.ids);
            mask.resize(ids.len(), 1_u32);
            ids.resize(ids.len() + length - text.ids.len(), self.padding);
            mask.resize(ids.len(), 0_u32);
        }
        let shape = (batch.len(), length);
        let device = &self.model.device;
        let ids = Tensor::from_vec(ids, shape, device)?;
        let mask = Tensor::from_vec(mask, shape, device)?;
        let types = ids.zeros_like()?;
        self.model.forward(&ids, &types, Some(&mask))?.flatten_all()?.to_vec1()
    }
}

impl Engine for Bert {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn limits(&self) -> Limits {
        Limits {
            max_batch_tokens: MAX_BATCH_TOKENS.max(self.facts.max_tokens),
            max_batch_texts: MAX_BATCH_TEXTS,
        }
    }

    fn tokenize(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError> {
        self.tokenizer.encode(texts)
    }

    fn tokenize_truncated(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError> {
        self.tokenizer.encode_truncated(texts)
    }

    fn embed(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>, EngineError> {
        let Some(length) = self.limits().check(batch)? else {
            return Ok(Vec::new());
        };
        let dimensions = self.facts.dimensions;
        let outputs = self.forward(batch, length).map_err(EngineError::run)?;
        let texts = batch.iter().zip(outputs.chunks_exact(length * dimensions));
        let vectors = texts.map(|(text, rows)| {
            let tokens = &rows[..text.ids.len() * dimensions];
            let mut vector = self.facts.pooling.apply(tokens, dimensions);
            if self.facts.normalized {
                normalize(&mut vector);
            }
            vector
        });
        let vectors: Vec<_> = vectors.collect();
        crate::batch::check_finite(&vectors)?;
        Ok(vectors)
    }
}

/// Fields that only matter in training have values that are never read.
fn candle_config(config: &BertConfig) -> Result<Config, EngineError> {
    Ok(Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: match config.activation()? {
            Activation::Gelu => HiddenAct::Gelu,
            Activation::GeluTanh => HiddenAct::GeluApproximate,
            Activation::Relu => HiddenAct::Relu,
        },
        hidden_dropout_prob: 0.0,
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: config.type_vocab_size,
        initializer_range: 0.0,
        layer_norm_eps: config.layer_norm_eps,
        pad_token_id: 0,
        position_embedding_type: PositionEmbeddingType::Absolute,
        use_cache: false,
        classifier_dropout: None,
        model_type: None,
    })
}
