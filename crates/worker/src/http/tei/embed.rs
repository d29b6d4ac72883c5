//! `POST /embed` and `POST /embed_all`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lamplighter_engine::{Gives, Output};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::shared::{Direction, no_prompt, too_long};
use crate::http::ask::{self, Asker, Needs};
use crate::http::error::ApiError;
use crate::http::fields::{Count, Field, Name, optional};
use crate::http::input::Parsed;
use crate::http::naming::model_name;
use crate::http::opened::Opened;
use crate::http::{App, reply, vectors};

/// Fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "EmbedRequest")]
pub(super) struct Ask {
    #[schemars(required)]
    inputs: Option<Parsed>,
    /// `name` or `name:version`; needed where several models give vectors.
    model: Option<Field<Name>>,
    /// Whether texts that are too long are cut or refused; `true` by default.
    truncate: Option<Field<bool>>,
    /// Which end is cut off; `Right` by default.
    truncation_direction: Option<Field<Direction>>,
    /// Not served: put the prompt before the text.
    prompt_name: Option<Field<Name>>,
    /// Whether vectors are brought to length 1; `true` by default. Those that the artifact normalises
    /// itself have it in any case.
    normalize: Option<Field<bool>>,
    /// How many numbers of each vector are wanted, from its beginning; all by default.
    dimensions: Option<Field<Count>>,
}

/// As for `/embed`, without what is about vectors of texts.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "EmbedAllRequest")]
pub(super) struct AskAll {
    #[schemars(required)]
    inputs: Option<Parsed>,
    /// `name` or `name:version`; needed where several models give vectors.
    model: Option<Field<Name>>,
    /// Whether texts that are too long are cut or refused; `true` by default.
    truncate: Option<Field<bool>>,
    /// Which end is cut off; `Right` by default.
    truncation_direction: Option<Field<Direction>>,
    /// Not served: put the prompt before the text.
    prompt_name: Option<Field<Name>>,
}

/// One vector for each text.
#[derive(JsonSchema, Serialize)]
pub(super) struct Vectors(Vec<Vec<f32>>);

/// One vector for each token of each text.
#[derive(JsonSchema, Serialize)]
pub(super) struct TokenVectors(#[schemars(with = "Vec<Vec<Vec<f32>>>")] Vec<Rows>);

/// Vectors of this length, one after the other.
struct Rows {
    numbers: Vec<f32>,
    width: usize,
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.numbers.chunks_exact(self.width))
    }
}

pub(super) async fn embed(
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
    let gives = &model.engine.facts().gives;
    no_prompt(ask.prompt_name)?;
    // What the artifact normalises itself stays so: clients send `false` by default.
    let is_normal = matches!(gives, Gives::Vectors { normalized: true, .. });
    let normalize = optional(ask.normalize, "normalize")?.unwrap_or(true) && !is_normal;
    let dimensions = vectors::dimensions(ask.dimensions, gives)?;
    let too_long = too_long(ask.truncate, ask.truncation_direction)?;
    let question = Parsed::required(ask.inputs, "inputs")?.into_question(too_long);
    let answered = asker.ask(&model, Output::Vector, question, "inputs").await?;
    reply::json(answered.share, asker.deadline, move || {
        let gives = &model.engine.facts().gives;
        let wanted = answered.outputs.into_iter().map(|vector| {
            let mut vector = vectors::shortened(vector, dimensions, gives)?;
            if normalize {
                vectors::normalize(&mut vector);
            }
            Ok(vector)
        });
        Ok(Vectors(wanted.collect::<Result<_, ApiError>>()?))
    })
    .await
}

pub(super) async fn embed_all(
    State(app): State<Arc<App>>,
    opened: Opened<AskAll>,
) -> Result<Response, ApiError> {
    let asker = opened.asker(&app);
    let ask = opened.ask;
    let name = model_name(ask.model, &opened.headers)?;
    let model = ask::meant(&app, name.as_deref(), Needs::Vectors)?;
    no_prompt(ask.prompt_name)?;
    let too_long = too_long(ask.truncate, ask.truncation_direction)?;
    let question = Parsed::required(ask.inputs, "inputs")?.into_question(too_long);
    let answered = asker.ask(&model, Output::TokenVectors, question, "inputs").await?;
    let width = answered.width();
    reply::json(answered.share, asker.deadline, move || {
        Ok(TokenVectors(
            answered.outputs.into_iter().map(|numbers| Rows { numbers, width }).collect(),
        ))
    })
    .await
}
