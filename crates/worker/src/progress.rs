//! How far a long read has come, told in the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lamplighter_artifact::Progress;
use lamplighter_protocol::ModelKey;

/// Often enough to see that it goes on, seldom enough for a read of hours.
const PAUSE: Duration = Duration::from_secs(10);

/// Logs at most one line every ten seconds.
pub(crate) struct Logged {
    model: String,
    total: AtomicU64,
    done: AtomicU64,
    told: Mutex<Instant>,
}

impl Logged {
    pub(crate) fn new(model: &ModelKey) -> Self {
        Self {
            model: model.to_string(),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now.saturating_duration_since(*told) >= PAUSE;
        if due {
            *told = now;
        }
        due
    }
}

impl Progress for Logged {
    fn total(&self, bytes: u64) {
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if bytes > 0 {
            tracing::info!(model = self.model, total, "bytes are read to sum them");
        }
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.is_due(Instant::now()) {
            let total = self.total.load(Ordering::Relaxed);
            tracing::info!(model = self.model, done, total, "bytes were read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_when_the_pause_is_over_and_then_not_again() {
        let key = ModelKey { name: "a".to_owned(), version: "1".to_owned() };
        let logged = Logged::new(&key);
        let begun = *logged.told.lock().unwrap();
        assert!(!logged.is_due(begun + PAUSE / 2));
        assert!(logged.is_due(begun + PAUSE));
        assert!(!logged.is_due(begun + PAUSE * 3 / 2));
        assert!(logged.is_due(begun + PAUSE * 2));
    }
}
