//! A request's body: JSON, within a length, within a time.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::Limits;
use super::error::ApiError;

/// Reads the whole body, then parses it.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request,
    limits: Limits,
) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    if !is_json(parts.headers.get(CONTENT_TYPE)) {
        return Err(ApiError::not_json(parts.headers.get(CONTENT_TYPE)));
    }
    if announced(&parts.headers).is_some_and(|length| length > limits.body as u64) {
        return Err(ApiError::body_too_large(limits.body));
    }
    let bytes = read(body, limits.body, limits.time).await?;
    serde_json::from_slice(&bytes).map_err(ApiError::malformed)
}

async fn read(body: Body, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    tokio::time::timeout(time, to_bytes(body, limit))
        .await
        .map_err(|_| ApiError::body_too_slow(time.as_secs()))?
        .map_err(|error| {
            if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) {
                ApiError::body_too_large(limit)
            } else {
                ApiError::body_broke_off(error)
            }
        })
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `application/json`, with or without parameters, and the types that are built on it
/// (<https://www.rfc-editor.org/rfc/rfc6839#section-3.1>).
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let Some(Ok(text)) = content_type.map(HeaderValue::to_str) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}
