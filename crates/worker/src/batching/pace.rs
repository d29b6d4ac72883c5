//! How fast a model has been lately, and what follows for those who wait.

use std::time::Duration;

/// Retry-After says at most so much: a queue that long will have changed by then.
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Where nothing has been measured yet.
const UNMEASURED_RETRY: Duration = Duration::from_secs(1);
/// What the past still weighs after one more batch.
const MEMORY: f64 = 0.875;

/// Tokens and the seconds that one thread took for them, of which older ones count less.
///
/// Both are summed before they are divided, so that a large batch weighs more than a small one,
/// which has fewer tokens for its costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    tokens: f64,
    seconds: f64,
}

impl Pace {
    /// A batch of so many tokens took so long on one thread.
    #[expect(clippy::cast_precision_loss, reason = "a batch has far less than 2^53 tokens")]
    pub(crate) fn observe(&mut self, tokens: usize, took: Duration) {
        self.tokens = self.tokens * MEMORY + tokens as f64;
        self.seconds = self.seconds * MEMORY + took.as_secs_f64();
    }

    /// How long one thread takes for so many tokens; no time as long as nothing was measured.
    #[expect(clippy::cast_precision_loss, reason = "a queue has far less than 2^53 tokens")]
    pub(crate) fn seconds_for(&self, tokens: usize) -> f64 {
        if self.tokens > 0.0 { tokens as f64 * self.seconds / self.tokens } else { 0.0 }
    }
}

/// When a client may come again that finds a queue of so long.
pub(crate) fn retry_after(wait: Duration) -> Duration {
    if wait.is_zero() { UNMEASURED_RETRY } else { wait.min(LONGEST_RETRY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_proportion_to_tokens_and_follows_what_was_measured_last() {
        let mut pace = Pace::default();
        assert!(pace.seconds_for(1_000).abs() < 1e-12, "nothing has been measured yet");
        pace.observe(100, Duration::from_secs(1));
        assert!((pace.seconds_for(450) - 4.5).abs() < 1e-9);
        for _ in 0..100 {
            pace.observe(100, Duration::from_secs(2));
        }
        assert!((pace.seconds_for(100) - 2.0).abs() < 1e-3, "{}", pace.seconds_for(100));
        let mut mixed = Pace::default();
        mixed.observe(1, Duration::from_secs(1));
        mixed.observe(999, Duration::from_secs(9));
        assert!(mixed.seconds_for(1_000) < 11.0, "one small batch says little");
    }

    #[test]
    fn nobody_is_told_to_come_at_once_or_in_an_hour() {
        assert_eq!(retry_after(Duration::ZERO), UNMEASURED_RETRY);
        assert_eq!(retry_after(Duration::from_millis(300)), Duration::from_millis(300));
        assert_eq!(retry_after(Duration::from_hours(1)), LONGEST_RETRY);
    }
}
