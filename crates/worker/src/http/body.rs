//! A request's body: JSON, within a length, within its request's time, within what all bodies
//! together may hold.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::App;
use super::budget::Share;
use super::deadline::Deadline;
use super::error::ApiError;
use super::parse::parse;

/// Reads the whole body, then parses it. The share is to be kept as long as what was parsed.
///
/// A body that says how long it is has its bytes set aside before the first one is read; one
/// that does not, as they come.
pub(super) async fn json<T: DeserializeOwned + Send + 'static>(
    request: Request,
    app: &App,
    deadline: Deadline,
) -> Result<(T, Share), ApiError> {
    let (parts, body) = request.into_parts();
    if !is_json(parts.headers.get(CONTENT_TYPE)) {
        return Err(ApiError::not_json(parts.headers.get(CONTENT_TYPE)));
    }
    let limit = app.limits.body;
    let announced = match announced(&parts.headers) {
        None => 0,
        Some(length) => usize::try_from(length)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or_else(|| ApiError::body_too_large(limit))?,
    };
    let share = app.bodies.take(announced)?;
    let read = deadline.within(read(body, limit, share)).await;
    let (bytes, share) = read.map_err(|over| ApiError::body_too_slow(over.seconds))??;
    Ok((parse(bytes).await?, share))
}

async fn read(
    mut body: Body,
    limit: usize,
    mut share: Share,
) -> Result<(BytesMut, Share), ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ApiError::body_broke_off)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(ApiError::body_too_large(limit));
        }
        share.grow_to(length)?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, share))
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
