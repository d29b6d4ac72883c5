//! The files of sentence-transformers: what happens to a text before and after the network.
//!
//! Two generations are in use. The older writes the longest text into
//! `sentence_bert_config.json` and one flag for each kind of pooling; the newer (from version
//! 5.5 on) writes `model_max_length` of `tokenizer_config.json` and one `pooling_mode`. See
//! <https://github.com/huggingface/sentence-transformers/tree/v6.2.0/sentence_transformers>.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{BertConfig, SUPPORTED, read_json, read_json_if_any};
use crate::error::EngineError;
use crate::pooling::Pooling;

const MODULES: &str = "modules.json";
const TRANSFORMER: &str = "sentence_bert_config.json";
const SENTENCE_TRANSFORMERS: &str = "config_sentence_transformers.json";
const TOKENIZER: &str = "tokenizer_config.json";

/// The way from a text to its vector, around the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Recipe {
    /// Longest text in tokens, special ones included.
    pub(crate) max_tokens: usize,
    /// Whether texts are put into lower case before they are tokenised.
    pub(crate) lowercase: bool,
    pub(crate) pooling: Pooling,
    /// Whether vectors are brought to length 1.
    pub(crate) normalize: bool,
}

impl Recipe {
    pub(crate) fn read(dir: &Path, config: &BertConfig) -> Result<Self, EngineError> {
        let modules: Vec<Module> = read_json_if_any(dir, MODULES)?.ok_or_else(|| {
            EngineError::config(
                MODULES,
                "the file, which says how token vectors become one (save the model with \
                 sentence-transformers)",
                "none",
            )
        })?;
        let kinds: Vec<Kind> = modules.iter().map(Module::kind).collect::<Result<_, _>>()?;
        let (pooling, normalize) = match (kinds.as_slice(), modules.as_slice()) {
            ([Kind::Transformer, Kind::Pooling], [_, pooling]) => (pooling, false),
            ([Kind::Transformer, Kind::Pooling, Kind::Normalize], [_, pooling, normalize]) => {
                check_normalize(dir, normalize)?;
                (pooling, true)
            }
            _ => {
                let expected = "a Transformer, a Pooling and perhaps a Normalize, in this order";
                let found: Vec<&str> = modules.iter().map(Module::name).collect();
                return Err(EngineError::config(MODULES, expected, found.join(", ")));
            }
        };
        let transformer = Transformer::read(dir, modules.first())?;
        check_prompt(dir)?;
        Ok(Self {
            max_tokens: max_tokens(dir, &transformer, config)?,
            lowercase: transformer.do_lower_case,
            pooling: read_pooling(dir, pooling, config)?,
            normalize,
        })
    }
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Transformer,
    Pooling,
    Normalize,
}

impl Module {
    /// The class without its modules, which moved between generations.
    fn name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }

    fn kind(&self) -> Result<Kind, EngineError> {
        let ours = self.kind.starts_with("sentence_transformers.");
        match self.name() {
            "Transformer" if ours => Ok(Kind::Transformer),
            "Pooling" if ours => Ok(Kind::Pooling),
            "Normalize" if ours => Ok(Kind::Normalize),
            // Classes of the artifact's own and further layers, such as Dense.
            _ => Err(EngineError::UnsupportedArchitecture {
                found: format!("{SUPPORTED} with the module {}", self.kind),
                supported: "BertModel with the modules Transformer, Pooling and Normalize",
            }),
        }
    }

    /// The path of the module's configuration.
    fn file(&self, name: &str) -> Result<String, EngineError> {
        let plain = |component: &str| !matches!(component, "" | "." | "..");
        if self.path.split('/').all(plain) {
            Ok(format!("{}/{name}", self.path))
        } else {
            let expected = "paths of folders within the artifact";
            Err(EngineError::config(MODULES, expected, &self.path))
        }
    }
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
struct Transformer {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
    #[serde(default, rename = "transformer_task")]
    task: Option<String>,
    #[serde(default)]
    module_output_name: Option<String>,
}

impl Transformer {
    fn read(dir: &Path, module: Option<&Module>) -> Result<Self, EngineError> {
        if let Some(module) = module
            && !module.path.is_empty()
        {
            let expected = "the Transformer at the artifact's root";
            return Err(EngineError::config(MODULES, expected, &module.path));
        }
        let transformer: Self = read_json_if_any(dir, TRANSFORMER)?.unwrap_or_default();
        for (name, value, expected) in [
            ("transformer_task", &transformer.task, "feature-extraction"),
            ("module_output_name", &transformer.module_output_name, "token_embeddings"),
        ] {
            if let Some(value) = value
                && value != expected
            {
                return Err(EngineError::config(
                    TRANSFORMER,
                    format!("{name} to be {expected}"),
                    value,
                ));
            }
        }
        Ok(transformer)
    }
}

/// The longest text: as configured, else as the tokenizer has it, but never longer than there
/// are positions.
fn max_tokens(
    dir: &Path,
    transformer: &Transformer,
    config: &BertConfig,
) -> Result<usize, EngineError> {
    #[derive(Default, Deserialize)]
    struct TokenizerConfig {
        /// A tokenizer without a limit has 10^30 here.
        #[serde(default)]
        model_max_length: Option<f64>,
    }

    let positions = config.max_position_embeddings;
    let (file, limit) = if let Some(limit) = transformer.max_seq_length {
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast rounds down and saturates, which is what a limit means"
)]
fn whole_tokens(limit: f64) -> usize {
    limit as usize
}

fn read_pooling(dir: &Path, module: &Module, config: &BertConfig) -> Result<Pooling, EngineError> {
    let file = module.file("config.json")?;
    let fields: Map<String, Value> = read_json(dir, &file)?;
    let dimensions = ["embedding_dimension", "word_embedding_dimension"];
    let dimension = dimensions.iter().find_map(|name| fields.get(*name));
    if dimension.and_then(Value::as_u64) != u64::try_from(config.hidden_size).ok() {
        let expected = format!("embedding_dimension to be hidden_size, {}", config.hidden_size);
        let found = dimension.map_or_else(|| "none".to_owned(), Value::to_string);
        return Err(EngineError::config(&file, expected, found));
    }
    let modes = pooling_modes(&fields);
    let unknown = || EngineError::PoolingUnknown {
        file: file.clone(),
        found: if modes.is_empty() { "none".to_owned() } else { modes.join(" and ") },
    };
    match modes.as_slice() {
        [mode] => Pooling::from_name(mode).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

/// The poolings that are switched on; more than one are put one after the other.
fn pooling_modes(fields: &Map<String, Value>) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match fields.get("pooling_mode") {
        Some(Value::Array(modes)) => modes.iter().map(text).collect(),
        Some(mode) => vec![text(mode)],
        None => fields
            .iter()
            .filter(|(name, value)| {
                name.starts_with("pooling_mode_") && **value != Value::Bool(false)
            })
            .map(|(name, _)| {
                let mode = name.trim_start_matches("pooling_mode_");
                let mode = mode.strip_suffix("_tokens").unwrap_or(mode);
                mode.strip_suffix("_token").unwrap_or(mode).to_owned()
            })
            .collect(),
    }
}

/// The newer generation can normalise something else than the vector of the text.
fn check_normalize(dir: &Path, module: &Module) -> Result<(), EngineError> {
    let file = module.file("config.json")?;
    let fields: Map<String, Value> = read_json_if_any(dir, &file)?.unwrap_or_default();
    for name in ["module_input_name", "module_output_name"] {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if value == "sentence_embedding" => {}
            Some(other) => {
                let expected = format!("{name} to be sentence_embedding");
                return Err(EngineError::config(&file, expected, other));
            }
        }
    }
    Ok(())
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
