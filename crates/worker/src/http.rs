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
mod clip;
mod deadline;
mod embeddings;
mod error;
mod identity;
mod input;
mod layers;
mod models;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::routing::{get, post};
use axum::{Router, middleware};
use lamplighter_protocol::{WorkerState, place};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use crate::board::Board;
use crate::registry::{Model, Refused, Registry, Served};
use crate::run::Runner;
use budget::Budget;
use error::ApiError;

/// What the routes need.
pub struct App {
    board: Arc<Board>,
    registry: watch::Sender<Option<Arc<Registry>>>,
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
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            board,
            registry: watch::Sender::default(),
            runner,
            limits,
            bodies: Budget::new(limits.bodies),
            pod,
            created: since_1970.unwrap_or_default().as_secs(),
        }
    }

    /// Lets requests in, to these models. A second time is ignored: from then on models come and go
    /// by [`App::change`].
    pub fn open(&self, registry: Registry) {
        let opened = self.registry.send_if_modified(|served| {
            let is_first = served.is_none();
            served.get_or_insert_with(|| Arc::new(registry));
            is_first
        });
        if !opened {
            tracing::error!("a bug: a second set of models was to be served");
        }
    }

    /// Serves what `change` makes of the models, and returns what else it tells. Requests that have
    /// begun keep the models that they began with.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&Registry) -> Result<(Registry, T), Refused>,
    ) -> Result<T, Refused> {
        let mut outcome = Err(Refused::NotServing);
        self.registry.send_if_modified(|served| {
            if let Some(now) = served {
                outcome = change(now).map(|(next, told)| {
                    *served = Some(Arc::new(next));
                    told
                });
            }
            outcome.is_ok()
        });
        outcome
    }

    /// What runs the models.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The models that are served, now and later.
    pub fn served(&self) -> Served {
        self.registry.subscribe()
    }

    /// The model that a request means. Nothing else is held, so that the others can be unloaded.
    fn model(&self, name: &str) -> Result<Arc<Model>, ApiError> {
        let registry = self.registry()?;
        registry.resolve(name).map(Arc::clone).ok_or_else(|| {
            let served: Vec<&str> = registry.names().map(|(name, _)| name).collect();
            ApiError::no_model(name, &served.join(", "))
        })
    }

    /// The models of the moment, once all of the manifest passed their gates. Who holds them holds
    /// their memory.
    fn registry(&self) -> Result<Arc<Registry>, ApiError> {
        self.registry.borrow().clone().ok_or_else(|| match self.board.state() {
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
