//! A BERT encoder on the processor, step by step as [`crate::encoder`] has it for any device.
//!
//! The tokens of all texts of a batch lie one after the other, without padding: one matrix with a
//! row for each token. In shapes, T is the number of tokens and H `hidden_size`.

use std::collections::HashMap;

use super::buffer::Buffer;
use super::kernel::Kernel;
use super::panels::{Finish, Panels, Product, Rows, padded};
use super::rows::{Normalize, Softmax};
use crate::Tokens;
use crate::config::{Activation, BertConfig};
use crate::error::EngineError;
use crate::layout::{Network, Weight};

/// Queries that are looked at together: their scores stay in the second-level cache, whatever the length
/// of the text.
const QUERIES: usize = 48;

/// The weights of an encoder, in the order in which they are read.
pub(crate) struct Encoder {
    kernel: Kernel,
    hidden: usize,
    heads: usize,
    activation: Activation,
    epsilon: f32,
    /// `[vocabulary, H]`.
    words: Vec<f32>,
    /// `[positions, H]`, each with the first token type.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values side by side. Queries are scaled beforehand.
    attended: Linear,
    attention: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
}

struct Linear {
    weight: Panels,
    bias: Vec<f32>,
}

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

/// Memory of a run, to be used again.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Of each text, how many tokens it has.
    lengths: Vec<usize>,
    /// `[T, H]`: what comes out.
    tokens: Buffer,
    /// `[T, 3 H]`.
    attended: Buffer,
    /// `[T, H]`.
    added: Buffer,
    /// `[T, intermediate_size]`.
    inner: Buffer,
    /// `[QUERIES, L]`.
    scores: Buffer,
    keys: Panels,
    values: Panels,
}

/// Tensors by name, each to be taken once.
struct Tensors(HashMap<String, Vec<f32>>);

impl Tensors {
    fn take(&mut self, name: &str) -> Result<Vec<f32>, EngineError> {
        let missing = || EngineError::TensorMissing { tensor: name.to_owned() };
        self.0.remove(name).ok_or_else(missing)
    }

    fn norm(&mut self, name: &str) -> Result<Norm, EngineError> {
        Ok(Norm {
            gain: self.take(&format!("{name}.weight"))?,
            bias: self.take(&format!("{name}.bias"))?,
        })
    }

    /// Weight and bias.
    fn pair(&mut self, name: &str) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        Ok((self.take(&format!("{name}.weight"))?, self.take(&format!("{name}.bias"))?))
    }
}

impl Linear {
    /// Of weights `[bias.len(), depth]`.
    fn pack(weight: &[f32], bias: &[f32], depth: usize, width: usize) -> Self {
        Self {
            weight: Panels::of_columns(Rows::new(weight, depth), bias.len(), depth, width),
            bias: padded(bias, width),
        }
    }
}

impl Encoder {
    /// Takes the tensors over; of each at most one is there twice at a time.
    pub(crate) fn load(
        network: Network,
        config: &BertConfig,
        kernel: Kernel,
    ) -> Result<Self, EngineError> {
        let tensors = network.tensors.into_iter();
        let mut tensors =
            Tensors(tensors.map(|Weight { name, values, .. }| (name, values)).collect());
        let hidden = config.hidden_size;
        let mut positions = tensors.take("embeddings.position_embeddings.weight")?;
        let types = tensors.take("embeddings.token_type_embeddings.weight")?;
        for row in positions.chunks_exact_mut(hidden) {
            for (number, of_type) in row.iter_mut().zip(&types) {
                *number += of_type;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "float32 is what it is computed in")]
        let epsilon = config.layer_norm_eps as f32;
        Ok(Self {
            kernel,
            hidden,
            heads: config.num_attention_heads,
            activation: config.activation()?,
            epsilon,
            words: tensors.take("embeddings.word_embeddings.weight")?,
            positions,
            norm: tensors.norm("embeddings.LayerNorm")?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(&mut tensors, index, config, Panels::width(kernel)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What it computes with.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Length of a token's vector.
    pub(crate) fn width(&self) -> usize {
        self.hidden
    }

    /// The token vectors of all texts, one after the other. Every id is in the vocabulary, and no text
    /// has more tokens than there are positions; otherwise there are none.
    pub(crate) fn forward<'a>(
        &self,
        batch: &[Tokens],
        scratch: &'a mut Scratch,
    ) -> Option<&'a [f32]> {
        let lengths = batch.iter().map(|text| text.ids.len());
        scratch.lengths.clear();
        scratch.lengths.extend(lengths);
        let count: usize = scratch.lengths.iter().sum();
        self.embed(batch, scratch.tokens.take(count * self.hidden))?;
        for layer in &self.layers {
            self.attend(layer, count, scratch);
            self.feed_forward(layer, count, scratch);
        }
        Some(scratch.tokens.get(count * self.hidden))
    }

    fn embed(&self, batch: &[Tokens], tokens: &mut [f32]) -> Option<()> {
        let mut rows = tokens.chunks_exact_mut(self.hidden);
        for text in batch {
            for ((position, id), row) in text.ids.iter().enumerate().zip(&mut rows) {
                let word = self.row(&self.words, usize::try_from(*id).ok()?)?;
                let position = self.row(&self.positions, position)?;
                for ((number, word), position) in row.iter_mut().zip(word).zip(position) {
                    *number = word + position;
                }
            }
        }
        self.normalize(&self.norm, tokens, &[]);
        Some(())
    }

    fn row<'a>(&self, table: &'a [f32], at: usize) -> Option<&'a [f32]> {
        table.get(at * self.hidden..)?.get(..self.hidden)
    }

    fn normalize(&self, norm: &Norm, rows: &mut [f32], added: &[f32]) {
        let Norm { gain, bias } = norm;
        self.kernel.dispatch(Normalize { rows, added, gain, bias, epsilon: self.epsilon });
    }

    /// `out = left × layer`, finished, for so many rows.
    fn apply(
        &self,
        linear: &Linear,
        rows: usize,
        left: &[f32],
        out: &mut [f32],
        activation: Option<Activation>,
    ) {
        self.kernel.dispatch(Product {
            left: Rows::new(left, linear.weight.depth()),
            rows,
            right: &linear.weight,
            finish: match activation {
                None => Finish::Bias(&linear.bias),
                Some(activation) => Finish::Activated(&linear.bias, activation),
            },
            out_stride: out.len() / rows.max(1),
            out,
            padded: false,
        });
    }

    fn attend(&self, layer: &Layer, count: usize, scratch: &mut Scratch) {
        let hidden = self.hidden;
        let attended = scratch.attended.take(count * 3 * hidden);
        self.apply(&layer.attended, count, scratch.tokens.get(count * hidden), attended, None);
        scratch.added.take(count * hidden);
        let mut first = 0;
        for text in 0..scratch.lengths.len() {
            let length = scratch.lengths[text];
            for head in 0..self.heads {
                self.attend_head(first, length, head, scratch);
            }
            first += length;
        }
        // The queries' memory is free again.
        let attended = scratch.attended.take(count * hidden);
        self.apply(&layer.attention, count, scratch.added.get(count * hidden), attended, None);
        self.normalize(&layer.attention_norm, scratch.tokens.take(count * hidden), attended);
    }

    /// One head of one text: `length` tokens from the token `first` on.
    fn attend_head(&self, first: usize, length: usize, head: usize, scratch: &mut Scratch) {
        let (hidden, size) = (self.hidden, self.hidden / self.heads);
        let Scratch { attended, added, scores, keys, values, .. } = scratch;
        let (stride, end) = (3 * hidden, first + length);
        let attended = attended.get(end * stride);
        let added = added.take(end * hidden);
        let part = |token: usize, index: usize| {
            Rows::new(&attended[token * stride + index * hidden + head * size..], stride)
        };
        let width = Panels::width(self.kernel);
        keys.fill_columns(part(first, 1), length, size, width);
        values.fill_rows(part(first, 2), size, length, width);
        // A whole number of vectors of every instruction set.
        let columns = keys.padded_columns();
        for query in (first..end).step_by(QUERIES) {
            let queries = QUERIES.min(end - query);
            let scores = scores.take(queries * columns);
            self.kernel.dispatch(Product {
                left: part(query, 0),
                rows: queries,
                right: keys,
                finish: Finish::Plain,
                out: scores,
                out_stride: columns,
                padded: true,
            });
            self.kernel.dispatch(Softmax { rows: scores, stride: columns, length });
            self.kernel.dispatch(Product {
                left: Rows::new(scores, columns),
                rows: queries,
                right: values,
                finish: Finish::Plain,
                out: &mut added[query * hidden + head * size..],
                out_stride: hidden,
                padded: false,
            });
        }
    }

    fn feed_forward(&self, layer: &Layer, count: usize, scratch: &mut Scratch) {
        let Scratch { tokens, added, inner, .. } = scratch;
        let tokens = tokens.take(count * self.hidden);
        let inner = inner.take(count * layer.outer.weight.depth());
        self.apply(&layer.inner, count, tokens, inner, Some(self.activation));
        let added = added.take(count * self.hidden);
        self.apply(&layer.outer, count, inner, added, None);
        self.normalize(&layer.outer_norm, tokens, added);
    }
}

impl Layer {
    fn load(
        tensors: &mut Tensors,
        index: usize,
        config: &BertConfig,
        width: usize,
    ) -> Result<Self, EngineError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        #[expect(clippy::cast_precision_loss, reason = "a head has fewer than 2^24 numbers")]
        let scale = 1.0 / ((hidden / config.num_attention_heads) as f32).sqrt();
        let (mut weight, mut bias) = tensors.pair(&name("attention.self.query"))?;
        for number in weight.iter_mut().chain(&mut bias) {
            *number *= scale;
        }
        for part in ["attention.self.key", "attention.self.value"] {
            let (more, of_more) = tensors.pair(&name(part))?;
            weight.extend(more);
            bias.extend(of_more);
        }
        let linear = |pair: (Vec<f32>, Vec<f32>), depth| {
            let (weight, bias) = pair;
            Linear::pack(&weight, &bias, depth, width)
        };
        Ok(Self {
            attended: linear((weight, bias), hidden),
            attention: linear(tensors.pair(&name("attention.output.dense"))?, hidden),
            attention_norm: tensors.norm(&name("attention.output.LayerNorm"))?,
            inner: linear(tensors.pair(&name("intermediate.dense"))?, hidden),
            outer: linear(tensors.pair(&name("output.dense"))?, inner),
            outer_norm: tensors.norm(&name("output.LayerNorm"))?,
        })
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
