//! `POST /similarity`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lamplighter_engine::Output;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{Direction, no_prompt, too_long};
use crate::http::ask::{self, Asker, Needs, Question};
use crate::http::error::ApiError;
use crate::http::fields::{Field, Name, required};
use crate::http::naming::model_name;
use crate::http::opened::Opened;
use crate::http::parse::Object;
use crate::http::texts::Texts;
use crate::http::{App, reply, vectors};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SimilarityRequest")]
pub(super) struct Ask {
    #[schemars(required)]
    inputs: Option<Object<Inputs>>,
    parameters: Option<Object<Parameters>>,
    /// `name` or `name:version`; needed where several models give vectors.
    model: Option<Field<Name>>,
}

/// A text, and others that it is compared with.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SimilarityInputs")]
struct Inputs {
    #[schemars(required)]
    source_sentence: Option<Field<String>>,
    #[schemars(required)]
    sentences: Option<Texts>,
}

/// How texts are read.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "SimilarityParameters")]
struct Parameters {
    /// Whether texts that are too long are cut or refused; `true` by default.
    truncate: Option<Field<bool>>,
    /// Which end is cut off; `Right` by default.
    truncation_direction: Option<Field<Direction>>,
    /// Not served: put the prompt before the text.
    prompt_name: Option<Field<Name>>,
}

/// One number between -1 and 1 for each of the sentences, in order.
#[derive(JsonSchema, Serialize)]
pub(super) struct Cosines(Vec<f32>);

pub(super) async fn compare(
    State(app): State<Arc<App>>,
    opened: Opened<Ask>,
) -> Result<Response, ApiError> {
    answer(opened.asker(&app), opened.ask, &opened.headers).await
}

pub(super) async fn answer(
    asker: Asker<'_>,
    ask: Ask,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let name = model_name(ask.model, headers)?;
    let model = ask::meant(asker.app, name.as_deref(), Needs::Vectors)?;
    let parameters = ask.parameters.map(|Object(own)| own).unwrap_or_default();
    no_prompt(parameters.prompt_name)?;
    let too_long = too_long(parameters.truncate, parameters.truncation_direction)?;
    let Object(inputs) = ask.inputs.ok_or_else(|| ApiError::missing("inputs"))?;
    let source = required(inputs.source_sentence, "source_sentence")?;
    let mut texts = Texts::required(inputs.sentences, "sentences")?;
    if source.is_empty() {
        return Err(ApiError::empty("source_sentence", "is an empty text"));
    }
    // At the end, so that errors count the sentences as the client does.
    texts.push(source);
    let question = Question::singles(texts, too_long);
    let answered = asker.ask(&model, Output::Vector, question, "sentences").await?;
    reply::json(answered.share, asker.deadline, move || {
        let mut outputs = answered.outputs;
        let source = outputs.pop().unwrap_or_default();
        Ok(Cosines(outputs.iter().map(|vector| vectors::cosine(&source, vector)).collect()))
    })
    .await
}
