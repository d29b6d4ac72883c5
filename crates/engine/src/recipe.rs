//! The way from a text to what a model gives for it, around the encoder.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{Config, read_json_if_any};
use crate::error::EngineError;
use crate::projection::ProjectionConfig;
use crate::{Gives, Pooling, classifier, sentence};

pub(crate) const TRANSFORMER: &str = "sentence_bert_config.json";
pub(crate) const SENTENCE_TRANSFORMERS: &str = "config_sentence_transformers.json";
const TOKENIZER: &str = "tokenizer_config.json";

/// What happens before and behind the encoder.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Longest text in tokens, special ones included.
    pub(crate) max_tokens: usize,
    /// Whether texts are put into lower case before they are tokenised.
    pub(crate) lowercase: bool,
    pub(crate) pooling: Pooling,
    /// The layers behind the pooling, in order.
    pub(crate) projections: Vec<ProjectionConfig>,
    /// Whether what comes out is brought to length 1.
    pub(crate) normalize: bool,
    pub(crate) gives: Gives,
}

impl Recipe {
    /// Of a model with a head for scores, its head; of another, the modules that make vectors.
    pub(crate) fn read(dir: &Path, config: &Config) -> Result<Self, EngineError> {
        let recipe = if config.has_head() {
            classifier::read(dir, config)?
        } else {
            sentence::read(dir, config)?
        };
        check_prompt(dir)?;
        Ok(recipe)
    }
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
pub(crate) struct Transformer {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    pub(crate) do_lower_case: bool,
    #[serde(default, rename = "transformer_task")]
    task: Option<String>,
    #[serde(default)]
    module_output_name: Option<String>,
}

impl Transformer {
    /// Reads the file, if there is one. It may say for which task the network is, and what comes
    /// out of it: that must be these.
    pub(crate) fn read(dir: &Path, task: &str, output: &str) -> Result<Self, EngineError> {
        let transformer: Self = read_json_if_any(dir, TRANSFORMER)?.unwrap_or_default();
        for (name, value, expected) in [
            ("transformer_task", &transformer.task, task),
            ("module_output_name", &transformer.module_output_name, output),
        ] {
            if let Some(value) = value
                && value != expected
            {
                let expected = format!("{name} to be {expected}");
                return Err(EngineError::config(TRANSFORMER, expected, value));
            }
        }
        Ok(transformer)
    }

    /// The longest text: as configured, else as the tokenizer has it, but never longer than there
    /// are positions.
    pub(crate) fn max_tokens(&self, dir: &Path, config: &Config) -> Result<usize, EngineError> {
        #[derive(Default, Deserialize)]
        struct TokenizerConfig {
            /// A tokenizer without a limit has 10^30 here.
            #[serde(default)]
            model_max_length: Option<f64>,
        }

        let positions = config.encoder.positions.longest();
        let (file, limit) = if let Some(limit) = self.max_seq_length {
            (TRANSFORMER, limit)
        } else {
            let tokenizer: TokenizerConfig = read_json_if_any(dir, TOKENIZER)?.unwrap_or_default();
            let limit = tokenizer.model_max_length.map_or(positions, whole_tokens);
            (TOKENIZER, limit.min(positions))
        };
        // Two special tokens and one of the text.
        if (3..=positions).contains(&limit) {
            Ok(limit)
        } else {
            let expected = format!("a longest text of 3 to {positions} tokens");
            Err(EngineError::config(file, expected, limit))
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast rounds down and saturates, which is what a limit means"
)]
fn whole_tokens(limit: f64) -> usize {
    limit as usize
}

/// A default prompt is put before every text. Serving it would mean to know which texts are
/// queries and which are documents.
fn check_prompt(dir: &Path) -> Result<(), EngineError> {
    let fields: Map<String, Value> =
        read_json_if_any(dir, SENTENCE_TRANSFORMERS)?.unwrap_or_default();
    let Some(Value::String(name)) = fields.get("default_prompt_name") else {
        return Ok(());
    };
    match fields.get("prompts").and_then(|prompts| prompts.get(name)) {
        Some(Value::String(prompt)) if prompt.is_empty() => Ok(()),
        _ => Err(EngineError::config(
            SENTENCE_TRANSFORMERS,
            "no default prompt (put prompts into the texts)",
            name,
        )),
    }
}
