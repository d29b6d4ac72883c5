//! What many share and none may have all of, handed to the most urgent first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that may be in memory on their way from stores to the cache, of all fetches together:
/// eight requests of the largest size, which keep a fast line busy.
const DOWNLOADS: u64 = 64 << 20;

/// A number of units, such as bytes of memory. Whoever takes some waits until they are free; of
/// those who wait, the most urgent is first, then who came first. Nobody overtakes the first, so
/// that a large wish is not starved by small ones.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// How many have waited so far.
    tickets: u64,
    waiting: BTreeMap<Key, Wish>,
}

/// Urgency, the highest first, and the ticket.
type Key = (Reverse<u64>, u64);

#[derive(Debug)]
struct Wish {
    units: u64,
    granted: bool,
    told: Arc<Notify>,
}

/// Units that are taken until this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    units: u64,
}

impl Budget {
    /// Bytes for downloads, as many as keep a fast line busy.
    pub fn for_downloads() -> Self {
        Self::new(DOWNLOADS)
    }

    /// That many units, all of them free.
    pub fn new(total: u64) -> Self {
        let state = State { free: total, tickets: 0, waiting: BTreeMap::new() };
        Self { total, state: Mutex::new(state) }
    }

    /// Takes units as soon as they are free and nobody more urgent waits. Who wants more than
    /// there are gets all of them.
    pub async fn take(self: &Arc<Self>, units: u64, urgency: u64) -> Share {
        let units = units.min(self.total);
        let Some(place) = self.queue(units, urgency) else {
            return Share { budget: Arc::clone(self), units };
        };
        place.granted().await
    }

    /// A place in the queue, unless the units are free at once.
    fn queue(self: &Arc<Self>, units: u64, urgency: u64) -> Option<Place> {
        let mut state = self.state();
        if state.waiting.is_empty() && units <= state.free {
            state.free -= units;
            return None;
        }
        state.tickets += 1;
        let key = (Reverse(urgency), state.tickets);
        let told = Arc::new(Notify::new());
        state.waiting.insert(key, Wish { units, granted: false, told: Arc::clone(&told) });
        // Who is more urgent than all others may fit where the first of them does not.
        state.grant();
        Some(Place { budget: Arc::clone(self), key, told })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_back(&mut self, units: u64) {
        self.free += units;
        self.grant();
    }

    fn grant(&mut self) {
        for wish in self.waiting.values_mut().filter(|wish| !wish.granted) {
            if wish.units > self.free {
                return;
            }
            self.free -= wish.units;
            wish.granted = true;
            wish.told.notify_one();
        }
    }
}

/// A place in the queue; left when it is dropped, and then what was granted is given back.
struct Place {
    budget: Arc<Budget>,
    key: Key,
    told: Arc<Notify>,
}

impl Place {
    async fn granted(self) -> Share {
        self.told.notified().await;
        let mut units = 0;
        if let Some(wish) = self.budget.state().waiting.get_mut(&self.key) {
            std::mem::swap(&mut units, &mut wish.units);
        }
        Share { budget: Arc::clone(&self.budget), units }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if let Some(Wish { units, granted, .. }) = state.waiting.remove(&self.key) {
            state.give_back(if granted { units } else { 0 });
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.state().give_back(self.units);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use futures::future::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_most_urgent_is_first_and_then_who_came_first() {
        let budget = Arc::new(Budget::new(10));
        let all = budget.take(10, 0).now_or_never().unwrap();
        let mut small = pin!(budget.take(4, 1));
        let mut large = pin!(budget.take(8, 5));
        let mut late = pin!(budget.take(4, 5));
        let mut cx = Context::from_waker(Waker::noop());
        for waiting in [small.as_mut(), large.as_mut(), late.as_mut()] {
            let _pending = waiting.poll(&mut cx).is_pending();
        }
        drop(all);
        let Poll::Ready(first) = large.as_mut().poll(&mut cx) else {
            panic!("the most urgent has to wait");
        };
        assert!(late.as_mut().poll(&mut cx).is_pending(), "8 of 10 are taken");
        drop(first);
        let (late, small) = (late.as_mut().poll(&mut cx), small.as_mut().poll(&mut cx));
        assert!(late.is_ready() && small.is_ready());
    }

    #[test]
    fn nobody_overtakes_a_large_wish_and_more_than_all_is_all() {
        let budget = Arc::new(Budget::new(10));
        let some = budget.take(4, 0).now_or_never().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut large = pin!(budget.take(100, 0));
        assert!(large.as_mut().poll(&mut cx).is_pending());
        assert!(budget.take(1, 0).now_or_never().is_none(), "6 are free, but not for this one");
        drop(some);
        assert!(large.as_mut().poll(&mut cx).is_ready());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u64, u64),
        Poll(usize),
        Forget(usize),
        Return(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..12_u64, 0..3_u64).prop_map(|(units, urgency)| Step::Take(units, urgency)),
            any::<usize>().prop_map(Step::Poll),
            any::<usize>().prop_map(Step::Forget),
            any::<usize>().prop_map(Step::Return),
        ]
    }

    proptest! {
        /// Wishes are given up while they wait and after they were granted.
        #[test]
        fn units_are_never_lost_and_never_given_twice(steps in prop::collection::vec(step(), 0..60)) {
            const TOTAL: u64 = 10;
            let budget = Arc::new(Budget::new(TOTAL));
            let mut waiting = Vec::new();
            let mut shares = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            for step in steps {
                match step {
                    Step::Take(units, urgency) => {
                        let budget = Arc::clone(&budget);
                        waiting.push(async move { budget.take(units, urgency).await }.boxed());
                    }
                    Step::Poll(at) if !waiting.is_empty() => {
                        let at = at % waiting.len();
                        if let Poll::Ready(share) = waiting[at].poll_unpin(&mut cx) {
                            drop(waiting.remove(at));
                            shares.push(share);
                        }
                    }
                    Step::Forget(at) if !waiting.is_empty() => {
                        drop(waiting.remove(at % waiting.len()));
                    }
                    Step::Return(at) if !shares.is_empty() => {
                        drop(shares.remove(at % shares.len()));
                    }
                    Step::Poll(_) | Step::Forget(_) | Step::Return(_) => {}
                }
                let taken: u64 = shares.iter().map(|share: &Share| share.units).sum();
                prop_assert!(taken <= TOTAL);
            }
            drop(shares);
            // Whoever waits still gets it when the others are gone.
            while !waiting.is_empty() {
                let polled: Vec<_> =
                    waiting.iter_mut().map(|wish| wish.poll_unpin(&mut cx)).collect();
                prop_assert!(polled.iter().any(Poll::is_ready), "all wait for nobody");
                let mut polled = polled.into_iter();
                waiting.retain(|_| polled.next().is_some_and(|polled| polled.is_pending()));
            }
            prop_assert!(budget.take(TOTAL, 0).now_or_never().is_some());
        }
    }
}
