//! Failures: what went wrong, before a family of routes gives it its status and shape.

use std::time::Duration;

use axum::http::header::HeaderValue;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lamplighter_engine::EngineError;

use super::budget::NoRoom;
use super::clip::clip;
use crate::run::{RunError, is_non_finite};

/// Models take seconds to minutes to load.
const LOADING_RETRY: u64 = 5;
const STOPPING_RETRY: u64 = 1;
/// Bodies are read in moments, and so are most answers.
const ROOM_RETRY: u64 = 1;

/// A request that was not answered.
///
/// As a response it has no body yet: it travels in the extensions to [`super::layers`], which knows
/// for which family of routes it is to be written.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) kind: Kind,
    /// A word for programs.
    pub(super) code: &'static str,
    /// The field at fault.
    pub(super) param: Option<&'static str>,
    /// A sentence for people.
    pub(super) message: String,
    pub(super) retry: Retry,
}

/// What went wrong, as far as statuses tell it apart in any family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The request as HTTP; the status is the same everywhere.
    Http(StatusCode),
    /// No key came with the request, or none that counts here.
    Unauthorized,
    /// A field is missing or has a value that it cannot have.
    Invalid,
    /// There is nothing to work on.
    Empty,
    /// A text gives no tokens, or more than the model reads.
    Tokens,
    /// The name is not served.
    NoModel,
    /// The model is served and gives something else.
    WrongModel,
    /// Others take all the room there is.
    Overloaded,
    /// The worker is not ready yet, or no more.
    Unavailable,
    /// The model or the worker failed.
    Failed,
    /// There was no answer in time.
    Late,
}

/// Whether the same request may do better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Retry {
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
    fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, param: None, message: message.into(), retry: Retry::Unsaid }
    }

    /// A field is missing or has a value that it cannot have.
    pub(super) fn invalid(
        param: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { param: Some(param), ..Self::new(Kind::Invalid, code, message) }
    }

    pub(super) fn missing(param: &'static str) -> Self {
        Self::invalid(param, "missing_required_parameter", format!("{param} is missing"))
    }

    /// A field with nothing in it.
    pub(super) fn empty(param: &'static str, problem: &str) -> Self {
        let message = about(param, problem);
        Self { param: Some(param), ..Self::new(Kind::Empty, "invalid_input", message) }
    }

    /// The body is no JSON, or JSON of another shape.
    pub(super) fn malformed(problem: &serde_json::Error) -> Self {
        let kind = match problem.classify() {
            serde_json::error::Category::Data => Kind::Invalid,
            _ => Kind::Http(StatusCode::BAD_REQUEST),
        };
        // serde_json repeats a text that stands where an object should.
        let problem = clip(problem);
        Self::new(
            kind,
            "invalid_json",
            format!("the body is not a JSON object of this route: {problem}"),
        )
    }

    pub(super) fn body_broke_off(problem: impl std::fmt::Display) -> Self {
        let message = format!("the body could not be read: {problem}");
        Self::new(Kind::Http(StatusCode::BAD_REQUEST), "incomplete_body", message)
    }

    pub(super) fn not_json(found: Option<&HeaderValue>) -> Self {
        Self::media_type(format!("the content-type must be application/json, {}", shown(found)))
    }

    pub(super) fn compressed(found: Option<&HeaderValue>) -> Self {
        Self::media_type(format!("the content-encoding must be identity, {}", shown(found)))
    }

    fn media_type(message: String) -> Self {
        let kind = Kind::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        Self::new(kind, "unsupported_media_type", message)
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes; send fewer texts at once");
        Self::new(Kind::Http(StatusCode::PAYLOAD_TOO_LARGE), "request_too_large", message)
    }

    pub(super) fn body_too_slow(seconds: u64) -> Self {
        let message = format!("the body did not arrive within {seconds} s");
        Self::new(Kind::Http(StatusCode::REQUEST_TIMEOUT), "request_timeout", message)
    }

    pub(super) fn body_stalled(seconds: u64) -> Self {
        let message = format!("nothing more of the body came for {seconds} s");
        Self::new(Kind::Http(StatusCode::REQUEST_TIMEOUT), "request_timeout", message)
    }

    pub(super) fn out_of_time(seconds: u64) -> Self {
        let message = format!("there was no answer within {seconds} s");
        Self::new(Kind::Late, "deadline_exceeded", message)
    }

    pub(super) fn no_model(name: &str, served: &str) -> Self {
        let name = clip(name);
        let message = format!("the model {name:?} is not served here; served are {served}");
        Self { param: Some("model"), ..Self::new(Kind::NoModel, "model_not_found", message) }
    }

    /// The model is served, but not for this.
    pub(super) fn wrong_model(message: String) -> Self {
        Self {
            param: Some("model"),
            retry: Retry::Never,
            ..Self::new(Kind::WrongModel, "model_does_not_fit", message)
        }
    }

    pub(super) fn no_route(method: &Method, uri: &Uri) -> Self {
        let message = format!("unknown request URL: {} {}", clip(method), clip(uri.path()));
        Self::new(Kind::Http(StatusCode::NOT_FOUND), "unknown_url", message)
    }

    pub(super) fn wrong_method(method: &Method, uri: &Uri) -> Self {
        let message = format!("{} does not answer {}", clip(uri.path()), clip(method));
        Self::new(Kind::Http(StatusCode::METHOD_NOT_ALLOWED), "method_not_allowed", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "a key is needed that is valid here, as `Authorization: Bearer KEY` or \
                       `x-api-key: KEY`";
        Self::new(Kind::Unauthorized, "invalid_api_key", message)
    }

    pub(super) fn loading(waiting_for: &str) -> Self {
        let message = format!("models are loading: {waiting_for}");
        Self {
            retry: Retry::After(LOADING_RETRY),
            ..Self::new(Kind::Unavailable, "loading", message)
        }
    }

    pub(super) fn stopping() -> Self {
        let message = "this worker is ending; another one will answer";
        Self {
            retry: Retry::After(STOPPING_RETRY),
            ..Self::new(Kind::Unavailable, "stopping", message)
        }
    }

    /// Answers that are computed, or that their clients have yet to read, take all the bytes there are.
    pub(super) fn answers_full(limit: usize) -> Self {
        let message = format!(
            "the answers to other requests fill the {limit} bytes there are for all of them; try \
             again in {ROOM_RETRY} s"
        );
        Self {
            retry: Retry::After(ROOM_RETRY),
            ..Self::new(Kind::Overloaded, "too_many_bytes", message)
        }
    }

    /// Without details, which are in the log.
    pub(super) fn bug() -> Self {
        let message = "the worker failed to answer; its log says why";
        Self::new(Kind::Failed, "internal_error", message)
    }

    /// A text has more bytes than one may have for the model to read it uncut.
    pub(super) fn text_too_large(
        param: &'static str,
        index: usize,
        bytes: usize,
        limit: usize,
    ) -> Self {
        let message = format!(
            "{param}[{index}] has {bytes} bytes, of which the model reads at most {limit}; send it in \
             parts"
        );
        Self { param: Some(param), ..Self::new(Kind::Tokens, "context_length_exceeded", message) }
    }

    /// A run failed that was asked for the texts of the field `param`.
    pub(super) fn of_run(error: &RunError, param: &'static str) -> Self {
        let of_text =
            |code, message| Self { param: Some(param), ..Self::new(Kind::Tokens, code, message) };
        match error {
            RunError::QueueFull { retry_after, .. } | RunError::QueueTooLong { retry_after } => {
                Self {
                    retry: Retry::Computed(*retry_after),
                    ..Self::new(Kind::Overloaded, "queue_full", error.to_string())
                }
            }
            RunError::TooMuch { .. } => Self {
                param: Some(param),
                retry: Retry::Never,
                ..Self::new(
                    Kind::Http(StatusCode::PAYLOAD_TOO_LARGE),
                    "too_much_work",
                    format!("{param}: {error}"),
                )
            },
            RunError::Expired => Self::new(Kind::Late, "deadline_exceeded", error.to_string()),
            RunError::Engine(EngineError::TooLong { index, tokens, limit }) => of_text(
                "context_length_exceeded",
                format!("{param}[{index}] has {tokens} tokens, the model reads at most {limit}"),
            ),
            RunError::Engine(EngineError::Untokenizable { index, problem }) => of_text(
                "invalid_input",
                format!("{param}[{index}] cannot be tokenised: {}", clip(problem)),
            ),
            failed if is_non_finite(failed) => {
                tracing::error!(%error, "an output was not finite");
                Self {
                    retry: Retry::Never,
                    ..Self::new(Kind::Failed, "output_not_finite", error.to_string())
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

    /// The status where a family has none of its own for it.
    pub(super) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Http(status) => status,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Invalid | Kind::Empty | Kind::Tokens | Kind::WrongModel => {
                StatusCode::BAD_REQUEST
            }
            Kind::NoModel => StatusCode::NOT_FOUND,
            Kind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(super) fn into_response_now(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A sentence with its subject; one that begins with a place in brackets belongs to the name.
pub(super) fn about(subject: impl std::fmt::Display, sentence: &str) -> String {
    let blank = if sentence.starts_with('[') { "" } else { " " };
    format!("{subject}{blank}{sentence}")
}

fn shown(header: Option<&HeaderValue>) -> String {
    header.map_or_else(
        || "it is missing".to_owned(),
        |found| format!("it is {}", clip(String::from_utf8_lossy(found.as_bytes()))),
    )
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
        Self {
            retry: Retry::After(ROOM_RETRY),
            ..Self::new(Kind::Overloaded, "too_many_bytes", message)
        }
    }
}
