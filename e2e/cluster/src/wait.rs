//! Waiting for a condition, always with a deadline.

use std::time::{Duration, Instant};

use crate::error::Error;

/// What one look at a condition found.
pub(crate) enum Look<T> {
    /// It holds.
    Ready(T),
    /// Not yet, and this is what was seen instead.
    Pending(String),
}

const PAUSE: Duration = Duration::from_millis(100);

/// Looks until the condition holds. An error of `look` ends the wait at once; a deadline
/// that passes gives back, as `Err` inside, what was seen last.
pub(crate) fn until<T>(
    limit: Duration,
    mut look: impl FnMut() -> Result<Look<T>, Error>,
) -> Result<Result<T, String>, Error> {
    let deadline = Instant::now() + limit;
    loop {
        match look()? {
            Look::Ready(value) => return Ok(Ok(value)),
            Look::Pending(seen) if Instant::now() >= deadline => return Ok(Err(seen)),
            Look::Pending(_) => pause(),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that waits, and `until` bounds it"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_last_sight_when_the_deadline_passes() {
        let mut looks = 0;
        let outcome = until::<()>(Duration::ZERO, || {
            looks += 1;
            Ok(Look::Pending(format!("look {looks}")))
        });
        assert_eq!(outcome.unwrap().unwrap_err(), "look 1");
    }

    #[test]
    fn ends_at_once_on_an_error() {
        let outcome = until::<()>(Duration::from_mins(1), || Err(Error::NotRunning("etcd")));
        assert!(matches!(outcome, Err(Error::NotRunning("etcd"))));
    }
}
