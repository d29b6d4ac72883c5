//! Whether the watches stand. An operator that does not see the cluster is not ready, whether it
//! leads or waits to.
//!
//! A watch that fails says so each time. One that stands says nothing while nothing changes, so
//! besides what it delivers, the apiserver's answer to its request counts, unless it fails again
//! right after. A connection that died in silence is noticed when kube's own idle limit on a watch
//! ends it, five minutes at the latest; from then on it fails.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Resource;
use kube::runtime::watcher;
use lamplighter_telemetry::probe::{NotReady, Readiness};
use tokio::time::{Instant, interval};

/// For how long a watch may fail before the operator is not ready. The watches' own back-off grows
/// to 30 s, so a shorter time would judge a watch that was only tried once or twice.
pub const FAILING_DEADLINE: Duration = Duration::from_secs(30);
/// For how long a watch must stand after its request was answered, to count as standing.
const CALM: Duration = Duration::from_secs(5);
/// How often readiness is brought up to date.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// All watches, by the path that they watch. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<String, Watch>>>);

/// One of them, for whoever polls it.
#[derive(Clone, Debug)]
pub struct Watched {
    watches: Watches,
    path: String,
}

/// How a watch stands.
#[derive(Clone, Debug, Default)]
struct Watch {
    kind: String,
    is_filled: bool,
    failing: Option<Failing>,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    /// How often it failed since. After a single error on a stream that goes on nothing more may
    /// come for minutes; a watch that is down fails again and again.
    times: u32,
    error: String,
    /// When its request was answered after it failed last.
    answered: Option<Instant>,
}

/// What a watch lets know.
#[derive(Clone, Debug)]
enum Sign {
    /// Everything that there is was delivered.
    Filled,
    /// A change was delivered.
    Delivered,
    /// The request was answered well.
    Answered,
    /// It failed.
    Failed(String),
}

// === impl Watches ===

impl Watches {
    /// A watch of a kind, in one namespace or in all of them.
    pub fn add<K: Resource<DynamicType = ()>>(&self, namespace: Option<&str>) -> Watched {
        let path = K::url_path(&(), namespace);
        let watch = Watch { kind: K::kind(&()).into_owned(), ..Watch::default() };
        self.lock().insert(path.clone(), watch);
        Watched { watches: self.clone(), path }
    }

    /// The request for a watch of this path was answered well.
    pub fn answered(&self, path: &str, now: Instant) {
        self.note(path, Sign::Answered, now);
    }

    /// Whether all stand, and if not, what is wrong.
    pub fn verdict(&self, now: Instant) -> Result<(), NotReady> {
        let watches = self.lock();
        if let Some(failing) = watches.values().find_map(|watch| watch.failed_for_long(now)) {
            return Err(failing);
        }
        let unfilled: Vec<&str> = watches
            .values()
            .filter(|watch| !watch.is_filled)
            .map(|watch| watch.kind.as_str())
            .collect();
        if unfilled.is_empty() && !watches.is_empty() {
            return Ok(());
        }
        Err(NotReady {
            reason: "CachesNotFilled".to_owned(),
            message: format!("what there is has not been read yet: {}", unfilled.join(", ")),
        })
    }

    fn note(&self, path: &str, sign: Sign, now: Instant) {
        if let Some(watch) = self.lock().get_mut(path) {
            watch.note(sign, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps `readiness` true to the watches, for as long as it is polled.
pub async fn follow(watches: &Watches, readiness: &Readiness) -> Infallible {
    let mut look = interval(LOOK_PERIOD);
    let mut stood = false;
    loop {
        look.tick().await;
        match watches.verdict(Instant::now()) {
            Ok(()) => {
                if !stood {
                    tracing::info!("ready: every watch stands");
                }
                stood = true;
                readiness.set_ready();
            }
            Err(NotReady { reason, message }) => {
                if stood {
                    tracing::error!(reason, message, "not ready any more");
                }
                stood = false;
                readiness.set_not_ready(reason, message);
            }
        }
    }
}

// === impl Watched ===

impl Watched {
    /// Learns from what the watch delivers. Call it after the cache has taken it.
    pub fn delivered<K>(&self, event: &watcher::Result<watcher::Event<K>>, now: Instant) {
        let sign = match event {
            Ok(watcher::Event::InitDone) => Sign::Filled,
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => Sign::Delivered,
            // Said before the first request is made, and of a page that others may not follow.
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => return,
            Err(error) => Sign::Failed(error.to_string()),
        };
        self.watches.note(&self.path, sign, now);
    }
}

// === impl Watch ===

impl Watch {
    fn note(&mut self, sign: Sign, now: Instant) {
        match sign {
            Sign::Filled => {
                self.is_filled = true;
                self.failing = None;
            }
            Sign::Delivered => self.failing = None,
            Sign::Answered => {
                if let Some(failing) = &mut self.failing {
                    failing.answered.get_or_insert(now);
                }
            }
            Sign::Failed(error) => {
                let known = self.failing.take().filter(|failing| !failing.is_over(now));
                let (since, times) =
                    known.map_or((now, 0), |failing| (failing.since, failing.times));
                let times = times.saturating_add(1);
                self.failing = Some(Failing { since, times, error, answered: None });
            }
        }
    }

    fn failed_for_long(&self, now: Instant) -> Option<NotReady> {
        let failing = self.failing.as_ref().filter(|failing| !failing.is_over(now))?;
        let lasted = now.saturating_duration_since(failing.since);
        (lasted > FAILING_DEADLINE && failing.times > 1).then(|| NotReady {
            reason: "WatchFailing".to_owned(),
            message: format!(
                "the watch of {} has been failing for {} s: {}",
                self.kind,
                lasted.as_secs(),
                failing.error
            ),
        })
    }
}

// === impl Failing ===

impl Failing {
    fn is_over(&self, now: Instant) -> bool {
        self.answered.is_some_and(|answered| now.saturating_duration_since(answered) >= CALM)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Service};

    use super::*;

    const PODS: &str = "/api/v1/namespaces/library/pods";

    struct Scene {
        begin: Instant,
        watches: Watches,
        pods: Watched,
    }

    impl Scene {
        /// Two watches, both filled at second 0.
        fn filled() -> Self {
            let scene = Self::new();
            let services = scene.watches.add::<Service>(Some("library"));
            services.delivered(&Ok(watcher::Event::<Service>::InitDone), scene.at(0));
            scene.pods.delivered(&Ok(watcher::Event::<Pod>::InitDone), scene.at(0));
            scene
        }

        fn new() -> Self {
            let watches = Watches::default();
            let pods = watches.add::<Pod>(Some("library"));
            Self { begin: Instant::now(), watches, pods }
        }

        fn at(&self, second: u64) -> Instant {
            self.begin + Duration::from_secs(second)
        }

        fn fails(&self, second: u64) {
            let error = Err::<watcher::Event<Pod>, _>(watcher::Error::NoResourceVersion);
            self.pods.delivered(&error, self.at(second));
        }

        fn reason(&self, second: u64) -> Option<String> {
            self.watches.verdict(self.at(second)).err().map(|not_ready| not_ready.reason)
        }
    }

    #[test]
    fn it_is_not_ready_until_every_watch_has_delivered_what_there_is() {
        assert_eq!(
            Watches::default().verdict(Instant::now()).unwrap_err().reason,
            "CachesNotFilled",
            "no watch is no view"
        );
        let scene = Scene::new();
        let services = scene.watches.add::<Service>(Some("library"));
        services.delivered(&Ok(watcher::Event::<Service>::InitDone), scene.at(0));
        scene.pods.delivered(&Ok(watcher::Event::<Pod>::Init), scene.at(0));
        scene.pods.delivered(&Ok(watcher::Event::InitApply(Pod::default())), scene.at(0));
        let not_ready = scene.watches.verdict(scene.at(0)).unwrap_err();
        assert!(not_ready.message.ends_with(": Pod"), "{}", not_ready.message);
        scene.pods.delivered(&Ok(watcher::Event::<Pod>::InitDone), scene.at(1));
        assert_eq!(scene.reason(1), None);
        assert_eq!(scene.reason(100_000), None, "silence is no failure");
    }

    #[test]
    fn a_watch_may_fail_for_a_while_and_then_is_named_with_its_error() {
        let scene = Scene::filled();
        for second in [10, 20, 35] {
            scene.fails(second);
        }
        assert_eq!(scene.reason(40), None);
        let not_ready = scene.watches.verdict(scene.at(41)).unwrap_err();
        assert_eq!(not_ready.reason, "WatchFailing");
        assert!(not_ready.message.contains("Pod has been failing for 31 s"), "{not_ready:?}");
        assert!(not_ready.message.contains("resourceVersion"), "{not_ready:?}");
    }

    #[test]
    fn a_list_that_fails_again_and_again_is_not_saved_by_beginning_anew() {
        let scene = Scene::filled();
        for second in [10, 20, 35, 50] {
            scene.pods.delivered(&Ok(watcher::Event::<Pod>::Init), scene.at(second));
            scene.fails(second);
        }
        assert_eq!(scene.reason(50).as_deref(), Some("WatchFailing"));
        scene.pods.delivered(&Ok(watcher::Event::<Pod>::InitDone), scene.at(51));
        assert_eq!(scene.reason(51), None);
    }

    #[test]
    fn a_watch_that_was_answered_stands_although_nothing_changes() {
        let scene = Scene::filled();
        scene.fails(10);
        scene.fails(20);
        scene.watches.answered(PODS, scene.at(38));
        assert_eq!(scene.reason(42).as_deref(), Some("WatchFailing"), "too early to tell");
        assert_eq!(scene.reason(43), None);
        scene.fails(100);
        assert_eq!(scene.reason(101), None, "another failure, with a time of its own");
    }

    #[test]
    fn one_error_on_a_stream_that_goes_on_in_silence_is_no_failing_watch() {
        let scene = Scene::filled();
        scene.fails(10);
        assert_eq!(scene.reason(41), None);
        assert_eq!(scene.reason(290), None);
        scene.fails(300);
        assert_eq!(scene.reason(300).as_deref(), Some("WatchFailing"), "a second one tells");
    }

    #[test]
    fn a_watch_that_is_answered_and_breaks_off_at_once_does_not_stand() {
        let scene = Scene::filled();
        for second in (10..60).step_by(10) {
            scene.watches.answered(PODS, scene.at(second));
            scene.fails(second + 1);
        }
        assert_eq!(scene.reason(52).as_deref(), Some("WatchFailing"));
    }

    #[test]
    fn a_change_that_is_delivered_ends_a_failure() {
        let scene = Scene::filled();
        scene.fails(10);
        scene.pods.delivered(&Ok(watcher::Event::Apply(Pod::default())), scene.at(50));
        assert_eq!(scene.reason(50), None);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_follows_the_watches() {
        let scene = Scene::filled();
        let readiness = Readiness::not_ready_yet("Starting", "");
        let (watches, followed) = (scene.watches.clone(), readiness.clone());
        let following = tokio::spawn(async move { follow(&watches, &followed).await });
        readiness.wait().await;
        scene.fails(0);
        scene.fails(1);
        tokio::time::sleep(FAILING_DEADLINE + 2 * LOOK_PERIOD).await;
        assert_eq!(readiness.get().unwrap_err().reason, "WatchFailing");
        scene.pods.delivered(&Ok(watcher::Event::Apply(Pod::default())), Instant::now());
        readiness.wait().await;
        following.abort();
    }
}
