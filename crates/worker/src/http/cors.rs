//! Pages of other origins that may ask from a browser (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! A browser asks first whether it may, without keys (a preflight); so that is answered before a key is
//! asked for. Nothing here lets anybody in: cookies are never read, and keys are asked for as ever.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::App;

/// What routes here answer to.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// What scripts may read beside the body.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "retry-after, retry-after-ms, x-should-retry, x-lamplighter-pod, inference-header-content-length",
);
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Pages that may ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Allowed {
    /// Those of every origin.
    Any,
    /// Those of this one.
    One(HeaderValue),
}

/// A text is no origin.
#[derive(Debug, thiserror::Error)]
#[error("it is neither * nor an origin like https://lamp.example:8443, which has no path")]
pub struct NotAnOrigin;

impl FromStr for Allowed {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        // Browsers write an origin in lower case (https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin).
        let text = text.to_ascii_lowercase();
        let uri: Uri = text.parse().map_err(|_| NotAnOrigin)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NotAnOrigin);
        };
        if authority.as_str().contains('@') || text != format!("{scheme}://{authority}") {
            return Err(NotAnOrigin);
        }
        HeaderValue::from_str(&text).map(Self::One).map_err(|_| NotAnOrigin)
    }
}

/// What an answer to this origin says; none where its pages may not ask.
fn allowed(origins: &[Allowed], origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    let origin = origin?;
    if origins.contains(&Allowed::Any) {
        return Some(ANY);
    }
    let is_it = |allowed: &Allowed| matches!(allowed, Allowed::One(one) if one == origin);
    origins.iter().any(is_it).then(|| origin.clone())
}

/// Answers preflights, and says in other answers which pages may read them.
pub(super) async fn allow(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.origins.is_empty() {
        return next.run(request).await;
    }
    let headers = request.headers();
    let origin = allowed(&app.origins, headers.get(ORIGIN));
    let preflight = origin.as_ref().and_then(|_| preflight(request.method(), headers));
    let mut response = match preflight {
        Some(response) => response,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    if !app.origins.contains(&Allowed::Any) {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// The answer to a browser that asks whether it may ask.
fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // `*` would not mean `authorization`, and SDKs have headers of their own.
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_more() {
        assert_eq!("*".parse::<Allowed>().unwrap(), Allowed::Any);
        for text in ["https://lamp.example", "http://127.0.0.1:3000", "HTTPS://Lamp.example"] {
            let one = HeaderValue::from_str(&text.to_ascii_lowercase()).unwrap();
            assert_eq!(text.parse::<Allowed>().unwrap(), Allowed::One(one), "{text}");
        }
        for text in [
            "",
            "null",
            "lamp.example",
            "https://lamp.example/",
            "https://lamp.example/a",
            "https://lamp.example?a",
            "https://me@lamp.example",
            "https://*.example x",
            "**",
        ] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_allowed_that_is_named_or_where_all_are() {
        let one = |text: &'static str| HeaderValue::from_static(text);
        let named =
            [Allowed::One(one("https://a.example")), Allowed::One(one("https://b.example"))];
        let told = |origins: &[Allowed], origin: &'static str| allowed(origins, Some(&one(origin)));
        assert_eq!(told(&named, "https://b.example"), Some(one("https://b.example")));
        assert_eq!(told(&named, "https://b.example:8443"), None);
        assert_eq!(told(&named, "http://b.example"), None);
        assert_eq!(told(&[Allowed::Any], "null"), Some(ANY));
        assert_eq!(allowed(&[Allowed::Any], None), None);
    }
}
