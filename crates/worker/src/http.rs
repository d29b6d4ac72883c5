//! The serving routes, in the shapes that clients of other servers know.
//!
//! | routes | as in |
//! |---|---|
//! | `/v1/embeddings`, `/v1/models` | OpenAI |
//! | `/v1/rerank`, `/v2/rerank` | Cohere and Jina |
//! | `/embed`, `/predict`, `/rerank`, `/similarity`, `/info`, … | Text Embeddings Inference |
//! | `/v2/…` | Open Inference Protocol |
//! | `/lamplighter/identity` | revision, pod and digests, to confirm where traffic goes |
//! | `/openapi.json`, `/docs` | all of them, for programs and for people |
//!
//! A request goes through [`layers`] to its route, which reads its [`body`] within bounds, asks a
//! model by [`ask`] alone, and answers by [`reply`] within bounds. A failure is an [`error::ApiError`] until [`layers`] writes it in the shape
//! of the route's [`family`], also where no route was reached.

mod aside;
mod ask;
mod body;
mod budget;
mod class;
mod clip;
mod cohere;
pub mod cors;
mod deadline;
mod documents;
mod error;
mod family;
mod few;
mod fields;
mod identity;
mod ids;
mod input;
pub mod keys;
mod layers;
mod naming;
mod oip;
mod openai;
mod opened;
mod parse;
mod rank;
mod reply;
mod route;
mod scores;
mod te_metrics;
mod tei;
mod texts;
mod vectors;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::{Router, middleware};
use lamplighter_protocol::WorkerState;
use lamplighter_telemetry::metrics::Page;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use crate::board::Board;
use crate::registry::{Refused, Registry, Served};
use crate::run::Runner;
use budget::Budget;
use error::ApiError;
use keys::Keys;
use route::{Route, Trait};
pub use te_metrics::TeMetrics;

/// What the routes need.
pub struct App {
    board: Arc<Board>,
    registry: watch::Sender<Option<Arc<Registry>>>,
    runner: Runner,
    limits: Limits,
    bodies: Budget,
    answers: Budget,
    te: TeMetrics,
    keys: Option<Arc<Keys>>,
    /// Whose pages may ask from a browser.
    origins: Vec<cors::Allowed>,
    metrics_page: Option<Page>,
    /// The paths that answer without a key.
    open_routes: HashSet<&'static str>,
    pod: HeaderValue,
    created: u64,
    numbered: AtomicU64,
}

/// What a worker may have beside its models.
#[derive(Default)]
pub struct Extras {
    /// Who may ask; everybody if none.
    pub keys: Option<Arc<Keys>>,
    /// Whose pages may ask from a browser; nobody's if none.
    pub origins: Vec<cors::Allowed>,
    /// What `/metrics` shows.
    pub metrics: Option<Page>,
    /// Figures under the names of Text Embeddings Inference.
    pub te: TeMetrics,
}

/// Limits of requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body in bytes.
    pub body: usize,
    /// How many bytes the bodies of all requests may have together.
    pub bodies: usize,
    /// How many bytes the answers of all requests may have together, from before they are computed
    /// until the system has the last of them.
    pub answers: usize,
    /// Bytes that a text which may not be cut may have for each token that its model reads.
    pub bytes_per_token: usize,
    /// Longest time from a request's parsed head to its answer.
    pub time: Duration,
}

impl App {
    /// Routes of a worker that has no model yet.
    pub fn new(board: Arc<Board>, runner: Runner, limits: Limits, extras: Extras) -> Self {
        let Extras { keys, origins, metrics, te } = extras;
        let pod = HeaderValue::from_str(&board.identity().pod_uid)
            .unwrap_or_else(|_| HeaderValue::from_static(""));
        runner.serve_under(&board, limits.time);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            board,
            registry: watch::Sender::default(),
            runner,
            limits,
            bodies: Budget::new(limits.bodies),
            answers: Budget::new(limits.answers),
            te,
            keys,
            origins,
            metrics_page: metrics,
            open_routes: routes()
                .iter()
                .filter(|it| it.is(Trait::Open))
                .map(|it| it.path)
                .collect(),
            pod,
            created: since_1970.unwrap_or_default().as_secs(),
            numbered: AtomicU64::new(0),
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

    /// Whether a request may ask where a key is needed.
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.hold(headers))
    }

    /// A name for an answer that no other one of this worker has.
    fn next_id(&self) -> String {
        let number = self.numbered.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{number:x}", self.created)
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
    let router = routes().into_iter().fold(Router::new(), |router, route| route.add_to(router));
    router
        .fallback(async |request: Request| ApiError::no_route(request.method(), request.uri()))
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::wrong_method(request.method(), request.uri())
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), layers::admit))
        .layer(CatchPanicLayer::custom(|_| ApiError::bug().into_response_now()))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), cors::allow))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), layers::observe))
        .with_state(app)
}

/// Every route, as it is served and as it is documented.
fn routes() -> Vec<Route> {
    let families = [openai::routes(), cohere::routes(), tei::routes(), oip::routes()];
    families.into_iter().flatten().chain([identity::route()]).chain(documents::routes()).collect()
}
