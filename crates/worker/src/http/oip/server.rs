//! `GET /v2` and the health of the worker.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lamplighter_protocol::WorkerState;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::App;
use crate::http::error::ApiError;

/// What answers.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ServerMetadata")]
pub(super) struct Metadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Live {
    live: bool,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ServerReady")]
pub(super) struct Ready {
    ready: bool,
}

pub(super) async fn metadata() -> Json<Metadata> {
    Json(Metadata {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "model_repository"],
    })
}

pub(super) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// As `/readyz` on the admin port.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Ready>, ApiError> {
    app.registry()?;
    match app.board.state() {
        WorkerState::Ready => Ok(Json(Ready { ready: true })),
        _ => Err(ApiError::stopping()),
    }
}
