//! JSON, without keeping the runtime's threads from other requests.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::aside::aside;
use super::error::ApiError;

/// What the bytes say.
pub(super) async fn parse<T: DeserializeOwned + Send + 'static>(
    bytes: Bytes,
) -> Result<T, ApiError> {
    aside(bytes.len(), move || {
        serde_json::from_slice(&bytes).map_err(|error| ApiError::malformed(&error))
    })
    .await
}
