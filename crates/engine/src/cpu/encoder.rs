//! An encoder on the processor, step by step as [`crate::encoder`] has it for any device, with
//! what other families have changed about BERT's.
//!
//! The tokens of all texts of a batch lie one after the other, without padding: one matrix with a
//! row for each token. In shapes, T is the number of tokens and H the length of their vectors.

use std::collections::HashMap;

use super::panels::{Finish, Panels, Product, Rows, padded};
use super::relative::Relative;
use super::rows::{Normalize, Softmax};
use crate::Tokens;
use crate::config::{Activation, EncoderConfig, as_index};
use crate::error::EngineError;
use crate::layout::{BUCKETS, Network, POSITIONS, TOKEN_TYPES, VOCABULARY, Weight};

/// The weights of an encoder, in the order in which they are read.
pub(crate) struct Encoder {
    arch: pulp::Arch,
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
    /// `[T, H]`: what comes out.
    pub(crate) tokens: Vec<f32>,
    /// `[T, 3 H]`.
    attended: Vec<f32>,
    /// `[T, H]`.
    added: Vec<f32>,
    /// `[T, intermediate_size]`.
    inner: Vec<f32>,
    scores: Vec<f32>,
    keys: Panels,
    values: Panels,
    packed: Vec<f32>,
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
    pub(crate) fn load(network: Network, config: &EncoderConfig) -> Result<Self, EngineError> {
        let arch = pulp::Arch::new();
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
            arch,
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
                .map(|index| Layer::load(&mut tensors, index, config, Panels::width(arch)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Length of a token's vector.
    pub(crate) fn width(&self) -> usize {
        self.hidden
    }

    /// The token vectors of all texts, one after the other, in `scratch.tokens`. Every id is in the
    /// vocabulary, no text has more tokens than there are positions, and a pair only if the network
    /// tells its texts apart.
    pub(crate) fn forward(&self, batch: &[Tokens], scratch: &mut Scratch) -> Option<()> {
        self.embed(batch, &mut scratch.tokens)?;
        let lengths: Vec<usize> = batch.iter().map(|text| text.ids.len()).collect();
        for layer in &self.layers {
            self.attend(layer, &lengths, scratch);
            self.feed_forward(layer, scratch);
        }
        Some(())
    }

    fn embed(&self, batch: &[Tokens], tokens: &mut Vec<f32>) -> Option<()> {
        tokens.clear();
        for text in batch {
            let second = text.second.unwrap_or(text.ids.len());
            let mut next = self.after.map_or(0, |id| as_index(id) + 1);
            for (at, id) in text.ids.iter().enumerate() {
                let position = match self.after {
                    Some(padding) if *id == padding => as_index(padding),
                    _ => next,
                };
                next += usize::from(position == next);
                let word = self.row(&self.words, as_index(*id))?;
                let of_type = self.row(&self.types, usize::from(at >= second))?;
                let position = self.row(&self.positions, position)?;
                let numbers = word.iter().zip(of_type).zip(position);
                tokens.extend(numbers.map(|((word, of_type), position)| word + of_type + position));
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
        self.arch.dispatch(Normalize { rows, added, gain, bias, epsilon: self.epsilon });
    }

    /// `out = left × layer`, finished.
    fn apply(
        &self,
        linear: &Linear,
        left: &[f32],
        columns: usize,
        out: &mut Vec<f32>,
        activation: Option<Activation>,
        packed: &mut Vec<f32>,
    ) {
        let depth = linear.weight.depth();
        let rows = left.len() / depth;
        out.resize(rows * columns, 0.0);
        self.arch.dispatch(Product {
            left: Rows::new(left, depth),
            rows,
            right: &linear.weight,
            finish: match activation {
                None => Finish::Bias(&linear.bias),
                Some(activation) => Finish::Activated(&linear.bias, activation),
            },
            out,
            out_stride: columns,
            padded: false,
            scratch: packed,
        });
    }

    fn attend(&self, layer: &Layer, lengths: &[usize], scratch: &mut Scratch) {
        let hidden = self.hidden;
        let Scratch { tokens, attended, packed, .. } = scratch;
        self.apply(&layer.attended, tokens, 3 * hidden, attended, None, packed);
        scratch.added.resize(scratch.tokens.len(), 0.0);
        let mut first = 0;
        for &length in lengths {
            for head in 0..self.heads {
                self.attend_head(first, length, head, scratch);
            }
            first += length;
        }
        let Scratch { tokens, attended, added, packed, .. } = scratch;
        // The queries' memory is free again.
        self.apply(&layer.attention, added, hidden, attended, None, packed);
        self.normalize(&layer.attention_norm, tokens, attended);
    }

    /// One head of one text: `length` tokens from the token `first` on.
    fn attend_head(&self, first: usize, length: usize, head: usize, scratch: &mut Scratch) {
        let (hidden, size) = (self.hidden, self.hidden / self.heads);
        let Scratch { attended, added, scores, keys, values, packed, .. } = scratch;
        let stride = 3 * hidden;
        let part = |index: usize| {
            Rows::new(&attended[first * stride + index * hidden + head * size..], stride)
        };
        let width = Panels::width(self.arch);
        keys.fill_columns(part(1), length, size, width);
        values.fill_rows(part(2), size, length, width);
        // A whole number of vectors of every instruction set.
        let columns = keys.padded_columns();
        scores.resize(length * columns, 0.0);
        self.arch.dispatch(Product {
            left: part(0),
            rows: length,
            right: keys,
            finish: Finish::Plain,
            out: scores,
            out_stride: columns,
            padded: true,
            scratch: packed,
        });
        if let Some(relative) = &self.relative {
            relative.add(head, scores, columns, length);
        }
        let rows = &mut scores[..length * columns];
        self.arch.dispatch(Softmax { rows, stride: columns, length });
        self.arch.dispatch(Product {
            left: Rows::new(scores, columns),
            rows: length,
            right: values,
            finish: Finish::Plain,
            out: &mut added[first * hidden + head * size..],
            out_stride: hidden,
            padded: false,
            scratch: packed,
        });
    }

    fn feed_forward(&self, layer: &Layer, scratch: &mut Scratch) {
        let Scratch { tokens, added, inner, packed, .. } = scratch;
        let width = layer.outer.weight.depth();
        self.apply(&layer.inner, tokens, width, inner, Some(self.activation), packed);
        self.apply(&layer.outer, inner, self.hidden, added, None, packed);
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
