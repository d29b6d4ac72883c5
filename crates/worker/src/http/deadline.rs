//! Until when a request must be answered: one instant, set when its head was parsed; and how urgent
//! it says that it is.

use std::time::Duration;

use axum::extract::Request;
use tokio::time::Instant;

use super::error::ApiError;
use crate::run::Class;

/// Stands in the extensions of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    allowed: Duration,
    class: Option<Class>,
}

/// The time was over before the work was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TimeOver {
    /// How much there was, in seconds.
    pub(super) seconds: u64,
}

impl Deadline {
    /// A request whose head was parsed just now.
    pub(super) fn from_now(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed, class: None }
    }

    /// A request's own.
    pub(super) fn of(request: &Request) -> Result<Self, ApiError> {
        request.extensions().get().copied().ok_or_else(|| {
            tracing::error!("a bug: a request has no deadline");
            ApiError::bug()
        })
    }

    /// The same for a request that says how urgent it is.
    pub(super) fn of_class(self, class: Option<Class>) -> Self {
        Self { class, ..self }
    }

    /// How urgent the request says that it is.
    pub(super) fn class(self) -> Option<Class> {
        self.class
    }

    /// When the time is over.
    pub(super) fn at(self) -> Instant {
        self.at
    }

    /// How much of the time is gone.
    pub(super) fn elapsed(self) -> Duration {
        self.allowed.saturating_sub(self.at.saturating_duration_since(Instant::now()))
    }

    /// Does part of the request's work, in what is left of its time.
    pub(super) async fn within<T>(self, work: impl Future<Output = T>) -> Result<T, TimeOver> {
        let over = |_| TimeOver { seconds: self.allowed.as_secs() };
        tokio::time::timeout_at(self.at, work).await.map_err(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_parts_of_a_request_share_one_time() {
        let deadline = Deadline::from_now(Duration::from_mins(1));
        let part = |seconds| deadline.within(tokio::time::sleep(Duration::from_secs(seconds)));
        assert_eq!(part(40).await, Ok(()));
        let begun = Instant::now();
        assert_eq!(part(40).await, Err(TimeOver { seconds: 60 }));
        assert_eq!(begun.elapsed(), Duration::from_secs(20));
    }
}
