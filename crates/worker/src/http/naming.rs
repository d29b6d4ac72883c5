//! How a request names its model: in the field `model`, or in a header where a client cannot send a
//! field of its own.

use axum::http::HeaderMap;

use super::ask::MODEL_HEADER;
use super::error::ApiError;
use super::fields::{Field, Name, optional};

/// The name of a model: the field, or else the header.
pub(super) fn model_name(
    field: Option<Field<Name>>,
    headers: &HeaderMap,
) -> Result<Option<String>, ApiError> {
    if let Some(Name(name)) = optional(field, "model")? {
        return Ok(Some(name));
    }
    let Some(header) = headers.get(MODEL_HEADER) else {
        return Ok(None);
    };
    let Ok(name) = header.to_str() else {
        let message = format!("the header {MODEL_HEADER} is no text");
        return Err(ApiError::invalid("model", "invalid_value", message));
    };
    Ok(Some(name.to_owned()))
}
