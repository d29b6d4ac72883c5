//! An encoder on the processor, step by step as [`crate::encoder`] has it for any device, with
//! what other families have changed about BERT's.
//!
//! The tokens of all texts of a batch lie one after the other, without padding: one matrix with a
//! row for each token. In shapes, T is the number of tokens and H the length of their vectors.

mod load;
mod run;

use super::attention;
use super::buffer::Buffer;
use super::kernel::Kernel;
use super::linear::{Linear, Rounded};
use super::relative::Relative;
use super::team::Share;
use crate::Tokens;
use crate::config::Activation;
use crate::pooling::Wanted;

pub(crate) use run::Run;

/// The weights of an encoder, in the order in which they are read.
pub(crate) struct Encoder {
    kernel: Kernel,
    hidden: usize,
    heads: usize,
    activation: Activation,
    epsilon: f32,
    /// `[vocabulary, H]`.
    words: Vec<f32>,
    /// `[positions, H]`.
    positions: Vec<f32>,
    /// The token id that is no position, if there is one, and the others come after it.
    after: Option<u32>,
    /// `[token types, H]`: of the first text of a pair and of its second; all zero where the family
    /// has none.
    types: Vec<f32>,
    relative: Option<Relative>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Scaled beforehand.
    queries: Linear,
    /// Keys and values side by side.
    attended: Linear,
    attention: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
}

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

/// Memory of a run, to be used again.
#[derive(Default)]
pub(crate) struct Scratch {
    /// T; behind the last layer as many tokens as were wanted.
    count: usize,
    /// H.
    width: usize,
    /// Of each text, how many tokens it has.
    lengths: Vec<usize>,
    /// `[T, H]`: what comes out.
    tokens: Buffer,
    /// The rows of those tokens that are wanted, where not all are.
    wanted: Buffer,
    /// `[T, H]`.
    added: Buffer,
    /// `[T, intermediate_size]`, or as many rows of it as are computed at once.
    inner: Buffer,
    /// What layers are applied to, where they multiply pairs.
    rounded: Rounded,
    /// Of the tokens that are wanted, where not all are.
    wanted_rounded: Rounded,
    /// What comes out of the first layer of a feed-forward, for the second one.
    between: Rounded,
    /// `[T, H]`, or of some of the heads at a time.
    queries: Buffer,
    /// `[T, 2 H]`, or of some of the heads at a time; then `[T, H]`.
    attended: Buffer,
    attention: attention::Memory,
}

impl Scratch {
    /// Of each text of the last run, one after the other, the vectors of those tokens that were wanted:
    /// rows of H numbers.
    pub(crate) fn tokens(&self) -> &[f32] {
        self.tokens.get(self.count * self.width)
    }
}

impl Encoder {
    /// What it computes with.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Computes with the other kernel that it was loaded for.
    pub(crate) fn compute_with(&mut self, kernel: Kernel) {
        self.kernel = kernel;
    }

    /// Gives the memory back that only the other kernel needs.
    pub(crate) fn keep(&mut self) {
        for layer in &mut self.layers {
            let Layer { queries, attended, attention, inner, outer, .. } = layer;
            for linear in [queries, attended, attention, inner, outer] {
                linear.keep(self.kernel);
            }
        }
    }

    /// What its weights take in memory, but for vectors such as biases.
    pub(crate) fn bytes(&self) -> u64 {
        let tables = [&self.words, &self.positions, &self.types];
        let tables = tables.into_iter().map(|table| size_of_val(table.as_slice()) as u64);
        let linears = self.layers.iter().flat_map(|layer| {
            let Layer { queries, attended, attention, inner, outer, .. } = layer;
            [queries, attended, attention, inner, outer].map(Linear::bytes)
        });
        tables.chain(linears).sum()
    }

    /// Length of a token's vector.
    pub(crate) fn width(&self) -> usize {
        self.hidden
    }

    /// The same, computing with the other kernel that it was loaded for.
    pub(crate) fn with(&self, kernel: Kernel) -> Run<'_> {
        Run { encoder: self, kernel }
    }

    /// As [`Run::forward`], with its own kernel.
    pub(crate) fn forward(
        &self,
        batch: &[Tokens],
        wanted: Wanted,
        scratch: &mut Scratch,
        share: &Share<'_>,
    ) -> Option<()> {
        self.with(self.kernel).forward(batch, wanted, scratch, share)
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
