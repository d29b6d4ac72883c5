//! Which of the many things that Kubernetes remembers about a pod still count.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::memory::Remembered;
use lamplighter_operator::reconcile::observe::{Ages, standing};
use lamplighter_plan::standing::{Workload, World};
use lamplighter_plan::{Failure, FailureClass, PodName, Seconds};
use serde_json::{Value, json};

use crate::fixtures::{after_failure, ago, from, in_state, now, pod, valid, wanted, with_pods};

fn workload(pods: Vec<Value>) -> Workload {
    seen(&with_pods(pods)).wanted().unwrap().clone()
}

fn seen(fetched: &Fetched) -> World {
    standing(&valid(), &Remembered::default(), fetched, &Ages::at(now()))
}

/// What is said of the only pod, which is not ready since so many seconds.
fn failure(mut status: Value, not_ready_for: i64) -> Option<Failure> {
    status["conditions"][1]["lastTransitionTime"] = json!(ago(not_ready_for));
    let workload = workload(vec![pod("worker-a", &wanted(), &status)]);
    workload.pods[&PodName::new("worker-a")].failure.clone()
}

fn started(seconds: i64) -> Value {
    json!({"running": {"startedAt": ago(seconds)}})
}

/// A run that the kernel ended.
fn killed(started: i64, finished: i64) -> Value {
    json!({"terminated": {
        "exitCode": 137, "reason": "OOMKilled",
        "startedAt": ago(started), "finishedAt": ago(finished),
    }})
}

#[test]
fn a_failure_that_the_container_got_over_is_not_blamed_when_it_stops_being_ready() {
    let status = after_failure(&started(9000), &killed(9200, 9001));
    assert_eq!(failure(status.clone(), 5), None);
    let reason = failure(status, 9100).map(|failure| failure.reason);
    assert_eq!(reason.as_deref(), Some("OutOfMemory"), "it never was ready after it");
}

/// Guarantees: gates-14.
#[test]
fn out_of_memory_repeats_itself_while_loading_and_not_while_serving() {
    let class = |status: Value, not_ready_for| failure(status, not_ready_for).unwrap().class;
    for status in [in_state(&killed(500, 4)), after_failure(&started(3), &killed(500, 4))] {
        assert_eq!(class(status.clone(), 600), FailureClass::Deterministic);
        assert_eq!(class(status, 4), FailureClass::Transient);
    }
}

fn evicted(name: &str, ended: i64, reason: &str) -> Value {
    let status = json!({
        "phase": "Failed", "reason": reason, "message": "The node was low on resource: memory.",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": ago(ended)}],
    });
    pod(name, &wanted(), &status)
}

#[test]
fn the_newest_pod_that_ended_is_remembered_with_its_reason() {
    let workload = workload(vec![
        evicted("worker-a", 20, "OutOfcpu"),
        evicted("worker-b", 7, "Evicted"),
        evicted("worker-c", 15, "OutOfcpu"),
    ]);
    assert!(workload.pods.is_empty());
    let ended = workload.ended.unwrap();
    assert_eq!((ended.pod.as_str(), ended.since), ("worker-b", Seconds(7)));
    assert_eq!((ended.failure.reason.as_str(), ended.failure.container), ("Evicted", None));
    assert_eq!(ended.failure.message, "The node was low on resource: memory.");
    assert_eq!(ended.failure.class, FailureClass::Transient);
}

#[test]
fn the_word_of_a_kubelet_becomes_one_that_a_condition_may_hold() {
    for (said, word) in [("OutOfnvidia.com/gpu", "OutOfnvidiacomgpu"), ("", "PodFailed")] {
        let ended = workload(vec![evicted("worker-a", 7, said)]).ended.unwrap();
        assert_eq!(ended.failure.reason, word);
    }
}

/// Guarantees: capacity-05.
#[test]
fn a_refusal_is_as_old_as_its_condition() {
    let mut fetched = with_pods(Vec::new());
    let mut set: Value = serde_json::to_value(fetched.replica_sets[0].as_ref()).unwrap();
    set["status"] = json!({"replicas": 0, "conditions": [{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "exceeded quota: gpus", "lastTransitionTime": ago(12),
    }]});
    fetched.replica_sets = vec![Arc::new(from::<ReplicaSet>(set))];
    let world = seen(&fetched);
    let refusal = world.wanted().unwrap().refused.clone().unwrap();
    assert_eq!((refusal.message.as_str(), refusal.since), ("exceeded quota: gpus", Seconds(12)));
}
