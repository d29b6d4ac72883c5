//! `GET /v1/models` and `GET /v1/models/{id}`, as
//! <https://platform.openai.com/docs/api-reference/models> defines them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::App;
use crate::http::ask::{self, Needs};
use crate::http::clip::clip;
use crate::http::error::ApiError;
use crate::registry::Model;

#[derive(JsonSchema, Serialize)]
pub(super) struct List {
    object: &'static str,
    data: Vec<Entry>,
}

/// A name that requests may use. `root` and `max_model_len` are vLLM's additions
/// (<https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>).
#[derive(JsonSchema, Serialize)]
pub(super) struct Entry {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: String,
    max_model_len: u64,
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<List>, ApiError> {
    let names = app.registry()?.names();
    let data = names.map(|(name, model)| Entry::new(name, model, app.created)).collect();
    Ok(Json(List { object: "list", data }))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Entry>, ApiError> {
    let registry = app.registry()?;
    let Path(id) =
        id.map_err(|wrong| ApiError::invalid("model", "invalid_value", clip(wrong.body_text())))?;
    let model = ask::named(registry, &id, Needs::Anything)?;
    Ok(Json(Entry::new(&id, model, app.created)))
}

impl Entry {
    fn new(name: &str, model: &Model, created: u64) -> Self {
        Self {
            id: name.to_owned(),
            object: "model",
            created,
            owned_by: "lamplighter",
            root: model.key.to_string(),
            max_model_len: model.facts.max_tokens,
        }
    }
}
