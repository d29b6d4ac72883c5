//! Families of routes: clients of one read no other's failures.
//!
//! | family | routes | a failure |
//! |---|---|---|
//! | OpenAI | `/v1/…`, and whatever belongs to no other | `{"error":{"message","type","param","code"}}` |
//! | Cohere and Jina | `/v1/rerank`, `/v2/rerank` | `{"message"}` |
//! | Text Embeddings Inference | `/embed`, `/rerank`, `/info`, … | `{"error","error_type"}` |
//! | Open Inference Protocol | `/v2/…` | `{"error"}` |

use axum::Json;
use axum::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::error::{ApiError, Kind, Retry};
use crate::run::whole_seconds;

/// OpenAI's clients try 5xx again unless this header says no
/// (<https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py>, `_should_retry`).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What OpenAI's clients look at first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The routes of Text Embeddings Inference.
const TEI: [&str; 14] = [
    "/",
    "/decode",
    "/embed",
    "/embed_all",
    "/embed_sparse",
    "/health",
    "/info",
    "/invocations",
    "/metrics",
    "/ping",
    "/predict",
    "/rerank",
    "/similarity",
    "/tokenize",
];

/// Routes that share the shape of their failures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    /// <https://platform.openai.com/docs/guides/error-codes>
    OpenAi,
    /// <https://docs.cohere.com/reference/errors>
    Cohere,
    /// <https://huggingface.github.io/text-embeddings-inference/>
    Tei,
    /// <https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md>
    OpenInference,
}

impl Family {
    /// The family that a path belongs to, whether there is such a route or not.
    pub(super) fn of(path: &str) -> Self {
        if path == "/v1/rerank" || path == "/v2/rerank" {
            Self::Cohere
        } else if path == "/v2" || path.starts_with("/v2/") {
            Self::OpenInference
        } else if TEI.contains(&path) {
            Self::Tei
        } else {
            Self::OpenAi
        }
    }

    /// The name in the documents.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Cohere => "Cohere and Jina",
            Self::Tei => "Text Embeddings Inference",
            Self::OpenInference => "Open Inference Protocol",
        }
    }

    /// A failure of this family, in words of `OpenAPI`.
    pub(super) fn described(self) -> Value {
        let text = json!({"type": "string"});
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        let schema = match self {
            Self::OpenAi => object(json!({"error": object(json!({
                "message": text, "type": text, "param": {"type": ["string", "null"]}, "code": text,
            }))})),
            Self::Cohere => object(json!({"message": text})),
            Self::Tei => object(json!({"error": text, "error_type": text})),
            Self::OpenInference => object(json!({"error": text})),
        };
        json!({
            "description": "It was not answered.",
            "content": {"application/json": {"schema": schema}},
        })
    }

    /// A failure as this family's clients know it.
    pub(super) fn render(self, error: &ApiError) -> Response {
        let mut response = (self.status(error), Json(self.body(error))).into_response();
        let headers = response.headers_mut();
        say_retry(headers, error.retry);
        if error.kind == Kind::Unauthorized {
            // https://www.rfc-editor.org/rfc/rfc6750#section-3
            let scheme = HeaderValue::from_static("Bearer realm=\"lamplighter\"");
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }

    fn status(self, error: &ApiError) -> StatusCode {
        match (self, error.kind) {
            // https://github.com/huggingface/text-embeddings-inference/blob/v1.9.3/router/src/http/server.rs,
            // `impl From<&ErrorType> for StatusCode`
            (Self::Tei, Kind::Invalid | Kind::Tokens | Kind::NoModel) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            (Self::Tei, Kind::WrongModel | Kind::Failed) => StatusCode::FAILED_DEPENDENCY,
            _ => error.status(),
        }
    }

    fn body(self, error: &ApiError) -> Value {
        let message = &error.message;
        match self {
            Self::OpenAi => json!({"error": {
                "message": message,
                "type": openai_type(error),
                "param": error.param,
                "code": error.code,
            }}),
            Self::Cohere => json!({"message": message}),
            Self::Tei => json!({"error": message, "error_type": tei_type(error)}),
            Self::OpenInference => json!({"error": message}),
        }
    }
}

fn openai_type(error: &ApiError) -> &'static str {
    match error.kind {
        Kind::Overloaded => "rate_limit_error",
        Kind::Unavailable | Kind::Failed | Kind::Late => "server_error",
        _ => "invalid_request_error",
    }
}

pub(super) fn tei_type(error: &ApiError) -> &'static str {
    match error.kind {
        Kind::Empty => "empty",
        Kind::Tokens => "tokenizer",
        Kind::WrongModel | Kind::Failed | Kind::Late => "backend",
        Kind::Overloaded => "overloaded",
        Kind::Unavailable => "unhealthy",
        Kind::Http(_) | Kind::Unauthorized | Kind::Invalid | Kind::NoModel => "validation",
    }
}

fn say_retry(headers: &mut HeaderMap, retry: Retry) {
    match retry {
        Retry::Unsaid => {}
        Retry::After(seconds) => {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        Retry::Computed(time) => {
            headers.insert(RETRY_AFTER, whole_seconds(time).into());
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER_MS, millis.max(1).into());
        }
        Retry::Never => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_one_family_whether_there_is_such_a_route_or_not() {
        for (path, family) in [
            ("/v1/embeddings", Family::OpenAi),
            ("/v1/rerank", Family::Cohere),
            ("/v2/rerank", Family::Cohere),
            ("/v2/reranker", Family::OpenInference),
            ("/v2", Family::OpenInference),
            ("/v2/", Family::OpenInference),
            ("/v2/models/a/infer", Family::OpenInference),
            ("/v22", Family::OpenAi),
            ("/", Family::Tei),
            ("/rerank", Family::Tei),
            ("/embed", Family::Tei),
            ("/embeddings", Family::OpenAi),
            ("/decode", Family::Tei),
            ("/lamplighter/identity", Family::OpenAi),
            ("/of/the/clients/own", Family::OpenAi),
        ] {
            assert_eq!(Family::of(path), family, "{path}");
        }
    }
}
