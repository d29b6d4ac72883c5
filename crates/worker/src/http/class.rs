//! How urgent a request says that it is.

use axum::http::HeaderMap;
use axum::http::header::HeaderName;

use super::clip::clip;
use super::error::ApiError;
use crate::run::Class;

/// Says how urgent a request is.
pub(super) const CLASS_HEADER: &str = "x-lamplighter-class";
const CLASS: HeaderName = HeaderName::from_static(CLASS_HEADER);

/// What the header asks for; nothing, where it is missing.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<Class>, ApiError> {
    let Some(value) = headers.get(CLASS) else { return Ok(None) };
    let word = String::from_utf8_lossy(value.as_bytes());
    word.parse().map(Some).map_err(|problem| {
        let message = format!("{CLASS}: {problem}; it is {:?}", clip(word));
        ApiError::invalid(CLASS_HEADER, "invalid_value", message)
    })
}
