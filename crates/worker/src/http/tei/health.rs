//! `GET /health`, `GET /ping`, `GET /` and `GET /metrics`, for whoever looks at the serving port.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use lamplighter_protocol::WorkerState;

use crate::http::App;
use crate::http::error::ApiError;

/// As `/readyz` on the admin port.
pub(super) async fn health(State(app): State<Arc<App>>) -> Result<(), ApiError> {
    app.registry()?;
    match app.board.state() {
        WorkerState::Ready => Ok(()),
        _ => Err(ApiError::stopping()),
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match &app.metrics_page {
        Some(page) => page.answer(),
        None => ApiError::bug().into_response(),
    }
}
