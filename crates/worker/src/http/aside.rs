//! Work on many bytes, without keeping the runtime's threads from other requests.

use super::error::ApiError;

/// Work on so many bytes takes a fraction of a millisecond.
const AT_ONCE: usize = 64 << 10;

/// Does work on so many bytes: at once if they are few, else on a thread that may be busy.
pub(super) async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if bytes <= AT_ONCE {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a bug: work on a request was lost");
        Err(ApiError::bug())
    })
}
