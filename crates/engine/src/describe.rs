//! What a model is, from its configuration and the headers of its weights: before anything is loaded.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Gives;
use crate::config::Config;
use crate::error::EngineError;
use crate::layout::{self, TensorHeader};
use crate::memory;
use crate::recipe::Recipe;
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
    /// What comes out.
    pub gives: Gives,
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
    let config = Config::read(dir)?;
    let recipe = Recipe::read(dir, &config)?;
    let encoder = &config.encoder;
    layout::check(tensors, encoder, &recipe.projections)?;
    let highest = highest_id(tokenizer)?;
    let rows = encoder.vocabulary;
    if usize::try_from(highest).map_or(true, |highest| highest >= rows) {
        return Err(EngineError::TokenizerVocabMismatch { highest, rows });
    }
    Ok(Description {
        memory: memory::at_least(encoder, &recipe),
        layers: encoder.layers,
        hidden: encoder.hidden,
        heads: encoder.heads,
        intermediate: encoder.intermediate,
        vocabulary: rows,
        max_tokens: recipe.max_tokens,
        gives: recipe.gives,
        architecture: config.architecture,
        model_type: config.model_type,
    })
}
