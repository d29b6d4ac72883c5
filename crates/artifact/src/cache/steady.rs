//! Progress of a download that may begin anew.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Progress;

/// Passes progress on as if nothing was ever done twice: what was told before one attempt ended is
/// not told again by the next, until that has come as far.
pub(crate) struct Steady<'a> {
    inner: &'a dyn Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: u64,
    done: u64,
    told: u64,
}

impl<'a> Steady<'a> {
    pub(crate) fn new(inner: &'a dyn Progress) -> Self {
        Self { inner, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes of all are done, whoever did them.
    pub(crate) fn reached(&self, done: u64) {
        self.tell(&mut self.state(), done);
    }

    fn tell(&self, state: &mut State, done: u64) {
        state.done = done.min(state.total);
        if state.done > state.told {
            self.inner.add(state.done - state.told);
            state.told = state.done;
        }
    }

    /// Another attempt begins.
    pub(crate) fn anew(&self) {
        self.state().done = 0;
    }
}

impl Progress for Steady<'_> {
    fn total(&self, bytes: u64) {
        let mut state = self.state();
        if bytes > state.total {
            self.inner.total(bytes - state.total);
            state.total = bytes;
        }
    }

    fn add(&self, bytes: u64) {
        let mut state = self.state();
        let done = state.done.saturating_add(bytes);
        self.tell(&mut state, done);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicU64, AtomicU64);

    impl Progress for Counts {
        fn total(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
        fn add(&self, bytes: u64) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn nothing_is_counted_twice_and_nothing_beyond_the_total() {
        let counts = Counts::default();
        let told = || (counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed));
        let steady = Steady::new(&counts);
        steady.total(10);
        steady.reached(7);
        assert_eq!(told(), (10, 7));
        steady.anew();
        steady.total(10);
        steady.add(4);
        assert_eq!(told(), (10, 7));
        steady.add(4);
        assert_eq!(told(), (10, 8));
        steady.reached(99);
        assert_eq!(told(), (10, 10));
    }
}
