//! A request's body, within a length, within its request's time, within what all bodies
//! together may hold.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::App;
use super::budget::Share;
use super::deadline::Deadline;
use super::error::ApiError;
use super::parse::parse;

/// So many of a body's bytes are set aside before the first one came: what is only announced takes no room
/// from others.
const FIRST: usize = 64 << 10;
/// For how long nothing may come of a body.
const STALLED: Duration = Duration::from_secs(10);

/// Reads the whole body, then parses it. The share is to be kept as long as what was parsed.
pub(super) async fn json<T: DeserializeOwned + Send + 'static>(
    request: Request,
    app: &App,
    deadline: Deadline,
) -> Result<(T, Share), ApiError> {
    check_json(request.headers().get(CONTENT_TYPE))?;
    let (bytes, share) = bytes(request, app, deadline).await?;
    Ok((parse(bytes).await?, share))
}

/// Reads the whole body, unless the queue is full: what will be refused anyway need not be read.
///
/// A body that says how long it is has its first bytes set aside before they are read; the others, as they
/// come.
pub(super) async fn bytes(
    request: Request,
    app: &App,
    deadline: Deadline,
) -> Result<(Bytes, Share), ApiError> {
    app.runner.check_room(deadline.class()).map_err(|full| ApiError::of_run(&full, "body"))?;
    unhurried(request, app, deadline).await
}

/// Reads the whole body of a request that asks no model.
pub(super) async fn unhurried(
    request: Request,
    app: &App,
    deadline: Deadline,
) -> Result<(Bytes, Share), ApiError> {
    let (parts, body) = request.into_parts();
    let encoding = parts.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(ApiError::compressed(encoding));
    }
    let limit = app.limits.body;
    let announced = match announced(&parts.headers) {
        None => 0,
        Some(length) => usize::try_from(length)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or_else(|| ApiError::body_too_large(limit))?,
    };
    let first = announced.min(FIRST);
    let share = app.bodies.take(first)?;
    let read = deadline.within(read(body, BytesMut::with_capacity(first), limit, share)).await;
    read.map_err(|over| ApiError::body_too_slow(over.seconds))?
}

async fn read(
    mut body: Body,
    mut bytes: BytesMut,
    limit: usize,
    mut share: Share,
) -> Result<(Bytes, Share), ApiError> {
    let stalled = |_| ApiError::body_stalled(STALLED.as_secs());
    while let Some(frame) = tokio::time::timeout(STALLED, body.frame()).await.map_err(stalled)? {
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
    Ok((bytes.freeze(), share))
}

/// Refuses what does not say that it is JSON.
pub(super) fn check_json(content_type: Option<&HeaderValue>) -> Result<(), ApiError> {
    if is_json(content_type) { Ok(()) } else { Err(ApiError::not_json(content_type)) }
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
