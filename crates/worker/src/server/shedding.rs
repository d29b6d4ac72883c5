//! Which connections were open before the last shed, and telling them to go.
//!
//! When a Service begins to select other pods, connections that are established stay with the old
//! ones. To shed is to send them away: each closes with its next answer, or when it has been idle for a moment, and
//! their clients connect to wherever the Service points now. Those that still wait in the system's
//! queue count as later ones; whoever needs to be sure sheds again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The open connections of a listener, told apart by the last shed. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shedding(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    /// Cancelled when the connections that are accepted now are to go.
    current: CancellationToken,
    /// Open connections that were accepted since the last shed.
    after: u64,
    /// Open connections that were accepted before it; none if there was none.
    before: Option<u64>,
}

impl Shedding {
    /// Tells every open connection to go. Returns how many there are; repeating it is harmless.
    pub fn shed(&self) -> u64 {
        let mut generations = self.lock();
        let before = generations.before.unwrap_or_default() + generations.after;
        generations.before = Some(before);
        generations.after = 0;
        std::mem::take(&mut generations.current).cancel();
        before
    }

    /// How many connections are open that were accepted before the last shed. None if there was
    /// none.
    pub fn before(&self) -> Option<u64> {
        self.lock().before
    }

    /// A connection was accepted.
    pub(super) fn enter(&self) -> Member {
        let mut generations = self.lock();
        generations.after += 1;
        Member { of: self.clone(), shed: generations.current.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection; it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Member {
    of: Shedding,
    shed: CancellationToken,
}

impl Member {
    /// Cancelled when the connection is to go.
    pub(super) fn shed(&self) -> &CancellationToken {
        &self.shed
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut generations = self.of.lock();
        if self.shed.is_cancelled() {
            let before = generations.before.unwrap_or_default();
            generations.before = Some(before.saturating_sub(1));
        } else {
            generations.after = generations.after.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: drain-04.
    #[test]
    fn only_connections_of_before_the_last_shed_are_counted_and_told_to_go() {
        let shedding = Shedding::default();
        let first = shedding.enter();
        assert_eq!(shedding.before(), None, "nobody has shed yet");
        assert_eq!(shedding.shed(), 1);
        let second = shedding.enter();
        assert!(first.shed().is_cancelled() && !second.shed().is_cancelled());
        assert_eq!(shedding.before(), Some(1));
        assert_eq!(shedding.shed(), 2, "the first is still there");
        drop(first);
        assert_eq!(shedding.before(), Some(1));
        let third = shedding.enter();
        drop(second);
        assert_eq!(shedding.before(), Some(0));
        drop(third);
        assert_eq!(shedding.shed(), 0);
        assert_eq!(shedding.before(), Some(0));
    }
}
