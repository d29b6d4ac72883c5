//! How often a container ended by itself while it served.
//!
//! Kubernetes counts all ends of a container and remembers the last one. What ended on the way to
//! readiness is no sign of how it serves, and neither is an end of last month. So ends are
//! forgiven: an annotation of the pod holds the count up to which they are.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use lamplighter_api::names;
use lamplighter_plan::Seconds;
use lamplighter_protocol as protocol;

use super::{is_ready, was_ready_since, worker};

/// For how long a pod has to be ready until what was before is forgiven.
const FORGIVEN_AFTER: Seconds = Seconds(600);

/// How often the pod's container ended after it had been ready.
pub(super) fn exits(pod: &Pod) -> u32 {
    let restarts = worker(pod).map(restarts).unwrap_or_default();
    let forgiven = forgiven(pod).unwrap_or_else(|| unforgiven(pod));
    restarts.saturating_sub(forgiven)
}

/// The worker ended itself because it gave the same wrong answer twice.
pub(super) fn was_wrong(pod: &Pod) -> bool {
    let last = worker(pod).and_then(|worker| worker.last_state.as_ref()?.terminated.as_ref());
    let said = last.and_then(|last| last.message.as_deref());
    let failure = said.and_then(protocol::Failure::from_termination_message);
    failure.is_some_and(|failure| failure.reason == protocol::Reason::RevalidationFailed)
        && exits(pod) > 0
}

/// What the annotation should say, if it should say something else than it does. `ready` is for
/// how long the pod has been ready; none while it is not.
pub(super) fn to_forgive(pod: &Pod, ready: Option<Seconds>) -> Option<u32> {
    let restarts = worker(pod).map(restarts).filter(|restarts| *restarts > 0)?;
    match (forgiven(pod), ready) {
        (None, Some(_)) => Some(restarts),
        (None, None) => has_served(pod).then(|| restarts.saturating_sub(1)),
        (Some(known), Some(ready)) if known < restarts && ready >= FORGIVEN_AFTER => Some(restarts),
        (Some(_), _) => None,
    }
}

fn forgiven(pod: &Pod) -> Option<u32> {
    pod.annotations().get(names::ANNOTATION_FORGIVEN_EXITS)?.parse().ok()
}

/// Where nothing is written yet: all ends up to the first readiness. Whoever is ready for the
/// first time has left them behind; whoever lost readiness by its last end has served once.
fn unforgiven(pod: &Pod) -> u32 {
    let restarts = worker(pod).map(restarts).unwrap_or_default();
    restarts.saturating_sub(u32::from(has_served(pod)))
}

/// The pod lost its readiness by the container's last end.
fn has_served(pod: &Pod) -> bool {
    let last = worker(pod).and_then(|worker| worker.last_state.as_ref()?.terminated.as_ref());
    !is_ready(pod) && last.is_some_and(|last| was_ready_since(pod, last.started_at.as_ref()))
}

fn restarts(worker: &ContainerStatus) -> u32 {
    u32::try_from(worker.restart_count).unwrap_or_default()
}
