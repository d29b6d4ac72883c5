//! Failures in OpenAI's shape.

use std::time::Duration;

use axum::Json;
use axum::http::header::{HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lamplighter_engine::EngineError;
use serde_json::json;

use super::budget::NoRoom;
use super::clip::clip;
use crate::run::{RunError, is_non_finite, whole_seconds};

/// OpenAI's clients try 5xx again unless this header says no
/// (<https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py>, `_should_retry`).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What OpenAI's clients look at first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Models take seconds to minutes to load.
const LOADING_RETRY: u64 = 5;
const STOPPING_RETRY: u64 = 1;
/// Bodies are read in moments.
const ROOM_RETRY: u64 = 1;

/// A request that was not answered.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: Kind,
    code: &'static str,
    param: Option<&'static str>,
    message: String,
    retry: Retry,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Request,
    RateLimit,
    Server,
}

#[derive(Clone, Copy, Debug)]
enum Retry {
    /// The status says it all.
    Unsaid,
    /// After so many seconds.
    After(u64),
    /// After a time that was computed.
    Computed(Duration),
    /// The same request fails again.
    Never,
}

impl ApiError {
    fn new(status: StatusCode, kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, message: message.into(), retry: Retry::Unsaid }
    }

    /// 400: a field is missing or has a value that it cannot have.
    pub(super) fn invalid(
        param: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            param: Some(param),
            ..Self::new(StatusCode::BAD_REQUEST, Kind::Request, code, message)
        }
    }

    pub(super) fn malformed(problem: impl std::fmt::Display) -> Self {
        // serde_json repeats a text that stands where an object should.
        let problem = clip(problem);
        let message = format!("the body is not a JSON object of this route: {problem}");
        Self::new(StatusCode::BAD_REQUEST, Kind::Request, "invalid_json", message)
    }

    pub(super) fn body_broke_off(problem: impl std::fmt::Display) -> Self {
        let message = format!("the body could not be read: {problem}");
        Self::new(StatusCode::BAD_REQUEST, Kind::Request, "incomplete_body", message)
    }

    pub(super) fn not_json(found: Option<&HeaderValue>) -> Self {
        let found = found.map_or_else(
            || "it is missing".to_owned(),
            |found| format!("it is {}", clip(String::from_utf8_lossy(found.as_bytes()))),
        );
        let message = format!("the content-type must be application/json, {found}");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, Kind::Request, "unsupported_media_type", message)
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes; send fewer texts at once");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, Kind::Request, "request_too_large", message)
    }

    pub(super) fn body_too_slow(seconds: u64) -> Self {
        let message = format!("the body did not arrive within {seconds} s");
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, Kind::Request, "request_timeout", message)
    }

    pub(super) fn out_of_time(seconds: u64) -> Self {
        let message = format!("there was no answer within {seconds} s");
        let status = StatusCode::GATEWAY_TIMEOUT;
        Self::new(status, Kind::Server, "deadline_exceeded", message)
    }

    pub(super) fn no_model(name: &str, served: &str) -> Self {
        let name = clip(name);
        let message = format!("the model {name:?} is not served here; served are {served}");
        Self {
            param: Some("model"),
            ..Self::new(StatusCode::NOT_FOUND, Kind::Request, "model_not_found", message)
        }
    }

    pub(super) fn no_route(method: &Method, uri: &Uri) -> Self {
        let message = format!("unknown request URL: {} {}", clip(method), clip(uri.path()));
        Self::new(StatusCode::NOT_FOUND, Kind::Request, "unknown_url", message)
    }

    pub(super) fn wrong_method(method: &Method, uri: &Uri) -> Self {
        let message = format!("{} does not answer {}", clip(uri.path()), clip(method));
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, Kind::Request, "method_not_allowed", message)
    }

    pub(super) fn loading(waiting_for: &str) -> Self {
        let message = format!("models are loading: {waiting_for}");
        Self {
            retry: Retry::After(LOADING_RETRY),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Server, "loading", message)
        }
    }

    pub(super) fn stopping() -> Self {
        let message = "this worker is ending; another one will answer";
        Self {
            retry: Retry::After(STOPPING_RETRY),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Server, "stopping", message)
        }
    }

    /// 500 without details, which are in the log.
    pub(super) fn bug() -> Self {
        let message = "the worker failed to answer; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::Server, "internal_error", message)
    }

    pub(super) fn into_response_now(self) -> Response {
        let kind = match self.kind {
            Kind::Request => "invalid_request_error",
            Kind::RateLimit => "rate_limit_error",
            Kind::Server => "server_error",
        };
        let body = json!({"error": {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }});
        let mut response = (self.status, Json(body)).into_response();
        match self.retry {
            Retry::Unsaid => {}
            Retry::After(seconds) => {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            Retry::Computed(time) => {
                response.headers_mut().insert(RETRY_AFTER, whole_seconds(time).into());
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                response.headers_mut().insert(RETRY_AFTER_MS, millis.max(1).into());
            }
            Retry::Never => {
                let no = HeaderValue::from_static("false");
                response.headers_mut().insert(SHOULD_RETRY, no);
            }
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.into_response_now()
    }
}

impl From<NoRoom> for ApiError {
    fn from(NoRoom { limit }: NoRoom) -> Self {
        let message = format!(
            "the bodies of other requests fill the {limit} bytes there are for all of them; try \
             again in {ROOM_RETRY} s"
        );
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            retry: Retry::After(ROOM_RETRY),
            ..Self::new(status, Kind::RateLimit, "too_many_bytes", message)
        }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        match &error {
            RunError::QueueFull { retry_after, .. } | RunError::QueueTooLong { retry_after } => {
                Self {
                    retry: Retry::Computed(*retry_after),
                    ..Self::new(
                        StatusCode::TOO_MANY_REQUESTS,
                        Kind::RateLimit,
                        "queue_full",
                        error.to_string(),
                    )
                }
            }
            RunError::Expired => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                Kind::Server,
                "deadline_exceeded",
                error.to_string(),
            ),
            RunError::Engine(EngineError::TooLong { index, tokens, limit }) => Self::invalid(
                "input",
                "context_length_exceeded",
                format!("input[{index}] has {tokens} tokens, the model reads at most {limit}"),
            ),
            RunError::Engine(EngineError::Untokenizable { index, problem }) => Self::invalid(
                "input",
                "invalid_input",
                format!("input[{index}] cannot be tokenised: {}", clip(problem)),
            ),
            failed if is_non_finite(failed) => {
                tracing::error!(%error, "an output was not finite");
                Self {
                    retry: Retry::Never,
                    ..Self::new(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        Kind::Server,
                        "output_not_finite",
                        error.to_string(),
                    )
                }
            }
            RunError::Engine(_)
            | RunError::NonFinite
            | RunError::Failed(_)
            | RunError::Miscounted { .. }
            | RunError::Lost(_) => {
                tracing::error!(%error, "a request failed");
                Self::bug()
            }
        }
    }
}
