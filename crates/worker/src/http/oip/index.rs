//! What the models are: their tensors, their states.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use lamplighter_engine::Gives;
use lamplighter_protocol::ModelState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tensor;
use crate::http::ask::{self, Needs};
use crate::http::clip::clip;
use crate::http::deadline::Deadline;
use crate::http::error::ApiError;
use crate::http::fields::{Field, optional};
use crate::http::{App, body, parse};
use crate::registry::Model;

/// A model and its tensors.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ModelMetadata")]
pub(super) struct Metadata {
    name: String,
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "TensorMetadata")]
struct Tensor {
    name: &'static str,
    datatype: &'static str,
    /// -1 where it is as long as there are texts.
    shape: Vec<i64>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ModelReady")]
pub(super) struct Ready {
    name: String,
    ready: bool,
}

/// A model's state.
#[derive(Debug, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "RepositoryEntry")]
pub(super) struct Entry {
    name: String,
    version: String,
    /// READY, LOADING or UNAVAILABLE.
    state: &'static str,
    reason: String,
}

/// `model` and, maybe, `version` of a path.
pub(super) type Names = Result<Path<HashMap<String, String>>, PathRejection>;

/// The model that a path means.
pub(super) fn model_of(app: &App, names: Names) -> Result<Arc<Model>, ApiError> {
    let Path(names) = names
        .map_err(|wrong| ApiError::invalid("model", "invalid_value", clip(wrong.body_text())))?;
    let name = names.get("model").map(String::as_str).unwrap_or_default();
    match names.get("version") {
        Some(version) => ask::named(app, &format!("{name}:{version}"), Needs::Anything),
        None => ask::named(app, name, Needs::Anything),
    }
}

pub(super) async fn metadata(
    State(app): State<Arc<App>>,
    names: Names,
) -> Result<Json<Metadata>, ApiError> {
    let registry = app.registry()?;
    let model = model_of(&app, names)?;
    let of_this_name = registry.models().iter().filter(|other| other.key.name == model.key.name);
    let gives = &model.engine.facts().gives;
    let text = |name| Tensor { name, datatype: tensor::BYTES, shape: vec![-1] };
    let width = i64::try_from(gives.numbers()).unwrap_or(i64::MAX);
    let output = tensor::output_of(gives);
    Ok(Json(Metadata {
        name: model.key.name.clone(),
        versions: of_this_name.map(|other| other.key.version.clone()).collect(),
        platform: "lamplighter",
        inputs: match gives {
            Gives::Vectors { .. } => vec![text(tensor::TEXT)],
            Gives::Scores { .. } => vec![text(tensor::TEXT), text(tensor::TEXT_PAIR)],
        },
        outputs: vec![Tensor { name: output, datatype: tensor::FP32, shape: vec![-1, width] }],
    }))
}

pub(super) async fn ready(
    State(app): State<Arc<App>>,
    names: Names,
) -> Result<Json<Ready>, ApiError> {
    let model = model_of(&app, names)?;
    Ok(Json(Ready { name: model.key.name.clone(), ready: true }))
}

/// What of the index is wanted; an empty body wants all of it.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "RepositoryIndexRequest")]
pub(super) struct Ask {
    /// Whether only models are wanted that answer.
    ready: Option<Field<bool>>,
}

/// Also while the models load.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(deadline): Extension<Deadline>,
    request: Request,
) -> Result<Json<Vec<Entry>>, ApiError> {
    let (bytes, _share) = body::unhurried(request, &app, deadline).await?;
    let ask: Ask = if bytes.is_empty() { Ask::default() } else { parse::object(&bytes)? };
    let only_ready = optional(ask.ready, "ready")?.unwrap_or_default();
    let served = app.registry().ok();
    let report = app.board.report();
    let entries = report.models.into_iter().map(|model| {
        let key = model.key.to_string();
        let answers = served.as_ref().is_some_and(|served| served.resolve(&key).is_some());
        // One that has passed waits for the others, while the worker starts.
        let state = match model.state {
            _ if answers => ModelState::Ready,
            ModelState::Ready => ModelState::Pending,
            state => state,
        };
        let reason = model.failure.map(|failure| failure.message).unwrap_or_default();
        Entry { name: model.key.name, version: model.key.version, state: triton(state), reason }
    });
    Ok(Json(entries.filter(|entry| !only_ready || entry.state == READY).collect()))
}

const READY: &str = "READY";

fn triton(state: ModelState) -> &'static str {
    match state {
        ModelState::Ready => READY,
        ModelState::Failed => "UNAVAILABLE",
        ModelState::Pending
        | ModelState::Loading
        | ModelState::WarmingUp
        | ModelState::Validating
        | ModelState::Unknown => "LOADING",
    }
}
