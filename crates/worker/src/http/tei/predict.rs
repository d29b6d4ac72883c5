//! `POST /predict`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lamplighter_engine::{Gives, Output};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pairs::Inputs;
use super::shared::{Direction, too_long};
use crate::http::ask::{self, Asker, Needs, Question};
use crate::http::error::ApiError;
use crate::http::fields::{Field, Name, optional};
use crate::http::naming::model_name;
use crate::http::opened::Opened;
use crate::http::{App, reply, scores};

/// Fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PredictRequest")]
pub(super) struct Ask {
    #[schemars(required)]
    inputs: Option<Inputs>,
    /// `name` or `name:version`; needed where several models give scores.
    model: Option<Field<Name>>,
    /// Whether texts that are too long are cut or refused; `true` by default.
    truncate: Option<Field<bool>>,
    /// Which end is cut off; `Right` by default.
    truncation_direction: Option<Field<Direction>>,
    /// Whether scores are as the model's head gives them, or as the artifact wants them; `false` by
    /// default.
    raw_scores: Option<Field<bool>>,
}

/// A label and its score.
#[derive(Debug, JsonSchema, PartialEq, Serialize)]
pub(super) struct Prediction {
    score: f32,
    label: String,
}

/// The labels of one text, or of each; those with the highest score first.
#[derive(JsonSchema, Serialize)]
#[serde(untagged)]
#[schemars(rename = "Predictions")]
pub(super) enum Answer {
    One(Vec<Prediction>),
    Several(Vec<Vec<Prediction>>),
}

pub(super) async fn predict(
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
    let model = ask::meant(asker.app, name.as_deref(), Needs::Scores)?;
    let too_long = too_long(ask.truncate, ask.truncation_direction)?;
    let raw = optional(ask.raw_scores, "raw_scores")?.unwrap_or_default();
    let inputs = Inputs::required(ask.inputs, "inputs")?;
    let question = Question::Texts(inputs.texts, too_long);
    let answered = asker.ask(&model, Output::Scores, question, "inputs").await?;
    reply::json(answered.share, asker.deadline, move || {
        let gives = &model.engine.facts().gives;
        let outputs = answered.outputs.into_iter();
        let mut predictions = outputs.map(|numbers| labelled(numbers, gives, raw));
        Ok(if inputs.is_one {
            Answer::One(predictions.next().unwrap_or_default())
        } else {
            Answer::Several(predictions.collect())
        })
    })
    .await
}

fn labelled(numbers: Vec<f32>, gives: &Gives, raw: bool) -> Vec<Prediction> {
    let Gives::Scores { labels, .. } = gives else {
        return Vec::new();
    };
    let scores = scores::of_model(numbers, gives, raw);
    let named =
        |at: usize| Some(Prediction { score: *scores.get(at)?, label: labels.get(at)?.clone() });
    scores::order(&scores).into_iter().filter_map(named).collect()
}
