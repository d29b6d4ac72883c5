//! Waiting: always for something named, always with a deadline, and with the last thing seen
//! in the error.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How often [`eventually`] looks.
const PACE: Duration = Duration::from_millis(200);

/// What a look found.
#[derive(Clone, Debug)]
pub enum Look<T> {
    /// What was waited for.
    There(T),
    /// Not there, and what is there instead.
    NotYet(String),
}

impl Look<()> {
    /// There when it holds.
    pub fn when(holds: bool, instead: impl FnOnce() -> String) -> Self {
        if holds { Self::There(()) } else { Self::NotYet(instead()) }
    }
}

/// Watches one object until `look` finds what it is after. `look` gets nothing while the
/// object does not exist.
pub async fn on<K, T>(
    api: Api<K>,
    name: &str,
    what: &str,
    deadline: Duration,
    mut look: impl FnMut(Option<&K>) -> Look<T>,
) -> anyhow::Result<T>
where
    K: Clone + Debug + DeserializeOwned + Resource + Send + 'static,
{
    let mut last = "nothing was seen".to_owned();
    let seen = async {
        let mut versions = std::pin::pin!(watcher::watch_object(api, name).default_backoff());
        while let Some(version) = versions.next().await {
            match version {
                Ok(object) => match look(object.as_ref()) {
                    Look::There(found) => return Ok(found),
                    Look::NotYet(instead) => last = instead,
                },
                Err(error) => last = format!("the watch failed: {error}"),
            }
        }
        bail!("the watch of {name} ended")
    };
    match tokio::time::timeout(deadline, seen).await {
        Ok(found) => found.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: not within {deadline:?}; last seen: {last}"),
    }
}

/// Looks again and again until `look` finds what it is after: for what cannot be watched.
/// An error of `look` counts as not yet.
pub async fn eventually<T, F>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Look<T>>>,
{
    let mut last = "nothing was seen".to_owned();
    let seen = async {
        let mut pace = tokio::time::interval(PACE);
        loop {
            pace.tick().await;
            match look().await {
                Ok(Look::There(found)) => return found,
                Ok(Look::NotYet(instead)) => last = instead,
                Err(error) => last = format!("{error:#}"),
            }
        }
    };
    match tokio::time::timeout(deadline, seen).await {
        Ok(found) => Ok(found),
        Err(_) => bail!("{what}: not within {deadline:?}; last seen: {last}"),
    }
}

/// Everything that a watch delivered since it was started, with the time at which it came.
///
/// For statements that something *never* happened: a watch delivers every version, and one
/// that broke off makes [`Recording::finish`] fail rather than say that nothing was there.
#[derive(Debug)]
pub struct Recording<K> {
    task: tokio::task::JoinHandle<()>,
    seen: Arc<Log<K>>,
}

type Log<K> = Mutex<Vec<anyhow::Result<Seen<K>>>>;

/// One version of an object.
#[derive(Clone, Debug)]
pub struct Seen<K> {
    /// When it came.
    pub at: tokio::time::Instant,
    /// The object.
    pub object: K,
}

impl<K> Recording<K>
where
    K: Clone + Debug + DeserializeOwned + Resource + Send + Sync + 'static,
{
    /// Starts to record the objects that a watch selects.
    pub fn start(api: Api<K>, selection: watcher::Config) -> Self {
        let seen: Arc<Log<K>> = Arc::default();
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, selection));
            loop {
                let next = events.try_next().await;
                let at = tokio::time::Instant::now();
                let entry = match next {
                    Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                        Ok(Seen { at, object })
                    }
                    Ok(Some(_)) => continue,
                    Ok(None) => Err(anyhow::anyhow!("the recording's watch ended")),
                    Err(error) => Err(anyhow::Error::new(error).context("the recording broke off")),
                };
                let over = entry.is_err();
                if let Ok(mut seen) = into.lock() {
                    seen.push(entry);
                }
                if over {
                    return;
                }
            }
        });
        Self { task, seen }
    }

    /// Stops recording and returns all versions in the order in which they came.
    pub fn finish(self) -> anyhow::Result<Vec<Seen<K>>> {
        self.task.abort();
        let mut seen =
            self.seen.lock().map_err(|_| anyhow::anyhow!("the recording's task panicked"))?;
        std::mem::take(&mut *seen).into_iter().collect()
    }
}

impl<K> Drop for Recording<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_fails_with_what_was_seen_last() {
        let mut looks = 0;
        let error = eventually::<(), _>("the lamp is lit", Duration::from_millis(900), || {
            looks += 1;
            let seen = looks;
            async move { Ok(Look::NotYet(format!("dark at look {seen}"))) }
        })
        .await
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the lamp is lit: not within 900ms; last seen: dark at look 5"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_not_the_end() {
        let mut looks = 0;
        let found = eventually("the lamp is lit", Duration::from_secs(5), || {
            looks += 1;
            let look = looks;
            async move {
                ensure!(look >= 3, "no oil");
                Ok(Look::There(look))
            }
        })
        .await
        .unwrap();
        assert_eq!(found, 3);
    }
}
