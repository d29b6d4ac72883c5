//! How long an object waits after a failure: exponential per object, by class, with jitter.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::Class;

/// How often each object has failed in a row, by its namespace and name.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<String, u32>>);

impl Attempts {
    /// Counts a failure and says how many there were before it.
    pub fn failed(&self, object: &str) -> u32 {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attempts.entry(object.to_owned()).or_default();
        let before = *count;
        *count = count.saturating_add(1);
        before
    }

    /// Forgets the failures of an object: it succeeded, or is gone.
    pub fn succeeded(&self, object: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

/// The wait after a failure of this class that was preceded by `before` others.
///
/// Jitter is derived from the object and the attempt: objects that failed together, for example
/// because the apiserver was away, do not come back together, and a test sees the same numbers.
pub fn delay(class: Class, object: &str, before: u32) -> Duration {
    let (first, most) = match class {
        // The cache only has to catch up with what was just written.
        Class::Conflict => (Duration::from_millis(200), Duration::from_secs(10)),
        Class::Transient => (Duration::from_secs(1), Duration::from_mins(2)),
        // Somebody else's object or rule is in the way; nothing tells us when it goes.
        Class::Refused => (Duration::from_secs(5), Duration::from_mins(5)),
        Class::Bug => (Duration::from_mins(1), Duration::from_mins(10)),
    };
    let doubled = first.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX)).min(most);
    doubled.saturating_mul(jitter_percent(object, before)) / 100
}

/// Between 75 and 125.
fn jitter_percent(object: &str, before: u32) -> u32 {
    let mut hasher = DefaultHasher::new();
    (object, before).hash(&mut hasher);
    75 + u32::try_from(hasher.finish() % 51).unwrap_or_default()
}

/// About an hour, another for every object: the safety net under the watches.
pub fn resync(object: &str) -> Duration {
    Duration::from_hours(1).saturating_mul(jitter_percent(object, 0)) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [Class; 4] = [Class::Conflict, Class::Transient, Class::Refused, Class::Bug];

    #[test]
    fn the_wait_grows_to_a_limit_and_never_overflows() {
        for class in CLASSES {
            let mut last = Duration::ZERO;
            for before in 0..8 {
                let now = delay(class, "a/b", before);
                assert!(now.as_millis() * 10 >= last.as_millis() * 6, "{class:?} {before}");
                last = now;
            }
            let limit = Duration::from_secs(750);
            for before in [8, 31, 32, 33, 1000, u32::MAX] {
                assert!(delay(class, "a/b", before) <= limit, "{class:?} {before}");
            }
        }
    }

    #[test]
    fn objects_that_fail_together_do_not_come_back_together() {
        let waits: std::collections::BTreeSet<_> =
            (0..20).map(|name| delay(Class::Transient, &name.to_string(), 3)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }

    /// Guarantees: operator-11.
    #[test]
    fn a_success_forgets_the_failures_of_this_object_alone() {
        let attempts = Attempts::default();
        assert_eq!([attempts.failed("a"), attempts.failed("a"), attempts.failed("b")], [0, 1, 0]);
        attempts.succeeded("a");
        assert_eq!([attempts.failed("a"), attempts.failed("b")], [0, 1]);
    }
}
