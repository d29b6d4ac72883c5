//! JSON, without keeping the runtime's threads from other requests.

use bytes::BytesMut;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// A body of this many bytes is parsed in a fraction of a millisecond; a longer one elsewhere.
const AT_ONCE: usize = 64 << 10;

/// What the bytes say.
pub(super) async fn parse<T: DeserializeOwned + Send + 'static>(
    bytes: BytesMut,
) -> Result<T, ApiError> {
    if bytes.len() <= AT_ONCE {
        return serde_json::from_slice(&bytes).map_err(|error| ApiError::malformed(&error));
    }
    let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes)).await;
    match parsed {
        Ok(parsed) => parsed.map_err(|error| ApiError::malformed(&error)),
        Err(error) => {
            tracing::error!(%error, "a body was not parsed");
            Err(ApiError::bug())
        }
    }
}
