//! The loop around the decision: reads and writes the Lease, and says when leadership is lost.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::step::{Holder, LeaseStep, Observed, Seen, Timing, is_expired, next};
use crate::context::Clock;
use crate::error::said;

/// How long a Lease is good for once it was released.
const RELEASED_SECONDS: i32 = 1;

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The Lease could not be renewed in time.
    #[error(
        "leadership lost: lease {lease} was not renewed within {}; the last attempt said: {last}",
        humantime(*.deadline)
    )]
    Expired {
        /// The Lease as `namespace/name`.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// Another replica took the Lease.
    #[error("leadership lost: lease {lease} is now held by {holder}")]
    Taken {
        /// The Lease as `namespace/name`.
        lease: String,
        /// The other replica.
        holder: String,
    },
}

fn humantime(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

/// A Lease and who we are.
///
/// The client must not retry by itself: a renewal that is still being retried when its deadline
/// has passed looks like one that succeeded.
pub struct Keeper {
    api: Api<Lease>,
    lease: String,
    name: String,
    identity: String,
    timing: Timing,
    clock: Clock,
    origin: Instant,
}

/// Leadership that was won and must be kept up.
pub struct Leadership {
    keeper: Keeper,
    observed: Observed,
    renewed: Duration,
}

/// The identity of this process: a pod's name alone is not enough, because the container may have
/// been restarted and its predecessor's writes may still be under way.
pub fn identity(pod_name: &str) -> String {
    let random = RandomState::new().hash_one(pod_name);
    format!("{pod_name}_{random:016x}")
}

// === impl Keeper ===

impl Keeper {
    /// Nothing is read or written yet.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: String,
        timing: Timing,
        clock: Clock,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            lease: format!("{namespace}/{name}"),
            name: name.to_owned(),
            identity,
            timing,
            clock,
            origin: Instant::now(),
        }
    }

    /// Waits until this process leads. None when `stop` came first.
    pub async fn acquire(self, stop: &CancellationToken) -> Option<Leadership> {
        let mut observed = Observed::Absent;
        tracing::info!(lease = self.lease, identity = self.identity, "waiting for leadership");
        loop {
            let begun = self.now();
            let (seen, pause) = match self.attempt(observed.clone()).await {
                Ok(Attempt::Written(seen)) => {
                    tracing::info!(lease = self.lease, identity = self.identity, "leading");
                    let observed = Observed::Present(seen);
                    return Some(Leadership { keeper: self, observed, renewed: begun });
                }
                Ok(Attempt::Waiting(seen, pause)) => (seen, pause),
                Err(error) => {
                    tracing::warn!(lease = self.lease, error, "the lease cannot be taken");
                    (observed, self.timing.retry_period)
                }
            };
            observed = seen;
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Reads the Lease and does the next step, within one retry period for each.
    async fn attempt(&self, observed: Observed) -> Result<Attempt, String> {
        let found = self.bounded(self.api.get_opt(&self.name)).await?;
        let now = self.now();
        let observed = observed.after_read(found.as_ref().map(|lease| self.holder(lease)), now);
        match next(&observed, &self.identity, now, &self.timing) {
            LeaseStep::Wait(pause) => Ok(Attempt::Waiting(observed, pause)),
            LeaseStep::Create => {
                let lease = self.claim(None, None, 0);
                let params = PostParams::default();
                let written = self.bounded(self.api.create(&params, &lease)).await?;
                Ok(Attempt::Written(Seen { holder: self.holder(&written), since: now }))
            }
            LeaseStep::Renew { version, transitions } => {
                let acquired =
                    found.and_then(|lease| lease.spec).and_then(|spec| spec.acquire_time);
                self.replace(self.claim(Some(version), acquired, transitions), now).await
            }
            LeaseStep::TakeOver { version, transitions } => {
                self.replace(self.claim(Some(version), None, transitions), now).await
            }
        }
    }

    fn holder(&self, lease: &Lease) -> Holder {
        holder(lease, &self.timing)
    }

    async fn replace(&self, lease: Lease, now: Duration) -> Result<Attempt, String> {
        let params = PostParams::default();
        let written = self.bounded(self.api.replace(&self.name, &params, &lease)).await?;
        Ok(Attempt::Written(Seen { holder: self.holder(&written), since: now }))
    }

    async fn bounded<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, String> {
        match timeout(self.timing.retry_period, request).await {
            Ok(answer) => answer.map_err(|error| said(&error)),
            Err(_) => Err(format!("no answer within {}", humantime(self.timing.retry_period))),
        }
    }

    fn claim(
        &self,
        version: Option<String>,
        acquired: Option<MicroTime>,
        transitions: i32,
    ) -> Lease {
        let now = MicroTime(self.clock.now());
        let duration = i32::try_from(self.timing.lease_duration.as_secs()).unwrap_or(i32::MAX);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(duration),
                lease_transitions: Some(transitions),
                acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// What one attempt came to.
enum Attempt {
    Written(Seen),
    Waiting(Observed, Duration),
}

/// Who holds a Lease. A holder that promises no duration gets the own one: taking its Lease at once
/// could make two leaders.
fn holder(lease: &Lease, timing: &Timing) -> Holder {
    let spec = lease.spec.clone().unwrap_or_default();
    let promised = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Holder {
        identity: spec.holder_identity.unwrap_or_default(),
        duration: promised
            .filter(|seconds| *seconds > 0)
            .map_or(timing.lease_duration, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

// === impl Leadership ===

impl Leadership {
    /// Renews until `stop`, or until leadership is lost. The caller must stop all work on an
    /// error, and end the process: what is in flight cannot be called back.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Result<(), LeaseError> {
        let timing = self.keeper.timing;
        let mut last = "no attempt was made".to_owned();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(timing.retry_period.min(self.left())) => {}
            }
            if is_expired(self.renewed, self.keeper.now(), &timing) {
                return Err(self.expired(last));
            }
            let begun = self.keeper.now();
            // An answer after the deadline comes too late, whatever it says.
            match timeout(self.left(), self.keeper.attempt(self.observed.clone())).await {
                Ok(Ok(Attempt::Written(seen))) => {
                    self.observed = Observed::Present(seen);
                    self.renewed = begun;
                }
                Ok(Ok(Attempt::Waiting(observed, _))) => return Err(self.taken(observed)),
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.keeper.lease, error, "the lease was not renewed");
                    last = error;
                }
                Err(_) => return Err(self.expired("no answer".to_owned())),
            }
        }
    }

    /// Time until this process must stop leading.
    fn left(&self) -> Duration {
        let spent = self.keeper.now().saturating_sub(self.renewed);
        self.keeper.timing.renew_deadline.saturating_sub(spent)
    }

    fn taken(&self, observed: Observed) -> LeaseError {
        let holder = match observed {
            Observed::Present(seen) => seen.holder.identity,
            Observed::Absent => String::new(),
        };
        LeaseError::Taken { lease: self.keeper.lease.clone(), holder }
    }

    fn expired(&self, last: String) -> LeaseError {
        LeaseError::Expired {
            lease: self.keeper.lease.clone(),
            deadline: self.keeper.timing.renew_deadline,
            last,
        }
    }

    /// Gives the Lease back, so that the next replica need not wait. Call after all work ended.
    pub async fn release(self) {
        let Observed::Present(seen) = &self.observed else { return };
        let keeper = &self.keeper;
        let mut lease =
            keeper.claim(Some(seen.holder.version.clone()), None, seen.holder.transitions);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(RELEASED_SECONDS);
        }
        let params = PostParams::default();
        match keeper.bounded(keeper.api.replace(&keeper.name, &params, &lease)).await {
            Ok(_) => tracing::info!(lease = keeper.lease, "lease released"),
            Err(error) => tracing::warn!(
                lease = keeper.lease,
                error,
                "the lease was not released; the next replica waits until it runs out"
            ),
        }
    }
}
