//! What changes the models of a running worker, after the Open Inference Protocol's extension
//! (<https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md>).
//!
//! | route | what it does |
//! |---|---|
//! | `POST /v2/repository/index` | lists the models with their states; `{"ready": true}` for those that answer |
//! | `POST /v2/repository/models/{name}/load` | loads one more version, answers when it serves |
//! | `POST /v2/repository/models/{name}/unload` | takes a version away, answers when its memory is free |
//! | `POST /v2/repository/models/{name}/default` | lets the plain name mean another version |
//!
//! `{name}` is a name or `name:version`. The load's `parameters.config` is the model as it would
//! stand in the manifest, as JSON in a text; `name` may be left out there. The others take
//! `parameters.version`. The default is our own: the protocol knows no plain name with several
//! versions. A version that is loaded is not loaded again: unload it first.
//!
//! All of it is off, and 404, without `--admin-token-file`; with it, who has no token gets 401.
//! Failures are `{"error": …}`; that of a load has the whole [`lamplighter_protocol::Failure`] beside
//! it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use lamplighter_protocol::failure::Class;
use lamplighter_protocol::{ModelEntry, ModelKey, ModelReport, ModelState, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::token::{TokenError, TokenFile};
use crate::registry::{Refused, Registry};
use crate::repository::{CommandError, Repository};

const OFF: &str = "models are loaded and unloaded only by a worker that was started with \
    --admin-token-file (LAMPLIGHTER_ADMIN_TOKEN_FILE)";

/// The routes at the head of this module; without a token, a word about that.
pub fn router(repository: &Arc<Repository>, token: Option<TokenFile>) -> Router {
    let Some(token) = token else {
        let off = async || (StatusCode::NOT_FOUND, Json(json!({"error": OFF})));
        return Router::new().route("/v2/repository/{*rest}", any(off));
    };
    Router::new()
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{name}/load", post(load))
        .route("/v2/repository/models/{name}/unload", post(unload))
        .route("/v2/repository/models/{name}/default", post(set_default))
        .route_layer(middleware::from_fn_with_state(token, is_let_in))
        .with_state(Arc::clone(repository))
}

async fn is_let_in(State(token): State<TokenFile>, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let checked = tokio::task::spawn_blocking(move || token.check(&headers)).await;
    match checked {
        Ok(Ok(())) => next.run(request).await,
        Ok(Err(wrong @ TokenError::Wrong)) => {
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, wrong).into_response();
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            response
        }
        Ok(Err(unusable)) => {
            tracing::error!(error = %unusable, "nobody is let in");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, unusable).into_response()
        }
        Err(lost) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, lost).into_response(),
    }
}

#[derive(Default, Deserialize)]
struct IndexAsked {
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// A model as Triton's index tells it; `default` is our own.
#[derive(Serialize)]
struct Listed {
    name: String,
    version: String,
    state: &'static str,
    reason: String,
    /// Whether the plain name means it.
    default: bool,
}

impl Listed {
    fn new(report: &ModelReport, unloading: bool, registry: Option<&Registry>) -> Self {
        let (state, reason) = state(report, unloading);
        let ModelKey { name, version } = report.key.clone();
        let default = registry.and_then(|registry| registry.default_of(&name));
        let default = default == Some(&report.key);
        Self { name, version, state, reason, default }
    }
}

/// In Triton's words
/// (<https://github.com/triton-inference-server/core/blob/main/src/model_repository_manager/model_lifecycle.h>,
/// `ModelReadyState`).
fn state(report: &ModelReport, unloading: bool) -> (&'static str, String) {
    if unloading {
        return ("UNLOADING", "requests that began before still have it".to_owned());
    }
    match report.state {
        ModelState::Ready => ("READY", String::new()),
        ModelState::Failed => {
            let why = |failure: &lamplighter_protocol::Failure| {
                format!("{}: {}", failure.reason, failure.message)
            };
            ("UNAVAILABLE", report.failure.as_ref().map(why).unwrap_or_default())
        }
        ModelState::Pending => ("LOADING", "it waits for its turn".to_owned()),
        ModelState::Loading
        | ModelState::WarmingUp
        | ModelState::Validating
        | ModelState::Unknown => {
            let phase = report.phases.last().map(|timing| timing.phase.as_str());
            ("LOADING", format!("phase {}", phase.unwrap_or("Fetch")))
        }
    }
}

async fn index(
    State(repository): State<Arc<Repository>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Vec<Listed>>, Problem> {
    let IndexAsked { ready } = read(body)?;
    let registry = repository.registry();
    let models = repository.board().models();
    let listed = models
        .iter()
        .map(|(report, unloading)| Listed::new(report, *unloading, registry.as_deref()))
        .filter(|listed| !ready || listed.state == "READY");
    Ok(Json(listed.collect()))
}

async fn load(
    State(repository): State<Arc<Repository>>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Path(name) = name.map_err(|wrong| Problem::asked(wrong.body_text()))?;
    let Asked { parameters } = read(body)?;
    let entry = entry(&name, &parameters)?;
    let told = json!({"name": entry.name, "version": entry.version, "state": "READY"});
    repository.load(entry).await?;
    Ok(Json(told))
}

async fn unload(
    State(repository): State<Arc<Repository>>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let key = named(&repository, name, body, true)?;
    repository.unload(key).await?;
    Ok(Json(json!({})))
}

async fn set_default(
    State(repository): State<Arc<Repository>>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let key = named(&repository, name, body, false)?;
    repository.set_default(&key)?;
    Ok(Json(json!({})))
}

/// An empty body says nothing.
fn read<T: Default + serde::de::DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let body = body.map_err(|wrong| Problem::new(wrong.status(), wrong.body_text()))?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    // A struct would also be read from a list.
    let fields: Result<Map<String, Value>, _> = serde_json::from_slice(&body);
    fields.and_then(|fields| serde_json::from_value(fields.into())).map_err(|wrong| {
        Problem::asked(format!("the body is not a JSON object of this route: {wrong}"))
    })
}

/// The model to be loaded, as the manifest would name it.
fn entry(name: &str, parameters: &Map<String, Value>) -> Result<ModelEntry, Problem> {
    if let Some(other) = parameters.keys().find(|parameter| *parameter != "config") {
        return Err(Problem::asked(format!(
            "parameters.{other} is not known here: the model is described by parameters.config \
             alone, and its files are where its source says"
        )));
    }
    let config = match parameters.get("config") {
        Some(Value::String(config)) => config,
        Some(_) => return Err(Problem::asked("parameters.config must be a text with JSON in it")),
        None => {
            return Err(Problem::asked(
                "parameters.config is missing: the model as it would stand in the manifest, as \
                 JSON in a text, for example {\"version\": \"2\", \"task\": \"Embedding\", \
                 \"source\": {\"uri\": \"s3://models/embedder/2\"}}",
            ));
        }
    };
    let invalid = |wrong: serde_json::Error| {
        Problem::asked(format!("parameters.config is not a model of the manifest: {wrong}"))
    };
    let mut config: Map<String, Value> = serde_json::from_str(config).map_err(invalid)?;
    let (plain, _) = name.split_once(':').unwrap_or((name, ""));
    config.entry("name").or_insert_with(|| plain.into());
    let entry: ModelEntry = serde_json::from_value(config.into()).map_err(invalid)?;
    if entry.name != name && entry.key().to_string() != name {
        return Err(Problem::asked(format!(
            "the path names {name:?} and parameters.config {}",
            entry.key()
        )));
    }
    entry.check().map_err(|wrong| Problem::asked(wrong.to_string()))?;
    Ok(entry)
}

/// The model that is meant by the path and `parameters.version`; of several versions one must be
/// named, and the only one where `may_be_only` needs no name.
fn named(
    repository: &Repository,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
    may_be_only: bool,
) -> Result<ModelKey, Problem> {
    let Path(path) = name.map_err(|wrong| Problem::asked(wrong.body_text()))?;
    let Asked { parameters } = read(body)?;
    let version = match parameters.get("version") {
        Some(Value::String(version)) => Some(version.clone()),
        Some(Value::Number(version)) => Some(version.to_string()),
        Some(_) => return Err(Problem::asked("parameters.version must be a text")),
        None => None,
    };
    let (name, in_path) = match path.split_once(':') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (path.as_str(), None),
    };
    if version.is_some() && in_path.is_some() && version != in_path {
        return Err(Problem::asked(format!(
            "the path names {path:?} and parameters.version another"
        )));
    }
    if let Some(version) = in_path.or(version) {
        return Ok(ModelKey { name: name.to_owned(), version });
    }
    let registry = repository.registry().ok_or(CommandError::NotReady)?;
    let versions: Vec<&str> =
        registry.versions(name).map(|model| model.key.version.as_str()).collect();
    match versions.as_slice() {
        [only] if may_be_only => {
            Ok(ModelKey { name: name.to_owned(), version: (*only).to_owned() })
        }
        [] => Err(Problem::new(StatusCode::NOT_FOUND, format!("no version of {name:?} is loaded"))),
        all => Err(Problem::asked(format!(
            "say which version of {name:?} is meant in parameters.version or as name:version in \
             the path; loaded: {}",
            all.join(", ")
        ))),
    }
}

/// A command that was not done.
struct Problem {
    status: StatusCode,
    body: Value,
}

impl Problem {
    fn new(status: StatusCode, error: impl std::fmt::Display) -> Self {
        Self { status, body: json!({"error": error.to_string()}) }
    }

    fn asked(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let mut problem = Self::new(status(&error), &error);
        if let CommandError::Failed(failure) = &error {
            problem.body["failure"] = json!(failure);
        }
        problem
    }
}

fn status(error: &CommandError) -> StatusCode {
    match error {
        CommandError::Refused(Refused::NotLoaded(_)) => StatusCode::NOT_FOUND,
        CommandError::Refused(
            Refused::Loaded(_) | Refused::IsDefault { .. } | Refused::Last(_),
        )
        | CommandError::Busy { .. } => StatusCode::CONFLICT,
        CommandError::Refused(Refused::NotServing) | CommandError::NotReady => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        CommandError::StillHeld { .. } => StatusCode::GATEWAY_TIMEOUT,
        CommandError::Failed(failure) => of_failure(failure.reason),
    }
}

/// 422 for what fails in the same way again, 503 for what may pass.
fn of_failure(reason: Reason) -> StatusCode {
    match (reason, reason.class()) {
        (Reason::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (Reason::StartDeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
        (_, Class::Transient) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Class::Deterministic | Class::Outside) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
