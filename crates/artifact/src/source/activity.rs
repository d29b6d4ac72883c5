//! Whether a store is still answering.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ArtifactError;

/// When something was last heard of the store. A slow disk is not the store's fault: while this
/// machine is at work itself, the store is not waited for.
pub(crate) struct Activity {
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    last: Instant,
    bytes: u64,
    /// How many files this machine is at work on.
    local: usize,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { last: Instant::now(), bytes: 0, local: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn heard(&self, bytes: u64) {
        let mut state = self.state();
        state.last = Instant::now();
        state.bytes += bytes;
    }

    /// Does work of this machine on a thread that may block.
    pub(crate) async fn local<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
    ) -> Result<T, ArtifactError> {
        let _at_work = AtWork::new(self);
        tokio::task::spawn_blocking(work).await?
    }

    /// Returns when nothing was heard for that long, with the bytes heard before.
    pub(crate) async fn stalled(&self, patience: Duration) -> u64 {
        loop {
            let State { last, bytes, local } = *self.state();
            let now = Instant::now();
            let deadline = if local > 0 { now } else { last } + patience;
            if now >= deadline {
                return bytes;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// Held while this machine is at work; the store's time begins anew when it is dropped.
struct AtWork<'a> {
    activity: &'a Activity,
}

impl<'a> AtWork<'a> {
    fn new(activity: &'a Activity) -> Self {
        activity.state().local += 1;
        Self { activity }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.local -= 1;
        state.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_that_this_machine_needs_is_not_the_stores() {
        let patience = Duration::from_mins(1);
        let activity = Activity::new();
        let at_work = AtWork::new(&activity);
        let waiting = tokio::time::timeout(10 * patience, activity.stalled(patience)).await;
        assert!(waiting.is_err(), "the disk's time was counted");
        drop(at_work);
        let begun = Instant::now();
        activity.stalled(patience).await;
        assert_eq!(begun.elapsed(), patience);
    }
}
