//! How much memory a model takes, before it is there.

use crate::Shape;
use crate::batch::limits;
use crate::config::EncoderConfig;
use crate::layout::all_needed;
use crate::recipe::Recipe;

/// Bytes of a number: models run as 32-bit floats.
const FLOAT: usize = size_of::<f32>();

/// What a model takes on its device at least: its weights, and what one largest batch takes beside
/// them. What is refused for this could never have run; the allocator's own needs, the tokenizer and
/// further batches at the same time come on top.
pub(crate) fn at_least(config: &EncoderConfig, recipe: &Recipe) -> u64 {
    let max_tokens = recipe.max_tokens;
    let elements =
        |(_, shape): (String, Vec<usize>)| shape.into_iter().fold(1_usize, usize::saturating_mul);
    let weights =
        all_needed(config, &recipe.projections).map(elements).fold(0_usize, usize::saturating_add);
    let bytes = weights.saturating_add(activations(config, max_tokens)).saturating_mul(FLOAT);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Numbers of a batch: of each token its vector, queries, keys and values, what a layer adds, and the
/// inner vector; and the scores of one head of the longest text.
fn activations(config: &EncoderConfig, max_tokens: usize) -> usize {
    let EncoderConfig { hidden, intermediate, .. } = *config;
    let of_token = hidden.saturating_mul(5).saturating_add(intermediate);
    let tokens = limits(max_tokens, Shape::Packed).max_batch_tokens.saturating_mul(of_token);
    tokens.saturating_add(max_tokens.saturating_mul(max_tokens))
}
