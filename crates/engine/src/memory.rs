//! How much memory a model takes, before it is there.

use crate::bert::limits;
use crate::config::BertConfig;
use crate::layout::needed;

/// Bytes of a number: models run as 32-bit floats.
const FLOAT: usize = size_of::<f32>();

/// What a model takes on its device at least: its weights, and what one largest batch takes beside
/// them. What is refused for this could never have run; the allocator's own needs, the tokenizer and
/// further batches at the same time come on top.
pub(crate) fn at_least(config: &BertConfig, max_tokens: usize) -> u64 {
    let elements =
        |(_, shape): (String, Vec<usize>)| shape.into_iter().fold(1_usize, usize::saturating_mul);
    let weights = needed(config).map(elements).fold(0_usize, usize::saturating_add);
    let bytes = weights.saturating_add(activations(config, max_tokens)).saturating_mul(FLOAT);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Numbers of the larger of a layer's two widest moments, in a batch of the longest texts.
fn activations(config: &BertConfig, max_tokens: usize) -> usize {
    let BertConfig { hidden_size, intermediate_size, num_attention_heads, .. } = *config;
    let tokens = limits(max_tokens).max_batch_tokens;
    // The layer's input, and the inner vectors before and after the activation.
    let feed_forward = hidden_size.saturating_add(intermediate_size.saturating_mul(2));
    // The layer's input and the values, and the scores before and after the softmax.
    let scores = num_attention_heads.saturating_mul(max_tokens);
    let attention = hidden_size.saturating_add(scores).saturating_mul(2);
    tokens.saturating_mul(feed_forward.max(attention))
}
