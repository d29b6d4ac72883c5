//! The arithmetic of a BERT encoder (<https://arxiv.org/abs/1810.04805>), step by step as
//! <https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/models/bert/modeling_bert.py>
//! has it. What only training needs is left out, and so are the pooler and the heads: the token
//! vectors are the result.
//!
//! In shapes, B is the number of texts, L the tokens of the longest, and H `hidden_size`.

use candle_core::{D, Device, Error, Result, Tensor};
use candle_nn::{
    Embedding, LayerNorm, Linear, Module, VarBuilder, embedding, layer_norm, linear, ops,
};

use crate::config::{Activation, EncoderConfig};

/// The weights of an encoder.
pub(crate) struct Encoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

impl Encoder {
    /// Takes the tensors by the names that `layout` gives them.
    pub(crate) fn load(
        tensors: &VarBuilder<'_>,
        config: &EncoderConfig,
        activation: Activation,
    ) -> Result<Self> {
        let layers = tensors.pp("encoder.layer");
        let layer = |index| Layer::load(&layers.pp(index), config, activation);
        Ok(Self {
            embeddings: Embeddings::load(&tensors.pp("embeddings"), config)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// The token vectors `[B, L, H]` of the token ids `[B, L]`. Of each text, as many tokens as
    /// `lengths` says are its own; those after them are padding, which no token looks at.
    ///
    /// An id outside the vocabulary and more tokens than positions are errors.
    pub(crate) fn forward(&self, ids: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let (_, longest) = ids.dims2()?;
        let mask = mask(lengths, longest, ids.device())?;
        let embedded = self.embeddings.forward(ids)?;
        self.layers.iter().try_fold(embedded, |tokens, layer| layer.forward(&tokens, &mask))
    }
}

/// What is added to the scores of the tokens that are looked at, `[B, 1, 1, L]`: the smallest
/// float for padding. The exponential of any score with that is zero, and, unlike an infinity,
/// it cannot become a NaN.
fn mask(lengths: &[usize], longest: usize, device: &Device) -> Result<Tensor> {
    let text = |length| (0..longest).map(move |at| if at < length { 0.0 } else { f32::MIN });
    let mask: Vec<f32> = lengths.iter().copied().flat_map(text).collect();
    Tensor::from_vec(mask, (lengths.len(), 1, 1, longest), device)
}

struct Embeddings {
    words: Embedding,
    positions: Tensor,
    /// The first token type, `[1, H]`.
    token_type: Tensor,
    norm: LayerNorm,
}

impl Embeddings {
    fn load(tensors: &VarBuilder<'_>, config: &EncoderConfig) -> Result<Self> {
        let table = |name, rows| embedding(rows, config.hidden, tensors.pp(name));
        // Types tell the first text of a pair from the second. A text that is alone is a first
        // one, so that the other rows are never needed.
        let types = table("token_type_embeddings", config.token_types.unwrap_or(1))?;
        let positions = table("position_embeddings", config.positions.rows)?;
        Ok(Self {
            words: table("word_embeddings", config.vocabulary)?,
            positions: positions.embeddings().clone(),
            token_type: types.embeddings().narrow(0, 0, 1)?,
            norm: norm(tensors, config)?,
        })
    }

    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (_, longest) = ids.dims2()?;
        let positions = self.positions.narrow(0, 0, longest)?;
        let words = self.words.forward(ids)?;
        let sum = words.broadcast_add(&self.token_type)?.broadcast_add(&positions)?;
        self.norm.forward(&sum)
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
            attention: Attention::load(&tensors.pp("attention"), config)?,
            feed_forward: FeedForward::load(tensors, config, activation)?,
        })
    }

    fn forward(&self, tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.feed_forward.forward(&self.attention.forward(tokens, mask)?)
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
        let (hidden, heads) = (config.hidden, config.heads);
        let square = |name| linear(hidden, hidden, tensors.pp(name));
        let size = u32::try_from(hidden / heads).map_err(Error::wrap)?;
        Ok(Self {
            query: square("self.query")?,
            key: square("self.key")?,
            value: square("self.value")?,
            output: square("output.dense")?,
            norm: norm(&tensors.pp("output"), config)?,
            heads,
            scale: f64::from(size).sqrt(),
        })
    }

    fn forward(&self, tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let query = self.split(&self.query.forward(tokens)?)?;
        let key = self.split(&self.key.forward(tokens)?)?;
        let value = self.split(&self.value.forward(tokens)?)?;
        let scores = (query.matmul(&key.t()?)? / self.scale)?.broadcast_add(mask)?;
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
        let (hidden, inner) = (config.hidden, config.intermediate);
        Ok(Self {
            inner: linear(hidden, inner, tensors.pp("intermediate.dense"))?,
            activation,
            outer: linear(inner, hidden, tensors.pp("output.dense"))?,
            norm: norm(&tensors.pp("output"), config)?,
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

fn norm(tensors: &VarBuilder<'_>, config: &EncoderConfig) -> Result<LayerNorm> {
    layer_norm(config.hidden, config.epsilon, tensors.pp("LayerNorm"))
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
