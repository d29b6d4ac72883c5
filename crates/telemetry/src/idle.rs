//! Which connections of a listener wait for a request, and sending away those that wait longest
//! when others need their places.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// One that was sent away gets so long to give up its place before the next one is sent, too.
const NEXT: Duration = Duration::from_millis(100);

/// The idle connections of a listener. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Idlers(Arc<Mutex<Waiting>>);

/// Since when, and which.
type Key = (Instant, u64);

#[derive(Debug, Default)]
struct Waiting {
    entered: u64,
    longest_first: BTreeMap<Key, Arc<Notify>>,
}

/// One open connection, idle from its beginning; forgotten when this is dropped.
#[derive(Debug)]
pub struct Idler {
    of: Idlers,
    id: u64,
    /// None while it is busy.
    key: Mutex<Option<Key>>,
    sent_away: Arc<Notify>,
}

impl Idlers {
    /// A connection was accepted and has asked nothing yet.
    pub fn enter(&self) -> Idler {
        let mut waiting = self.lock();
        waiting.entered += 1;
        let id = waiting.entered;
        drop(waiting);
        let idler = Idler {
            of: self.clone(),
            id,
            key: Mutex::default(),
            sent_away: Arc::new(Notify::new()),
        };
        idler.rests();
        idler
    }

    /// Sends connections away that have been idle for `pause` or more, one after the other, for as
    /// long as this is polled: until the place that is missing is there.
    pub async fn send_away(&self, pause: Duration) -> Infallible {
        loop {
            tokio::time::sleep_until(self.send_one_away(pause)).await;
        }
    }

    /// When to look again.
    fn send_one_away(&self, pause: Duration) -> Instant {
        let now = Instant::now();
        let mut waiting = self.lock();
        let Some(longest) = waiting.longest_first.first_entry() else {
            return now + pause;
        };
        let (since, _) = *longest.key();
        if now < since + pause {
            return since + pause;
        }
        longest.remove().notify_one();
        now + NEXT
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idler {
    /// A request has come, whose answer keeps the place.
    pub fn is_busy(&self) {
        let mut waiting = self.of.lock();
        if let Some(key) = self.key().take() {
            waiting.longest_first.remove(&key);
        }
    }

    /// Everything was answered: from now on the connection is idle.
    pub fn rests(&self) {
        let mut waiting = self.of.lock();
        let key = (Instant::now(), self.id);
        if let Some(before) = self.key().replace(key) {
            waiting.longest_first.remove(&before);
        }
        waiting.longest_first.insert(key, Arc::clone(&self.sent_away));
    }

    /// Returns when another connection needs the place of this one. A request may have come since.
    pub async fn sent_away(&self) {
        self.sent_away.notified().await;
    }

    /// Whether it has no request.
    pub fn is_waiting(&self) -> bool {
        self.key().is_some()
    }

    fn key(&self) -> MutexGuard<'_, Option<Key>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        self.is_busy();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn is_sent_away(idler: &Idler) -> bool {
        idler.sent_away().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_idle_longest_goes_first_and_a_busy_one_never() {
        let idlers = Idlers::default();
        let [first, second, busy] = [idlers.enter(), idlers.enter(), idlers.enter()];
        tokio::time::sleep(PAUSE / 2).await;
        busy.is_busy();
        first.is_busy();
        first.rests();
        let until = |time| tokio::time::timeout(time, idlers.send_away(PAUSE));
        assert!(until(PAUSE / 4).await.is_err());
        assert!(!is_sent_away(&second), "it may have a request on its way");
        assert!(until(PAUSE / 4 + NEXT / 2).await.is_err());
        assert!(is_sent_away(&second) && !is_sent_away(&first));
        assert!(until(2 * PAUSE).await.is_err());
        assert!(is_sent_away(&first) && !is_sent_away(&second) && !is_sent_away(&busy));
        drop((first, second, busy));
        assert!(idlers.lock().longest_first.is_empty());
    }
}
