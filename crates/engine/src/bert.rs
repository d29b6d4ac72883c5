//! A BERT model on a device that candle has code for; on the processor it is [`crate::cpu`].
//!
//! Batches are padded on the right to their longest text. Padding takes no part: no token looks
//! at it, and pooling takes only a text's own tokens.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::batch::limits;
use crate::config::BertConfig;
use crate::encoder::Encoder;
use crate::error::EngineError;
use crate::layout::Network;
use crate::pooling::normalize;
use crate::tokenizer::Tokenizer;
use crate::{Engine, Facts, Limits, Tokens};

pub(crate) struct Bert {
    encoder: Encoder,
    device: Device,
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
        device: Device,
    ) -> Result<Self, EngineError> {
        let tensors = network
            .tensors
            .into_iter()
            .map(|weight| {
                // On the processor this takes the vector over, without a copy.
                let tensor = Tensor::from_vec(weight.values, weight.shape, &device)?;
                Ok((weight.name, tensor))
            })
            .collect::<candle_core::Result<_>>()
            .map_err(EngineError::run)?;
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &device);
        let activation = config.activation()?;
        Ok(Self {
            encoder: Encoder::load(&tensors, config, activation).map_err(EngineError::run)?,
            device,
            tokenizer,
            facts,
            padding: config.pad_token_id,
        })
    }

    /// The token vectors of all texts, one after the other, each padded to `length` tokens.
    fn forward(&self, batch: &[Tokens], length: usize) -> candle_core::Result<Vec<f32>> {
        let mut ids = Vec::with_capacity(batch.len() * length);
        for text in batch {
            ids.extend(&text.ids);
            ids.resize(ids.len() + length - text.ids.len(), self.padding);
        }
        let ids = Tensor::from_vec(ids, (batch.len(), length), &self.device)?;
        let lengths: Vec<usize> = batch.iter().map(|text| text.ids.len()).collect();
        self.encoder.forward(&ids, &lengths)?.flatten_all()?.to_vec1()
    }
}

impl Engine for Bert {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn limits(&self) -> Limits {
        limits(self.facts.max_tokens)
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
