//! What a model is, from its configuration and the headers of its weights: before anything is loaded.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Pooling;
use crate::config::BertConfig;
use crate::error::EngineError;
use crate::layout::{self, TensorHeader};
use crate::memory;
use crate::sentence::Recipe;
use crate::vocabulary::highest_id;

/// What a model is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// The architecture as `config.json` names it, for example `BertModel`.
    pub architecture: String,
    /// The kind of model as `config.json` names it, for example `bert`.
    pub model_type: String,
    /// Number of layers.
    pub layers: usize,
    /// Length of a token's vector between layers.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Length of a token's vector within a feed-forward layer.
    pub intermediate: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Length of an output vector.
    pub dimensions: usize,
    /// Bytes that it takes on its device at least: its weights, and what one largest batch takes
    /// beside them.
    pub memory: u64,
}

/// Reads the settings of the artifact in `dir` and checks that tensors and tokenizer fit them. Of
/// `dir` only the JSON files are read; `tensors` are the headers of the weight files by tensor, and
/// `tokenizer` is `tokenizer.json`.
///
/// What this refuses, [`crate::build`] refuses with the same error; what it accepts may still have
/// weights that are not finite, or a tokenizer that cannot be used.
pub fn describe(
    dir: &Path,
    tensors: &BTreeMap<String, TensorHeader>,
    tokenizer: &[u8],
) -> Result<Description, EngineError> {
    let config = BertConfig::read(dir)?;
    let recipe = Recipe::read(dir, &config)?;
    layout::check(tensors, &config)?;
    let highest = highest_id(tokenizer)?;
    let rows = config.vocab_size;
    if usize::try_from(highest).map_or(true, |highest| highest >= rows) {
        return Err(EngineError::TokenizerVocabMismatch { highest, rows });
    }
    Ok(Description {
        architecture: config.architecture().to_owned(),
        model_type: config.model_type().to_owned(),
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        heads: config.num_attention_heads,
        intermediate: config.intermediate_size,
        vocabulary: rows,
        max_tokens: recipe.max_tokens,
        pooling: recipe.pooling,
        // The engine pools tokens' vectors and does not project them.
        dimensions: config.hidden_size,
        memory: memory::at_least(&config, recipe.max_tokens),
    })
}
