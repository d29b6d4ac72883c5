//! The engine for the processor: its own kernels, on packed tokens.
//!
//! A batch runs on the thread that asks for it; whoever wants several cores asks from several threads.
//! A run that is alone may have the other cores too ([`team`]).
//! A text's vector is bit for bit the same alone and in any batch, because no number of it depends on
//! what else is computed.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the dispatched function has no vector instructions"
)]

mod activation;
mod attention;
mod bf16;
mod buffer;
mod comparison;
mod encoder;
#[cfg(test)]
mod encoder_fixture;
pub(crate) mod kernel;
mod linear;
mod panels;
pub(crate) mod relative;
mod rows;
pub(crate) mod team;

use std::sync::{Arc, Mutex, PoisonError};

pub use bf16::WrongProduct;

use encoder::{Encoder, Scratch};
use kernel::Kernel;
use team::Cores;

use crate::batch::limits;
use crate::config::EncoderConfig;
use crate::error::EngineError;
use crate::finish::Finish;
use crate::inputs::OutOfTable;
use crate::layout::Network;
use crate::tokenizer::Tokenizer;
use crate::{
    Coldness, Compared, Engine, Facts, Limits, Output, Piece, Precision, Runtime, Shape, Text,
    Tokens, TooLong,
};

pub(crate) struct Cpu {
    encoder: Arc<Encoder>,
    cores: Cores,
    tokenizer: Tokenizer,
    finish: Finish,
    facts: Facts,
    /// As many as ran at the same time.
    scratches: Mutex<Vec<Scratch>>,
    compared: Option<Compared>,
    /// The kernel of 32-bit floats, while it is not settled whether the other will do.
    floats: Option<Kernel>,
}

impl Cpu {
    /// Computes with the kernel, on one core. Where that has a lower precision than 32-bit floats it is
    /// to be [`Cpu::settled`] whether it goes on like that.
    pub(crate) fn new(
        config: &EncoderConfig,
        network: Network,
        tokenizer: Tokenizer,
        finish: Finish,
        facts: Facts,
        kernel: Kernel,
    ) -> Result<Self, EngineError> {
        let is_lower = kernel.precision() != Precision::F32;
        let floats = is_lower.then(|| Kernel::fastest_in(Precision::F32));
        let encoder = Encoder::load(network, config, kernel, floats)?;
        let compared = floats
            .map(|floats| {
                let cosine = comparison::measure(&encoder, floats, &tokenizer, &finish, &facts)?;
                let kernel = kernel.name().to_owned();
                Ok::<_, EngineError>(Compared { kernel, cosine, is_wrong: false })
            })
            .transpose()?;
        let (encoder, scratches) = (Arc::new(encoder), Mutex::default());
        let cores = Cores::one();
        Ok(Self { encoder, cores, tokenizer, finish, facts, scratches, compared, floats })
    }

    /// With a kernel of 32-bit floats if the one of lower precision does not come near enough to it, or
    /// gives what is not right. Without the weights that only the other one needs.
    pub(crate) fn settled(
        mut self,
        is_right: &dyn Fn(&dyn Engine) -> bool,
    ) -> Result<Self, EngineError> {
        let (Some(floats), Some(mut compared)) = (self.floats.take(), self.compared.take()) else {
            return Ok(self);
        };
        let falls_back = !compared.is_near() || !is_right(&self);
        if falls_back {
            self.encoder_alone()?.compute_with(floats);
            // What is wrong in floats, too, is not the precision's fault.
            compared.is_wrong = compared.is_near() && is_right(&self);
        }
        self.encoder_alone()?.keep();
        Ok(Self { compared: Some(compared), ..self })
    }

    /// While nobody computes with it.
    fn encoder_alone(&mut self) -> Result<&mut Encoder, EngineError> {
        let in_use = || EngineError::run("the model is still used by those who were to judge it");
        Arc::get_mut(&mut self.encoder).ok_or_else(in_use)
    }

    /// On these cores.
    pub(crate) fn on(self, cores: Cores) -> Self {
        Self { cores, ..self }
    }

    fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let scratches = || self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = scratches().pop().unwrap_or_default();
        let done = work(&mut scratch);
        scratches().push(scratch);
        done
    }
}

impl Engine for Cpu {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn limits(&self) -> Limits {
        limits(self.facts.max_tokens, Shape::Packed)
    }

    fn runtime(&self) -> Runtime {
        let kernel = self.encoder.kernel();
        Runtime { kernel: kernel.name().to_owned(), precision: kernel.precision() }
    }

    fn compared(&self) -> Option<Compared> {
        self.compared.clone()
    }

    fn bytes(&self) -> u64 {
        self.encoder.bytes()
    }

    fn coldness(&self) -> Coldness {
        Coldness::Memory
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
        if self.limits().check(batch)?.is_none() {
            return Ok(Vec::new());
        }
        self.facts.gives.check(output)?;
        let (width, wanted) = (self.encoder.width(), self.finish.wanted(output));
        let vectors = self.with_scratch(|scratch| {
            self.cores.run(&self.encoder, batch, wanted, scratch)?;
            let mut rest = scratch.tokens();
            let outputs = batch.iter().map(|text| {
                let count = wanted.of(text.ids.len()).len();
                let (tokens, after) = rest.split_at(count * width);
                rest = after;
                self.finish.output(tokens, width, output)
            });
            Some(outputs.collect::<Vec<_>>())
        });
        let vectors = vectors.ok_or_else(|| EngineError::run(OutOfTable))?;
        crate::batch::check_finite(&vectors)?;
        Ok(vectors)
    }
}
