//! `POST /rerank`, which is not Cohere's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lamplighter_engine::Output;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{Direction, too_long};
use crate::http::ask::{self, Asker, Needs};
use crate::http::error::ApiError;
use crate::http::fields::{Field, Name, optional, required};
use crate::http::naming::model_name;
use crate::http::opened::Opened;
use crate::http::rank::{self, Ranked};
use crate::http::texts::Texts;
use crate::http::{App, reply};

/// Fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "TeiRerankRequest")]
pub(super) struct Ask {
    #[schemars(required)]
    query: Option<Field<String>>,
    #[schemars(required)]
    texts: Option<Texts>,
    /// `name` or `name:version`; needed where several models give one score for a pair of texts.
    model: Option<Field<Name>>,
    /// Whether pairs that are too long are cut or refused; `true` by default.
    truncate: Option<Field<bool>>,
    /// Which end is cut off; `Right` by default.
    truncation_direction: Option<Field<Direction>>,
    /// Whether scores are as the model's head gives them, or between 0 and 1; `false` by default.
    raw_scores: Option<Field<bool>>,
    /// Whether the answer repeats the texts; `false` by default.
    return_text: Option<Field<bool>>,
}

/// One text.
#[derive(JsonSchema, Serialize)]
struct Rank {
    /// Its place in the request.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

/// The texts, those first that have most to do with the query.
#[derive(JsonSchema, Serialize)]
pub(super) struct Ranks(Vec<Rank>);

pub(super) async fn rerank(
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
    let model = ask::meant(asker.app, name.as_deref(), Needs::Relevance)?;
    let too_long = too_long(ask.truncate, ask.truncation_direction)?;
    let raw = optional(ask.raw_scores, "raw_scores")?.unwrap_or_default();
    let repeat = optional(ask.return_text, "return_text")?.unwrap_or_default();
    let query = required(ask.query, "query")?;
    let texts = Texts::required(ask.texts, "texts")?;
    let (question, mut texts) = rank::question(&query, texts, too_long, repeat)?;
    let asker = asker.repeating(texts.iter().map(String::len).sum());
    let answered = asker.ask(&model, Output::Scores, question, "texts").await?;
    reply::json(answered.share, asker.deadline, move || {
        let ranks = rank::ranked(&answered.outputs, raw).into_iter();
        let ranks = ranks.map(|Ranked { index, score }| Rank {
            index,
            text: texts.get_mut(index).map(std::mem::take),
            score,
        });
        Ok(Ranks(ranks.collect()))
    })
    .await
}
