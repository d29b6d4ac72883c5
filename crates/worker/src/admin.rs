//! What is told on the admin port.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use lamplighter_protocol::{Report, place};
use lamplighter_telemetry::metrics::Registry;
use lamplighter_telemetry::{metrics, probe};

use crate::board::Board;

/// `/livez`, `/readyz`, `/status` and `/metrics`.
pub fn router(board: &Arc<Board>, registry: Registry) -> Router {
    let status =
        Router::new().route(place::STATUS_ROUTE, get(status)).with_state(Arc::clone(board));
    probe::router(board.readiness().clone()).merge(status).merge(metrics::router(registry))
}

async fn status(State(board): State<Arc<Board>>) -> Json<Report> {
    Json(board.report())
}
