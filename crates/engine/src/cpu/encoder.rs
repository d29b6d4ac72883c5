//! A BERT encoder on the processor, step by step as [`crate::encoder`] has it for any device.
//!
//! The tokens of all texts of a batch lie one after the other, without padding: one matrix with a
//! row for each token. In shapes, T is the number of tokens and H `hidden_size`.

use std::collections::HashMap;

use super::panels::{Finish, Panels, Product, Rows, padded};
use super::rows::{Normalize, Softmax};
use crate::Tokens;
use crate::config::{Activation, BertConfig};
use crate::error::EngineError;
use crate::layout::{Network, Weight};

/// The weights of an encoder, in the order in which they are read.
pub(crate) struct Encoder {
    arch: pulp::Arch,
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
    pub(crate) fn load(network: Network, config: &BertConfig) -> Result<Self, EngineError> {
        let arch = pulp::Arch::new();
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
            arch,
            hidden,
            heads: config.num_attention_heads,
            activation: config.activation()?,
            epsilon,
            words: tensors.take("embeddings.word_embeddings.weight")?,
            positions,
            norm: tensors.norm("embeddings.LayerNorm")?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(&mut tensors, index, config, Panels::width(arch)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Length of a token's vector.
    pub(crate) fn width(&self) -> usize {
        self.hidden
    }

    /// The token vectors of all texts, one after the other, in `scratch.tokens`. Every id is in the
    /// vocabulary, and no text has more tokens than there are positions.
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
            for (position, id) in text.ids.iter().enumerate() {
                let word = self.row(&self.words, usize::try_from(*id).ok()?)?;
                let position = self.row(&self.positions, position)?;
                tokens.extend(word.iter().zip(position).map(|(word, position)| word + position));
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
