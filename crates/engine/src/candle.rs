//! A model of any family on a device that candle has code for. On the processor models run in
//! [`crate::cpu`], and here only where tests compare the two.
//!
//! Batches are padded on the right to their longest text. Padding takes no part: no token looks
//! at it, and pooling takes only a text's own tokens. How a device divides a product among its
//! cores depends on the size of the batch, so a text's output is the same in any company up to the
//! noise of rounding, and not to the last bit.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::batch::limits;
use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::error::EngineError;
use crate::finish::Finish;
use crate::layout::Network;
use crate::tokenizer::Tokenizer;
use crate::{
    Engine, Facts, Limits, Output, Piece, Precision, Runtime, Shape, Text, Tokens, TooLong,
};

pub(crate) struct Candle {
    encoder: Encoder,
    device: Device,
    tokenizer: Tokenizer,
    finish: Finish,
    facts: Facts,
    /// Length of a token's vector.
    width: usize,
}

impl Candle {
    /// Moves the tensors to the device.
    pub(crate) fn new(
        config: &EncoderConfig,
        network: Network,
        tokenizer: Tokenizer,
        finish: Finish,
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
        Ok(Self {
            encoder: Encoder::load(&tensors, config, config.activation)
                .map_err(EngineError::run)?,
            device,
            tokenizer,
            finish,
            facts,
            width: config.hidden,
        })
    }

    /// The token vectors of all texts, one after the other, each padded to the longest.
    fn forward(&self, batch: &[Tokens]) -> candle_core::Result<Vec<f32>> {
        self.encoder.forward(batch)?.flatten_all()?.to_vec1()
    }
}

impl Engine for Candle {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn limits(&self) -> Limits {
        limits(self.facts.max_tokens, Shape::Padded)
    }

    fn runtime(&self) -> Runtime {
        let kernel = if self.device.is_cuda() { "candle-cuda-f32" } else { "candle-cpu-f32" };
        Runtime { kernel: kernel.to_owned(), precision: Precision::F32 }
    }

    fn split(&self, texts: &[Text<'_>], too_long: TooLong) -> Result<Vec<Tokens>, EngineError> {
        self.tokenizer.encode(texts, too_long)
    }

    fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, EngineError> {
        self.tokenizer.pieces(text, special)
    }

    fn join(&self, ids: &[u32], special: bool) -> Result<String, EngineError> {
        self.tokenizer.join(ids, special)
    }

    fn run(&self, batch: &[Tokens], output: Output) -> Result<Vec<Vec<f32>>, EngineError> {
        let Some(length) = self.limits().check(batch)? else {
            return Ok(Vec::new());
        };
        self.facts.gives.check(output)?;
        let width = self.width;
        let outputs = self.forward(batch).map_err(EngineError::run)?;
        let texts = batch.iter().zip(outputs.chunks_exact(length * width));
        let outputs = texts
            .map(|(text, rows)| self.finish.output(&rows[..text.ids.len() * width], width, output));
        let vectors: Vec<_> = outputs.collect();
        crate::batch::check_finite(&vectors)?;
        Ok(vectors)
    }
}
