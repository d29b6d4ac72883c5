//! When outputs that are not finite, and runs that fail, say something of the model or its device rather
//! than of a text.

use std::collections::VecDeque;
use std::time::Duration;

/// So many requests within [`WINDOW`] are no coincidence: texts for which a sound model has no finite
/// answer are rare.
const REQUESTS: usize = 3;
const WINDOW: Duration = Duration::from_mins(1);

/// The requests of one model that were to blame lately. Times are counted from one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspicion(VecDeque<Duration>);

impl Suspicion {
    /// A request got no finite answer, or none. Whether the model is to be looked at now; after that it takes as
    /// many requests again.
    pub(crate) fn blamed(&mut self, now: Duration) -> bool {
        self.0.push_back(now);
        while self.0.front().is_some_and(|at| now.saturating_sub(*at) > WINDOW) {
            self.0.pop_front();
        }
        let is_suspect = self.0.len() >= REQUESTS;
        if is_suspect {
            self.0.clear();
        }
        is_suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_within_a_minute_are_suspect_and_then_three_more() {
        let suspect = |seconds: &[u64]| -> Vec<bool> {
            let mut suspicion = Suspicion::default();
            seconds.iter().map(|at| suspicion.blamed(Duration::from_secs(*at))).collect()
        };
        assert_eq!(suspect(&[0, 30, 60]), [false, false, true]);
        assert_eq!(suspect(&[0, 30, 61, 90]), [false, false, false, true]);
        assert_eq!(suspect(&[0, 0, 0, 0, 0, 0]), [false, false, true, false, false, true]);
        assert_eq!(suspect(&[0, 100, 200, 300]), [false; 4]);
    }
}
