//! The arithmetic of an encoder (<https://arxiv.org/abs/1810.04805>) on any device, step by step as
//! <https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/models/bert/modeling_bert.py>
//! has it, with what other families have changed about BERT's. What only training needs is left
//! out, and so are the pooler and the heads: the token vectors are the result.
//!
//! In shapes, B is the number of texts, L the tokens of the longest, and H `hidden_size`.

use candle_core::{D, Device, Error, Result, Tensor};
use candle_nn::{
    Embedding, LayerNorm, Linear, Module, VarBuilder, embedding, layer_norm, linear, ops,
};

use crate::Tokens;
use crate::config::{Activation, EncoderConfig};
use crate::cpu::relative::buckets;
use crate::inputs::{Inputs, Tables};
use crate::layout::BUCKETS;

/// The weights of an encoder.
pub(crate) struct Encoder {
    tables: Tables,
    embeddings: Embeddings,
    relative: Option<Relative>,
    layers: Vec<Layer>,
}

impl Encoder {
    /// Takes the tensors by the names that `layout` gives them.
    pub(crate) fn load(
        tensors: &VarBuilder<'_>,
        config: &EncoderConfig,
        activation: Activation,
    ) -> Result<Self> {
        let layer = |index| {
            let tensors = tensors.pp(format!("{}{index}", config.names.layer));
            Layer::load(&tensors, config, activation)
        };
        let relative = config.buckets.map(|rows| Relative::load(tensors, config, rows));
        Ok(Self {
            tables: Tables::of(config),
            embeddings: Embeddings::load(&tensors.pp("embeddings"), config)?,
            relative: relative.transpose()?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// The token vectors `[B, L, H]` of a batch of texts. Those behind a text's own tokens are
    /// padding, which no token looks at.
    ///
    /// An id outside the vocabulary, more tokens than positions, and a second text where the
    /// network has no token types are errors.
    pub(crate) fn forward(&self, batch: &[Tokens]) -> Result<Tensor> {
        let inputs = self.tables.inputs(batch).map_err(Error::wrap)?;
        let embedded = self.embeddings.forward(&inputs)?;
        let mut added = mask(&inputs, embedded.device())?;
        if let Some(relative) = &self.relative {
            added = added.broadcast_add(&relative.of_texts(inputs.longest)?)?;
        }
        self.layers.iter().try_fold(embedded, |tokens, layer| layer.forward(&tokens, &added))
    }
}

/// What is added to the scores of the tokens that are looked at, `[B, 1, 1, L]`: the smallest
/// float for padding. The exponential of any score with that is zero, and, unlike an infinity,
/// it cannot become a NaN.
fn mask(inputs: &Inputs, device: &Device) -> Result<Tensor> {
    let Inputs { lengths, longest, .. } = inputs;
    let text = |length| (0..*longest).map(move |at| if at < length { 0.0 } else { f32::MIN });
    let mask: Vec<f32> = lengths.iter().copied().flat_map(text).collect();
    Tensor::from_vec(mask, (lengths.len(), 1, 1, *longest), device)
}

/// What is added to the score of two tokens for how far apart they are.
struct Relative {
    /// `[buckets, heads]`.
    table: Tensor,
    /// Of each distance, from the farthest behind a token to the farthest before it, its bucket.
    buckets: Vec<u32>,
    /// The longest text that has a bucket for each distance.
    longest: usize,
}

impl Relative {
    fn load(tensors: &VarBuilder<'_>, config: &EncoderConfig, rows: usize) -> Result<Self> {
        let longest = config.positions.longest();
        let buckets = buckets(longest, rows).map(u32::try_from);
        Ok(Self {
            table: tensors.get((rows, config.heads), BUCKETS)?,
            buckets: buckets.collect::<std::result::Result<_, _>>().map_err(Error::wrap)?,
            longest,
        })
    }

    /// `[1, heads, L, L]`, for each token by each that it looks at. `longest` is at most that of
    /// the network.
    fn of_texts(&self, longest: usize) -> Result<Tensor> {
        let of_query = |query: usize| &self.buckets[self.longest - 1 - query..][..longest];
        let buckets: Vec<u32> = (0..longest).flat_map(of_query).copied().collect();
        let buckets = Tensor::from_vec(buckets, longest * longest, self.table.device())?;
        let numbers = self.table.index_select(&buckets, 0)?;
        numbers.reshape((1, longest, longest, ()))?.permute((0, 3, 1, 2))?.contiguous()
    }
}

struct Embeddings {
    words: Embedding,
    positions: Embedding,
    /// None where the family has no token types.
    types: Option<Embedding>,
    norm: LayerNorm,
}

impl Embeddings {
    fn load(tensors: &VarBuilder<'_>, config: &EncoderConfig) -> Result<Self> {
        let table = |name, rows| embedding(rows, config.hidden, tensors.pp(name));
        let types = config.token_types.map(|rows| table("token_type_embeddings", rows));
        Ok(Self {
            words: table("word_embeddings", config.vocabulary)?,
            positions: table("position_embeddings", config.positions.rows)?,
            types: types.transpose()?,
            norm: norm(tensors, "LayerNorm", config)?,
        })
    }

    fn forward(&self, inputs: &Inputs) -> Result<Tensor> {
        let Inputs { ids, positions, types, lengths, longest } = inputs;
        let look_up = |table: &Embedding, rows: &[u32]| {
            let shape = (lengths.len(), *longest);
            table.forward(&Tensor::from_slice(rows, shape, table.embeddings().device())?)
        };
        let mut sum = look_up(&self.words, ids)?;
        if let Some(table) = &self.types {
            sum = (sum + look_up(table, types)?)?;
        }
        self.norm.forward(&(sum + look_up(&self.positions, positions)?)?)
    }
}

struct Layer {
    attention: Attention,
    feed_forward: FeedForward,
}

impl Layer {
    fn load(
        tensors: &VarBuilder<'_>,
        config: &EncoderConfig,
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            attention: Attention::load(tensors, config)?,
            feed_forward: FeedForward::load(tensors, config, activation)?,
        })
    }

    fn forward(&self, tokens: &Tensor, added: &Tensor) -> Result<Tensor> {
        self.feed_forward.forward(&self.attention.forward(tokens, added)?)
    }
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: LayerNorm,
    heads: usize,
    /// The square root of a head's size.
    scale: f64,
}

impl Attention {
    fn load(tensors: &VarBuilder<'_>, config: &EncoderConfig) -> Result<Self> {
        let EncoderConfig { hidden, heads, names, .. } = *config;
        let square = |name| linear(hidden, hidden, tensors.pp(name));
        let size = u32::try_from(hidden / heads).map_err(Error::wrap)?;
        Ok(Self {
            query: square(names.query)?,
            key: square(names.key)?,
            value: square(names.value)?,
            output: square(names.attention)?,
            norm: norm(tensors, names.attention_norm, config)?,
            heads,
            scale: f64::from(size).sqrt(),
        })
    }

    /// `added` is what is added to the scores, of a shape that extends to `[B, heads, L, L]`.
    fn forward(&self, tokens: &Tensor, added: &Tensor) -> Result<Tensor> {
        let query = self.split(&self.query.forward(tokens)?)?;
        let key = self.split(&self.key.forward(tokens)?)?;
        let value = self.split(&self.value.forward(tokens)?)?;
        let scores = (query.matmul(&key.t()?)? / self.scale)?.broadcast_add(added)?;
        let heads = ops::softmax_last_dim(&scores)?.matmul(&value)?;
        let joined = heads.transpose(1, 2)?.flatten_from(D::Minus2)?;
        self.norm.forward(&(self.output.forward(&joined)? + tokens)?)
    }

    /// From `[B, L, H]` to `[B, heads, L, H / heads]`.
    fn split(&self, tokens: &Tensor) -> Result<Tensor> {
        let (texts, longest, _) = tokens.dims3()?;
        tokens.reshape((texts, longest, self.heads, ()))?.transpose(1, 2)?.contiguous()
    }
}

struct FeedForward {
    inner: Linear,
    activation: Activation,
    outer: Linear,
    norm: LayerNorm,
}

impl FeedForward {
    fn load(
        tensors: &VarBuilder<'_>,
        config: &EncoderConfig,
        activation: Activation,
    ) -> Result<Self> {
        let EncoderConfig { hidden, intermediate: inner, names, .. } = *config;
        Ok(Self {
            inner: linear(hidden, inner, tensors.pp(names.inner))?,
            activation,
            outer: linear(inner, hidden, tensors.pp(names.outer))?,
            norm: norm(tensors, names.outer_norm, config)?,
        })
    }

    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let inner = activate(self.activation, &self.inner.forward(tokens)?)?;
        self.norm.forward(&(self.outer.forward(&inner)? + tokens)?)
    }
}

fn activate(activation: Activation, values: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Gelu => values.gelu_erf(),
        Activation::GeluTanh => values.gelu(),
        Activation::Relu => values.relu(),
    }
}

fn norm(tensors: &VarBuilder<'_>, name: &str, config: &EncoderConfig) -> Result<LayerNorm> {
    layer_norm(config.hidden, config.epsilon, tensors.pp(name))
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
