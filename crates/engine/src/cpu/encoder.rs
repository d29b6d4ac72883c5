//! An encoder on the processor, step by step as [`crate::encoder`] has it for any device, with
//! what other families have changed about BERT's.
//!
//! The tokens of all texts of a batch lie one after the other, without padding: one matrix with a
//! row for each token. In shapes, T is the number of tokens and H the length of their vectors.

use std::collections::HashMap;

use super::buffer::Buffer;
use super::kernel::Kernel;
use super::panels::{Finish, Panels, Product, Rows, padded};
use super::relative::Relative;
use super::rows::{Normalize, Softmax};
use crate::Tokens;
use crate::config::{Activation, EncoderConfig, as_index};
use crate::error::EngineError;
use crate::layout::{BUCKETS, Network, POSITIONS, TOKEN_TYPES, VOCABULARY, Weight};

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
        config: &EncoderConfig,
        kernel: Kernel,
    ) -> Result<Self, EngineError> {
        let tensors = network.tensors.into_iter();
        let mut tensors =
            Tensors(tensors.map(|Weight { name, values, .. }| (name, values)).collect());
        let EncoderConfig { hidden, heads, positions, .. } = *config;
        let types = match config.token_types {
            Some(_) => tensors.take(TOKEN_TYPES)?,
            None => vec![0.0; hidden],
        };
        let relative = match config.buckets {
            Some(_) => Some(Relative::new(&tensors.take(BUCKETS)?, heads, positions.longest())),
            None => None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "float32 is what it is computed in")]
        let epsilon = config.epsilon as f32;
        Ok(Self {
            kernel,
            hidden,
            heads,
            activation: config.activation,
            epsilon,
            words: tensors.take(VOCABULARY)?,
            positions: tensors.take(POSITIONS)?,
            after: positions.after,
            types,
            relative,
            norm: tensors.norm("embeddings.LayerNorm")?,
            layers: (0..config.layers)
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

    /// The token vectors of all texts, one after the other. Every id is in the vocabulary, no text has
    /// more tokens than there are positions, and none has a second text unless the network tells the
    /// two apart; otherwise there are none.
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
            let second = text.second.unwrap_or(text.ids.len());
            let mut next = self.after.map_or(0, |id| as_index(id) + 1);
            for ((at, id), row) in text.ids.iter().enumerate().zip(&mut rows) {
                let position = match self.after {
                    Some(padding) if *id == padding => as_index(padding),
                    _ => next,
                };
                next += usize::from(position == next);
                let word = self.row(&self.words, as_index(*id))?;
                let of_type = self.row(&self.types, usize::from(at >= second))?;
                let position = self.row(&self.positions, position)?;
                let sums = word.iter().zip(of_type).map(|(word, of_type)| word + of_type);
                for ((number, sum), position) in row.iter_mut().zip(sums).zip(position) {
                    *number = sum + position;
                }
            }
        }
        self.normalize(&self.norm, tokens, &[]);
        Some(())
    }

    fn row<'a>(&self, table: &'a [f32], at: usize) -> Option<&'a [f32]> {
        table.get(at.checked_mul(self.hidden)?..)?.get(..self.hidden)
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
            if let Some(relative) = &self.relative {
                relative.add(head, query - first, scores, columns, length);
            }
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
        config: &EncoderConfig,
        width: usize,
    ) -> Result<Self, EngineError> {
        let EncoderConfig { hidden, intermediate: inner, names, .. } = *config;
        let name = |part: &str| format!("{}{index}.{part}", names.layer);
        #[expect(clippy::cast_precision_loss, reason = "a head has fewer than 2^24 numbers")]
        let scale = 1.0 / ((hidden / config.heads) as f32).sqrt();
        let (mut weight, mut bias) = tensors.pair(&name(names.query))?;
        for number in weight.iter_mut().chain(&mut bias) {
            *number *= scale;
        }
        for part in [names.key, names.value] {
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
            attention: linear(tensors.pair(&name(names.attention))?, hidden),
            attention_norm: tensors.norm(&name(names.attention_norm))?,
            inner: linear(tensors.pair(&name(names.inner))?, hidden),
            outer: linear(tensors.pair(&name(names.outer))?, inner),
            outer_norm: tensors.norm(&name(names.outer_norm))?,
        })
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
