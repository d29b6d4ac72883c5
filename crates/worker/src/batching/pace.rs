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
    /// Seconds for each token of the fastest full batch.
    best: Option<f64>,
}

impl Pace {
    /// A batch of so many tokens took so long on one thread. `is_full`: it says how fast many texts are
    /// computed; a small one has few tokens for its costs.
    #[expect(clippy::cast_precision_loss, reason = "a batch has far less than 2^53 tokens")]
    pub(crate) fn observe(&mut self, tokens: usize, took: Duration, is_full: bool) {
        self.tokens = self.tokens * MEMORY + tokens as f64;
        self.seconds = self.seconds * MEMORY + took.as_secs_f64();
        if is_full && tokens > 0 {
            let pace = took.as_secs_f64() / tokens as f64;
            self.best = Some(self.best.map_or(pace, |best| best.min(pace)));
        }
    }

    /// How long one thread takes at least for so many tokens, by the fastest full batch there ever was; no
    /// time as long as there was none. What is refused for this could not have been answered, and nothing
    /// that made one batch slow keeps later requests out.
    #[expect(clippy::cast_precision_loss, reason = "a queue has far less than 2^53 tokens")]
    pub(crate) fn seconds_at_best(&self, tokens: usize) -> f64 {
        self.best.map_or(0.0, |best| tokens as f64 * best)
    }

    /// How long one thread takes for so many tokens; no time as long as nothing was measured.
    #[expect(clippy::cast_precision_loss, reason = "a queue has far less than 2^53 tokens")]
    pub(crate) fn seconds_for(&self, tokens: usize) -> f64 {
        if self.tokens > 0.0 { tokens as f64 * self.seconds / self.tokens } else { 0.0 }
    }
}

/// When a client may come again that finds a queue of so long. Where each request has so much `time`, all that
/// waits now is answered or over by then.
pub(crate) fn retry_after(wait: Duration, time: Duration) -> Duration {
    if wait.is_zero() { UNMEASURED_RETRY } else { wait.min(LONGEST_RETRY).min(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_proportion_to_tokens_and_follows_what_was_measured_last() {
        let mut pace = Pace::default();
        assert!(pace.seconds_for(1_000).abs() < 1e-12, "nothing has been measured yet");
        pace.observe(100, Duration::from_secs(1), false);
        assert!((pace.seconds_for(450) - 4.5).abs() < 1e-9);
        for _ in 0..100 {
            pace.observe(100, Duration::from_secs(2), false);
        }
        assert!((pace.seconds_for(100) - 2.0).abs() < 1e-3, "{}", pace.seconds_for(100));
        let mut mixed = Pace::default();
        mixed.observe(1, Duration::from_secs(1), false);
        mixed.observe(999, Duration::from_secs(9), true);
        assert!(mixed.seconds_for(1_000) < 11.0, "one small batch says little");
    }

    #[test]
    fn the_best_pace_is_that_of_full_batches_and_never_gets_worse() {
        let mut pace = Pace::default();
        pace.observe(1, Duration::from_secs(9), false);
        assert!(pace.seconds_at_best(1_000_000).abs() < 1e-12, "a small batch says nothing of it");
        pace.observe(100, Duration::from_secs(4), true);
        assert!((pace.seconds_at_best(200) - 8.0).abs() < 1e-9);
        pace.observe(200, Duration::from_secs(4), true);
        pace.observe(100, Duration::from_secs(400), true);
        assert!((pace.seconds_at_best(100) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn nobody_is_told_to_come_at_once_or_in_an_hour() {
        let retry_after = |wait| retry_after(wait, Duration::MAX);
        assert_eq!(retry_after(Duration::ZERO), UNMEASURED_RETRY);
        assert_eq!(retry_after(Duration::from_millis(300)), Duration::from_millis(300));
        assert_eq!(retry_after(Duration::from_hours(1)), LONGEST_RETRY);
        let time = Duration::from_secs(23);
        assert_eq!(super::retry_after(Duration::from_hours(1), time), time);
        assert_eq!(super::retry_after(Duration::from_secs(2), time), Duration::from_secs(2));
    }
}
