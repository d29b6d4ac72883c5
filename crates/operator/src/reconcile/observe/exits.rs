//! How often a container ended by itself while it served.
//!
//! Kubernetes counts all ends of a container and remembers the last one. What ended on the way to
//! readiness is no sign of how it serves, and neither is an end of last month. So ends are
//! forgiven: an annotation of the pod holds the count up to which they are.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use lamplighter_api::names;
use lamplighter_plan::Seconds;
use lamplighter_protocol as protocol;

use super::{is_ready, was_ready_since, worker};

/// For how long a pod has to be ready until what was before is forgiven.
const FORGIVEN_AFTER: Seconds = Seconds(600);

/// How often the pod's container ended after it had been ready.
pub(super) fn exits(pod: &Pod) -> u32 {
    let ends = worker(pod).map(ends).unwrap_or_default();
    let forgiven = forgiven(pod).unwrap_or_else(|| unforgiven(pod));
    ends.saturating_sub(forgiven)
}

/// The worker ended itself because it gave the same wrong answer twice.
pub(super) fn was_wrong(pod: &Pod) -> bool {
    let said = worker(pod).and_then(last_end).and_then(|last| last.message.as_deref());
    let failure = said.and_then(protocol::Failure::from_termination_message);
    failure.is_some_and(|failure| failure.reason == protocol::Reason::RevalidationFailed)
        && exits(pod) > 0
}

/// What the annotation should say, if it should say something else than it does. `ready` is for
/// how long the pod has been ready; none while it is not.
pub(super) fn to_forgive(pod: &Pod, ready: Option<Seconds>) -> Option<u32> {
    let ends = worker(pod).map(ends).filter(|ends| *ends > 0)?;
    match (forgiven(pod), ready) {
        (None, Some(_)) => Some(ends),
        (None, None) => has_served(pod).then(|| ends.saturating_sub(1)),
        (Some(known), Some(ready)) if known < ends && ready >= FORGIVEN_AFTER => Some(ends),
        (Some(_), _) => None,
    }
}

fn forgiven(pod: &Pod) -> Option<u32> {
    pod.annotations().get(names::ANNOTATION_FORGIVEN_EXITS)?.parse().ok()
}

/// Where nothing is written yet: all ends up to the first readiness. Whoever is ready for the
/// first time has left them behind; whoever lost readiness by its last end has served once.
fn unforgiven(pod: &Pod) -> u32 {
    let ends = worker(pod).map(ends).unwrap_or_default();
    ends.saturating_sub(u32::from(has_served(pod)))
}

/// The pod lost its readiness by the container's last end.
fn has_served(pod: &Pod) -> bool {
    let last = worker(pod).and_then(last_end);
    !is_ready(pod) && last.is_some_and(|last| was_ready_since(pod, last.started_at.as_ref()))
}

/// How often the container ended. Kubernetes counts how often it was started again, which after an
/// end takes as long as the back-off does.
fn ends(worker: &ContainerStatus) -> u32 {
    let starts = u32::try_from(worker.restart_count).unwrap_or_default();
    let is_running = worker.state.as_ref().is_some_and(|state| state.running.is_some());
    starts.saturating_add(u32::from(!is_running && last_end(worker).is_some()))
}

fn last_end(worker: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let ended =
        |state: &'_ Option<ContainerState>| state.as_ref().is_some_and(|s| s.terminated.is_some());
    let state = if ended(&worker.state) { &worker.state } else { &worker.last_state };
    state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> String {
        Timestamp::from_second(1_000_000 + second).unwrap().to_string()
    }

    fn ended(started: i64) -> Value {
        json!({"terminated": {"exitCode": 139, "startedAt": at(started)}})
    }

    /// A pod whose readiness changed at second 50.
    fn pod(restarts: i32, state: &Value, last: &Value, ready: bool, forgiven: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"annotations": forgiven.map(|known| json!({
                names::ANNOTATION_FORGIVEN_EXITS: known,
            }))},
            "status": {
                "conditions": [{
                    "type": "Ready", "status": if ready { "True" } else { "False" },
                    "lastTransitionTime": at(50),
                }],
                "containerStatuses": [{
                    "name": "worker", "image": "i", "imageID": "", "ready": ready,
                    "restartCount": restarts, "state": state, "lastState": last,
                }],
            },
        }))
        .unwrap()
    }

    /// Guarantees: return-01.
    #[test]
    fn ends_count_from_the_first_readiness_until_they_are_forgiven() {
        let running = json!({"running": {"startedAt": at(60)}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let none = Value::Null;
        let (served, loaded) = (ended(10), ended(55));
        let young = Some(Seconds(5));
        let old = Some(Seconds(600));
        for (what, (restarts, state, last, forgiven), ready, expected, forgive) in [
            ("never ended", (0, &running, &none, None), young, 0, None),
            ("failed twice while loading", (2, &running, &loaded, None), None, 0, None),
            ("and is ready then", (2, &running, &loaded, None), young, 0, Some(2)),
            ("as was written down", (2, &running, &loaded, Some("2")), young, 0, None),
            ("served and ended", (0, &served, &none, None), None, 1, Some(0)),
            ("waits to be started again", (0, &waiting, &served, Some("0")), None, 1, None),
            ("was started again", (1, &running, &served, Some("0")), None, 1, None),
            ("is ready again", (1, &running, &served, Some("0")), young, 1, None),
            ("ended twice", (1, &waiting, &served, Some("0")), None, 2, None),
            ("for long ready", (1, &running, &served, Some("0")), old, 1, Some(1)),
            ("served after early failures", (2, &waiting, &served, Some("2")), None, 1, None),
        ] {
            let pod = pod(restarts, state, last, ready.is_some(), forgiven);
            assert_eq!((exits(&pod), to_forgive(&pod, ready)), (expected, forgive), "{what}");
        }
    }

    #[test]
    fn a_worker_that_ended_itself_for_wrong_answers_was_wrong_until_that_is_forgiven() {
        let failure = protocol::Failure::new(protocol::Reason::RevalidationFailed, "wrong twice");
        let mut said = ended(10);
        said["terminated"]["message"] = json!(failure.to_termination_message());
        let running = json!({"running": {"startedAt": at(60)}});
        assert!(was_wrong(&pod(1, &running, &said, true, Some("0"))));
        assert!(!was_wrong(&pod(1, &running, &said, true, Some("1"))));
        assert!(!was_wrong(&pod(1, &running, &ended(10), true, Some("0"))));
    }
}
