//! The files of sentence-transformers: what happens to a text before and after the network.
//!
//! Two generations are in use. The older writes the longest text into
//! `sentence_bert_config.json` and one flag for each kind of pooling; the newer (from version
//! 5.5 on) writes `model_max_length` of `tokenizer_config.json` and one `pooling_mode`. See
//! <https://github.com/huggingface/sentence-transformers/tree/v6.2.0/sentence_transformers>.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Gives;
use crate::config::{Config, FILE, MAX_SIZE, read_json, read_json_if_any};
use crate::error::EngineError;
use crate::module::{Kind, MODULES, Module};
use crate::pooling::Pooling;
use crate::projection::{ProjectionConfig, Then};
use crate::recipe::{Recipe, Transformer};

pub(crate) fn read(dir: &Path, config: &Config) -> Result<Recipe, EngineError> {
    let modules: Vec<Module> = read_json_if_any(dir, MODULES)?.ok_or_else(|| {
        EngineError::config(
            MODULES,
            "the file, which says how token vectors become one (save the model with \
             sentence-transformers)",
            "none",
        )
    })?;
    let kinds: Vec<Kind> = modules.iter().map(Module::kind).collect::<Result<_, _>>()?;
    let ([Kind::Transformer, Kind::Pooling, rest @ ..], [network, pooling, behind @ ..]) =
        (kinds.as_slice(), modules.as_slice())
    else {
        return Err(unordered(&modules));
    };
    let (normalize, dense) = match rest {
        [dense @ .., Kind::Normalize] => (true, dense),
        dense => (false, dense),
    };
    if dense.iter().any(|kind| *kind != Kind::Dense) {
        return Err(unordered(&modules));
    }
    let (dense, last) = behind.split_at(dense.len());
    for module in last {
        check_normalize(dir, module)?;
    }
    network.check_root()?;
    let transformer = Transformer::read(dir, "feature-extraction", "token_embeddings")?;
    let hidden = config.encoder.hidden;
    let pooling = read_pooling(dir, pooling, hidden)?;
    let mut dimensions = hidden;
    let mut projections = Vec::new();
    for module in dense {
        let projection = read_dense(dir, module, dimensions)?;
        dimensions = projection.to;
        projections.push(projection);
    }
    let matryoshka = read_matryoshka(dir, dimensions)?;
    Ok(Recipe {
        max_tokens: transformer.max_tokens(dir, config)?,
        lowercase: transformer.do_lower_case,
        pooling,
        projections,
        normalize,
        gives: Gives::Vectors { dimensions, pooling, normalized: normalize, matryoshka },
    })
}

fn unordered(modules: &[Module]) -> EngineError {
    let expected =
        "a Transformer, a Pooling, perhaps several Dense and perhaps a Normalize, in this order";
    Module::unordered(expected, modules)
}

fn read_pooling(dir: &Path, module: &Module, hidden: usize) -> Result<Pooling, EngineError> {
    let file = module.file("config.json")?;
    let fields: Map<String, Value> = read_json(dir, &file)?;
    let dimensions = ["embedding_dimension", "word_embedding_dimension"];
    let dimension = dimensions.iter().find_map(|name| fields.get(*name));
    if dimension.and_then(Value::as_u64) != u64::try_from(hidden).ok() {
        let expected = format!("embedding_dimension to be that of tokens' vectors, {hidden}");
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

/// A layer on the text's vector, as
/// <https://github.com/huggingface/sentence-transformers/blob/v6.2.0/sentence_transformers/base/modules/dense.py>
/// saves it. Its weights are in its folder.
fn read_dense(dir: &Path, module: &Module, from: usize) -> Result<ProjectionConfig, EngineError> {
    #[derive(Deserialize)]
    struct Fields {
        in_features: usize,
        out_features: usize,
        #[serde(default = "has_bias")]
        bias: bool,
        activation_function: String,
        #[serde(default)]
        use_residual: bool,
        #[serde(flatten)]
        others: Map<String, Value>,
    }

    fn has_bias() -> bool {
        true
    }

    let file = module.file("config.json")?;
    let fields: Fields = read_json(dir, &file)?;
    if fields.in_features != from {
        let expected = format!("in_features to be the length of what comes in, {from}");
        return Err(EngineError::config(&file, expected, fields.in_features));
    }
    if !(1..=MAX_SIZE).contains(&fields.out_features) {
        let expected = format!("out_features between 1 and {MAX_SIZE}");
        return Err(EngineError::config(&file, expected, fields.out_features));
    }
    if fields.use_residual {
        return Err(EngineError::config(&file, "no use_residual", true));
    }
    check_names(&file, &fields.others)?;
    let then = match fields.activation_function.as_str() {
        "torch.nn.modules.activation.Tanh" => Then::Tanh,
        "torch.nn.modules.linear.Identity" => Then::Nothing,
        other => {
            let expected = "activation_function to be torch.nn.modules.activation.Tanh or \
                            torch.nn.modules.linear.Identity";
            return Err(EngineError::config(&file, expected, other));
        }
    };
    Ok(ProjectionConfig {
        tensor: module.file("linear")?,
        from,
        to: fields.out_features,
        has_bias: fields.bias,
        then,
    })
}

fn check_normalize(dir: &Path, module: &Module) -> Result<(), EngineError> {
    let file = module.file("config.json")?;
    let fields: Map<String, Value> = read_json_if_any(dir, &file)?.unwrap_or_default();
    check_names(&file, &fields)
}

/// The newer generation can change something else than the vector of the text.
fn check_names(file: &str, fields: &Map<String, Value>) -> Result<(), EngineError> {
    for name in ["module_input_name", "module_output_name"] {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if value == "sentence_embedding" => {}
            Some(other) => {
                let expected = format!("{name} to be sentence_embedding");
                return Err(EngineError::config(file, expected, other));
            }
        }
    }
    Ok(())
}

/// The shorter lengths that vectors were trained for, rising, by the name that vLLM reads
/// (<https://docs.vllm.ai/en/stable/models/pooling_models/embed.html#matryoshka-embeddings>).
fn read_matryoshka(dir: &Path, dimensions: usize) -> Result<Vec<usize>, EngineError> {
    #[derive(Deserialize)]
    struct Declared {
        #[serde(default)]
        matryoshka_dimensions: Option<Vec<usize>>,
    }

    let Declared { matryoshka_dimensions } = read_json(dir, FILE)?;
    let mut lengths = matryoshka_dimensions.unwrap_or_default();
    lengths.sort_unstable();
    lengths.dedup();
    match lengths.iter().find(|length| !(1..=dimensions).contains(*length)) {
        Some(length) => {
            let expected = format!("matryoshka_dimensions between 1 and the vectors' {dimensions}");
            Err(EngineError::config(FILE, expected, length))
        }
        None => Ok(lengths),
    }
}
