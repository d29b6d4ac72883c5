//! `POST /v1/embeddings`, as
//! <https://platform.openai.com/docs/api-reference/embeddings/create> defines it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lamplighter_engine::{EngineError, Output, Tokens, TooLong};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clip::clip;
use super::deadline::Deadline;
use super::error::ApiError;
use super::input::{Input, Parsed};
use super::{App, body, class};
use crate::registry::Model;
use crate::run::{Class, Order, OwnedText, RunError};

/// `user` and fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize)]
struct Ask {
    input: Option<Parsed>,
    model: Option<Value>,
    encoding_format: Option<Value>,
    dimensions: Option<Value>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    Float,
    /// The numbers' bytes, little-endian, which OpenAI's own clients ask for.
    Base64,
}

/// The whole answer.
#[derive(Serialize)]
pub(super) struct Answer {
    object: &'static str,
    data: Vec<Embedding>,
    /// `name:version`, whichever of the names was asked for.
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    #[serde(rename = "embedding")]
    numbers: Numbers,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

pub(super) async fn embed(
    State(app): State<Arc<App>>,
    Extension(deadline): Extension<Deadline>,
    request: Request,
) -> Result<Json<Answer>, ApiError> {
    let registry = app.registry()?;
    // What will be refused anyway need not be read.
    app.runner.check_room()?;
    let asked = class::asked(request.headers())?;
    let (ask, _share): (Ask, _) = body::json(request, &app, deadline).await?;
    let name = model_name(ask.model)?;
    let Some(model) = registry.resolve(&name) else {
        let served: Vec<&str> = registry.names().map(|(name, _)| name).collect();
        return Err(ApiError::no_model(&name, &served.join(", ")));
    };
    let encoding = encoding(ask.encoding_format.as_ref())?;
    check_dimensions(ask.dimensions.as_ref(), model.facts.dimensions)?;
    let input = match ask.input {
        Some(Parsed(input)) => {
            input.map_err(|problem| ApiError::invalid("input", "invalid_input", problem))?
        }
        None => return Err(missing("input")),
    };
    let ran = deadline.within(run(&app, model, input, asked, deadline)).await;
    let (vectors, tokens) = ran.map_err(|over| ApiError::out_of_time(over.seconds))??;
    let data = vectors.into_iter().enumerate().map(|(index, vector)| Embedding {
        object: "embedding",
        index,
        numbers: encoding.write(vector),
    });
    Ok(Json(Answer {
        object: "list",
        data: data.collect(),
        model: model.key.to_string(),
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    }))
}

async fn run(
    app: &App,
    model: &Arc<Model>,
    input: Input,
    asked: Option<Class>,
    deadline: Deadline,
) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
    let limit = app.runner.limit();
    if input.len() > limit {
        let message = format!("input has {} texts, at most {limit} are taken", input.len());
        return Err(ApiError::invalid("input", "invalid_input", message));
    }
    let _admitted = app.runner.admit(input.len())?;
    let tokens = match input {
        Input::Texts(texts) => {
            let texts = texts.into_iter().map(|text| OwnedText::One(text.into())).collect();
            app.runner.split(model, texts, TooLong::Refuse).await?
        }
        Input::Tokens(lists) => check_tokens(lists, model)?,
    };
    let count = tokens.iter().map(|text| text.ids.len()).sum();
    let class = Class::choose(asked, tokens.len(), count);
    let order = Order { output: Output::Vector, class, deadline: Some(deadline.at()) };
    let vectors = app.runner.run(model, tokens, order).await?;
    Ok((vectors, count))
}

/// Tokens of a client are not those of the model's own tokenizer until they were looked at.
fn check_tokens(lists: Vec<Vec<u32>>, model: &Model) -> Result<Vec<Tokens>, ApiError> {
    let facts = model.engine.facts();
    let limit = facts.max_tokens;
    let unknown = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= facts.vocabulary);
    for (index, ids) in lists.iter().enumerate() {
        if ids.len() > limit {
            let tokens = ids.len();
            return Err(RunError::from(EngineError::TooLong { index, tokens, limit }).into());
        }
        if let Some(id) = ids.iter().copied().find(unknown) {
            let known = facts.vocabulary;
            let message = format!("input[{index}] has the token {id}, the model has {known}");
            return Err(ApiError::invalid("input", "invalid_input", message));
        }
    }
    let tokens = lists.into_iter().map(Tokens::of);
    Ok(tokens.collect())
}

fn model_name(model: Option<Value>) -> Result<String, ApiError> {
    match model {
        Some(Value::String(name)) => Ok(name),
        Some(_) => Err(ApiError::invalid("model", "invalid_type", "model must be a text")),
        None => Err(missing("model")),
    }
}

fn encoding(format: Option<&Value>) -> Result<Encoding, ApiError> {
    match format.map(Value::as_str) {
        None | Some(Some("float")) => Ok(Encoding::Float),
        Some(Some("base64")) => Ok(Encoding::Base64),
        Some(_) => {
            let found = format.map(clip).unwrap_or_default();
            let message = format!("encoding_format must be float or base64; it is {found}");
            Err(ApiError::invalid("encoding_format", "invalid_value", message))
        }
    }
}

/// Vectors are given whole: a part of one is a good vector only for models trained for that.
fn check_dimensions(asked: Option<&Value>, dimensions: u64) -> Result<(), ApiError> {
    match asked {
        None => Ok(()),
        Some(asked) if asked.as_u64() == Some(dimensions) => Ok(()),
        Some(asked) => Err(ApiError::invalid(
            "dimensions",
            "invalid_value",
            format!(
                "dimensions must be {dimensions} for this model, or left out; it is {}",
                clip(asked)
            ),
        )),
    }
}

fn missing(param: &'static str) -> ApiError {
    ApiError::invalid(param, "missing_required_parameter", format!("{param} is missing"))
}

impl Encoding {
    fn write(self, vector: Vec<f32>) -> Numbers {
        match self {
            Self::Float => Numbers::Float(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
                Numbers::Base64(STANDARD.encode(bytes))
            }
        }
    }
}
