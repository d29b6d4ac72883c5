//! What is told on the admin port, and what it can be told to do.
//!
//! | route | answer |
//! |---|---|
//! | `GET /livez`, `GET /readyz`, `GET /metrics` | see `lamplighter_telemetry` |
//! | `GET /status` | the whole [`Report`] |
//! | `POST /shed` | every open connection is to close; says how many there are |
//! | `POST /validate` | the validation cases are asked again at once |
//!
//! The commands need the header `x-lamplighter-pod` with this pod's own uid, else 403. It is a
//! precondition and no secret: an address may belong to another pod than it did when the caller
//! looked, and a command must not reach that one. Anybody who can reach this port can read the uid
//! in `/status`; who may reach it is for a `NetworkPolicy` to say.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lamplighter_protocol::place::POD_HEADER;
use lamplighter_protocol::{Report, WorkerState, place};
use lamplighter_telemetry::metrics::Page;
use lamplighter_telemetry::probe;
use serde_json::json;

use crate::board::Board;

/// The routes at the head of this module.
pub fn router(board: &Arc<Board>, metrics: Page) -> Router {
    let commands = Router::new()
        .route(place::SHED_ROUTE, post(shed))
        .route(place::VALIDATE_ROUTE, post(validate))
        .route_layer(middleware::from_fn_with_state(Arc::clone(board), is_for_this_pod));
    let status = Router::new().route(place::STATUS_ROUTE, get(status));
    let ours = status.merge(commands).with_state(Arc::clone(board));
    probe::router(board.readiness().clone()).merge(ours).merge(metrics.router())
}

async fn status(State(board): State<Arc<Board>>) -> Json<Report> {
    Json(board.report())
}

async fn is_for_this_pod(
    State(board): State<Arc<Board>>,
    request: Request,
    next: Next,
) -> Response {
    let own = &board.identity().pod_uid;
    if request.headers().get(POD_HEADER).is_some_and(|pod| pod.as_bytes() == own.as_bytes()) {
        return next.run(request).await;
    }
    let error = format!("this pod is {own:?}; a command names the pod it is for in {POD_HEADER}");
    (StatusCode::FORBIDDEN, Json(json!({"error": error}))).into_response()
}

async fn shed(State(board): State<Arc<Board>>) -> Response {
    let connections = board.shedding().shed();
    tracing::info!(connections, "told to shed");
    Json(json!({"connectionsBeforeShed": connections})).into_response()
}

/// A worker that is not ready has no models to ask.
async fn validate(State(board): State<Arc<Board>>) -> Response {
    if board.state() != WorkerState::Ready {
        let error = "the worker is not ready, so there is nothing to ask again";
        return (StatusCode::CONFLICT, Json(json!({"error": error}))).into_response();
    }
    tracing::info!("told to validate");
    board.revalidation_trigger().pull();
    (StatusCode::ACCEPTED, Json(json!({"started": true}))).into_response()
}
