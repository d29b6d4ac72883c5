//! The serving routes.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/embeddings` | OpenAI: one vector for each input |
//! | `GET /v1/models`, `GET /v1/models/{id}` | OpenAI: the names that requests may use |
//! | `GET /lamplighter/identity` | revision, pod and digests, to confirm where traffic goes |
//!
//! Every failure has OpenAI's shape, `{"error":{"message","type","param","code"}}`, also where
//! no route was reached: <https://platform.openai.com/docs/guides/error-codes>.

mod body;
mod budget;
mod class;
mod clip;
mod deadline;
mod embeddings;
mod error;
mod identity;
mod input;
mod layers;
mod models;
mod parse;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::routing::{get, post};
use axum::{Router, middleware};
use lamplighter_protocol::{WorkerState, place};
use tower_http::catch_panic::CatchPanicLayer;

use crate::board::Board;
use crate::registry::Registry;
use crate::run::Runner;
use budget::Budget;
use error::ApiError;

/// What the routes need.
pub struct App {
    board: Arc<Board>,
    registry: OnceLock<Registry>,
    runner: Runner,
    limits: Limits,
    bodies: Budget,
    pod: HeaderValue,
    created: u64,
}

/// Limits of requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body in bytes.
    pub body: usize,
    /// How many bytes the bodies of all requests may have together.
    pub bodies: usize,
    /// Longest time from a request's parsed head to its answer.
    pub time: Duration,
}

impl App {
    /// Routes of a worker that has no model yet.
    pub fn new(board: Arc<Board>, runner: Runner, limits: Limits) -> Self {
        let pod = HeaderValue::from_str(&board.identity().pod_uid)
            .unwrap_or_else(|_| HeaderValue::from_static(""));
        runner.serve_under(&board, limits.time);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            board,
            registry: OnceLock::new(),
            runner,
            limits,
            bodies: Budget::new(limits.bodies),
            pod,
            created: since_1970.unwrap_or_default().as_secs(),
        }
    }

    /// Lets requests in, to these models. A second registry is ignored: models never change.
    pub fn open(&self, registry: Registry) {
        if self.registry.set(registry).is_err() {
            tracing::error!("a bug: a second set of models was to be served");
        }
    }

    /// What runs the models.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The models that are served; none before they are.
    pub fn served(&self) -> Option<&Registry> {
        self.registry.get()
    }

    /// The models, once all passed their gates.
    fn registry(&self) -> Result<&Registry, ApiError> {
        self.registry.get().ok_or_else(|| match self.board.state() {
            WorkerState::Starting => ApiError::loading(&self.board.waiting_for()),
            WorkerState::Ready
            | WorkerState::Draining
            | WorkerState::Failed
            | WorkerState::Unknown => ApiError::stopping(),
        })
    }
}

/// The serving routes with everything around them.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
        .route(place::IDENTITY_ROUTE, get(identity::identity))
        .fallback(async |request: Request| ApiError::no_route(request.method(), request.uri()))
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::wrong_method(request.method(), request.uri())
        })
        .layer(CatchPanicLayer::custom(|_| ApiError::bug().into_response_now()))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), layers::observe))
        .with_state(app)
}
