//! How many bytes the worker holds at once over all requests: of their bodies, and of their answers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes for all requests.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    free: Arc<Semaphore>,
}

/// Others have the room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoRoom {
    /// How many bytes there are for all.
    pub(super) limit: usize,
}

/// The bytes that one request may hold; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    limit: usize,
    permit: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { limit, free: Arc::new(Semaphore::new(limit)) }
    }

    /// How many bytes there are for all.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Sets these bytes aside, or none.
    pub(super) fn take(&self, bytes: usize) -> Result<Share, NoRoom> {
        let no_room = NoRoom { limit: self.limit };
        let bytes = u32::try_from(bytes).map_err(|_| no_room)?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(bytes).map_err(|_| no_room)?;
        Ok(Share { limit: self.limit, permit })
    }
}

impl Share {
    /// How many bytes are set aside.
    pub(super) fn bytes(&self) -> usize {
        self.permit.num_permits()
    }

    /// Gives back what is above this.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        drop(self.permit.split(self.bytes().saturating_sub(bytes)));
    }

    /// Makes the share at least this large.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let more = bytes.saturating_sub(self.bytes());
        if more == 0 {
            return Ok(());
        }
        let no_room = NoRoom { limit: self.limit };
        let more = u32::try_from(more).map_err(|_| no_room)?;
        let free = Arc::clone(self.permit.semaphore());
        self.permit.merge(free.try_acquire_many_owned(more).map_err(|_| no_room)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(10);
        let mut first = budget.take(4).unwrap();
        let second = budget.take(6).unwrap();
        assert_eq!(first.grow_to(4), Ok(()), "it has that much");
        assert_eq!(first.grow_to(5), Err(NoRoom { limit: 10 }));
        assert_eq!(budget.take(1).unwrap_err(), NoRoom { limit: 10 });
        drop(second);
        assert_eq!(first.grow_to(10), Ok(()));
        first.shrink_to(10);
        assert!(budget.take(1).is_err(), "nothing is above it");
        first.shrink_to(7);
        assert_eq!(first.bytes(), 7);
        drop(budget.take(3).unwrap());
        first.shrink_to(9);
        assert_eq!(first.bytes(), 7, "to shrink is never to grow");
        drop(first);
        assert!(budget.take(10).is_ok());
        assert!(budget.take(usize::MAX).is_err());
    }
}
