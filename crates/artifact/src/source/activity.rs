//! Whether a store is still answering.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ArtifactError;

/// When something was last heard of the store. The store is waited for only while it has been asked
/// for something and this machine is not at work itself: a slow disk is not its fault, nor is the
/// time until a request may be sent.
pub(crate) struct Activity {
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    last: Instant,
    bytes: u64,
    /// How many files this machine is at work on.
    local: usize,
    /// How many requests may not be sent yet.
    queued: usize,
    /// How many ranges have been asked for and not arrived.
    asked: usize,
}

impl State {
    fn is_the_stores_turn(&self) -> bool {
        self.local == 0 && (self.queued == 0 || self.asked > 0)
    }
}

impl Activity {
    pub(crate) fn new() -> Self {
        let state = State { last: Instant::now(), bytes: 0, local: 0, queued: 0, asked: 0 };
        Self { state: Mutex::new(state) }
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
        let _at_work = Counted::new(self, |state| &mut state.local);
        tokio::task::spawn_blocking(work).await?
    }

    /// Waits until a request may be sent.
    pub(crate) async fn queued<T>(&self, turn: impl Future<Output = T>) -> T {
        let _queued = Counted::new(self, |state| &mut state.queued);
        turn.await
    }

    /// Sends a request and waits for what it asks for.
    pub(crate) async fn asked<T>(&self, answer: impl Future<Output = T>) -> T {
        let _asked = Counted::new(self, |state| &mut state.asked);
        answer.await
    }

    /// Returns when nothing was heard for that long, with the bytes heard before.
    pub(crate) async fn stalled(&self, patience: Duration) -> u64 {
        loop {
            let state = *self.state();
            let now = Instant::now();
            let since = if state.is_the_stores_turn() { state.last } else { now };
            let deadline = since + patience;
            if now >= deadline {
                return state.bytes;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// One of something, until it is dropped. When that makes it the store's turn, its time begins.
struct Counted<'a> {
    activity: &'a Activity,
    count: fn(&mut State) -> &mut usize,
}

impl<'a> Counted<'a> {
    fn new(activity: &'a Activity, count: fn(&mut State) -> &mut usize) -> Self {
        let counted = Self { activity, count };
        counted.change(|count| count + 1);
        counted
    }

    fn change(&self, to: impl FnOnce(usize) -> usize) {
        let mut state = self.activity.state();
        let was_the_stores = state.is_the_stores_turn();
        let count = (self.count)(&mut state);
        *count = to(*count);
        if !was_the_stores && state.is_the_stores_turn() {
            state.last = Instant::now();
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.change(|count| count - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_that_this_machine_needs_is_not_the_stores() {
        let patience = Duration::from_mins(1);
        let activity = Activity::new();
        let at_work = Counted::new(&activity, |state| &mut state.local);
        let waiting = tokio::time::timeout(10 * patience, activity.stalled(patience)).await;
        assert!(waiting.is_err(), "the disk's time was counted");
        drop(at_work);
        let begun = Instant::now();
        activity.stalled(patience).await;
        assert_eq!(begun.elapsed(), patience);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_may_not_be_sent_yet_hides_none_that_is_not_answered() {
        let patience = Duration::from_mins(1);
        let activity = Activity::new();
        let never = std::future::pending::<()>;
        let queued = activity.queued(tokio::time::timeout(10 * patience, never()));
        tokio::select! {
            biased;
            _ = activity.stalled(patience) => panic!("nothing was asked of the store"),
            _ = queued => {}
        }
        let begun = Instant::now();
        tokio::select! {
            biased;
            _ = activity.stalled(patience) => assert_eq!(begun.elapsed(), patience),
            () = activity.queued(never()) => {}
            () = activity.asked(never()) => {}
        }
    }
}
