//! What every reconcile shares: the client, the caches, the clock, what is counted.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Recorder;

use crate::backoff::Attempts;
use crate::caches::Caches;
use crate::images::Images;
use crate::metrics::Metrics;
use crate::polls::Polls;
use crate::reports::Reporter;
use crate::sheds::Sheds;

/// Where time comes from. The one place that reads the system's clock; everything else gets a
/// time or an age. What is held against times of the cluster comes from
/// [`crate::server_time::ServerTime`].
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

/// Shared by all reconciles.
pub struct Context {
    /// Writes, and the few reads that a cache cannot answer.
    pub client: Client,
    /// What the cluster looks like.
    pub caches: Caches,
    /// Asks worker pods about themselves.
    pub reporter: Reporter,
    /// What pods said last, and when they are asked again.
    pub polls: Polls,
    /// Which pods were told to shed their connections.
    pub sheds: Sheds,
    /// Publishes events.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Metrics,
    /// How often each object has failed in a row.
    pub attempts: Attempts,
    /// The images of workers that name none.
    pub images: Images,
    /// The apiserver's time: ages are counted from times that the cluster wrote.
    pub clock: Clock,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the context that it is taken from")]
        let now = Timestamp::now;
        Self::from_fn(now)
    }

    /// A clock that shows what a function says.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock that stands still.
    pub fn stopped_at(time: Timestamp) -> Self {
        Self::from_fn(move || time)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Context {
    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
