//! Objects in a few words. Every name is another one, so that swapped names fail a test.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use lamplighter_api::ModelDeployment;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::validate::{Valid, validate};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "library";
pub(crate) const NAME: &str = "scripture-search";
pub(crate) const UID: &str = "d0000000-0000-4000-8000-000000000001";
pub(crate) const IMAGE: &str = "registry.example/lamplighter-worker:0.1.0";
/// 2026-01-02T03:04:05Z
pub(crate) const NOW: i64 = 1_767_323_045;

pub(crate) const SPEC: &str = r#"
replicas: 2
models:
  - name: embedder
    version: "2.1.0"
    task: Embedding
    source: {uri: "s3://models/minilm/2.1.0", secretRef: {name: model-store}}
    validation:
      cases:
        - name: near
          similarity: {texts: ["a cat", "a kitten"], atLeast: "0.6"}
  - name: classic
    version: "1"
    task: Embedding
    source: {uri: "pvc://shelf/classic"}
    validation:
      cases:
        - name: order
          ranking: {query: "dawn", passages: ["dusk", "sunrise"], order: [1, 0]}
service: {type: NodePort, port: 8088, nodePort: 30080, annotations: {example.com/pool: inner}}
worker:
  device: Cpu
  imagePullPolicy: IfNotPresent
  imagePullSecrets: [{name: registry-login}]
  resources: {limits: {memory: 4Gi}, requests: {cpu: "1"}}
  env: [{name: OMP_NUM_THREADS, value: "2"}]
  envFrom: [{configMapRef: {name: tuning}}]
  nodeSelector: {disk: ssd}
  tolerations: [{key: batch, operator: Exists, effect: NoSchedule}]
rollout: {progressDeadlineSeconds: 300, drainSeconds: 20}
"#;

pub(crate) fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a fixture of the right shape")
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// So many seconds before now.
pub(crate) fn ago(seconds: i64) -> Time {
    Time(Timestamp::from_second(NOW - seconds).unwrap())
}

pub(crate) fn deployment() -> ModelDeployment {
    deployment_of(SPEC)
}

pub(crate) fn deployment_of(spec: &str) -> ModelDeployment {
    let mut deployment = ModelDeployment::new(NAME, serde_saphyr::from_str(spec).unwrap());
    deployment.metadata = ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        uid: Some(UID.to_owned()),
        generation: Some(3),
        resource_version: Some("1000".to_owned()),
        ..ObjectMeta::default()
    };
    deployment
}

pub(crate) fn valid() -> Valid {
    validate(&deployment(), &Fetched::default(), IMAGE).expect("the fixture is valid")
}

/// What is known when the wanted revision has a workload of these pods.
pub(crate) fn with_pods(pods: Vec<Value>) -> Fetched {
    let valid = valid();
    let set = replica_set(valid.revision.as_str(), 2);
    Fetched {
        pods: pods.into_iter().map(|pod| Arc::new(from::<Pod>(pod))).collect(),
        replica_sets: vec![Arc::new(set)],
        ..Fetched::default()
    }
}

pub(crate) fn replica_set(revision: &str, replicas: u32) -> ReplicaSet {
    from(json!({
        "metadata": {
            "name": format!("{NAME}-{revision}"),
            "namespace": NAMESPACE,
            "uid": format!("set-{revision}"),
            "resourceVersion": "7",
            "creationTimestamp": ago(40),
            "labels": labels(revision),
            "ownerReferences": [controller("ModelDeployment", NAME, UID)],
        },
        "spec": {"replicas": replicas, "selector": {}},
    }))
}

/// A pod of a revision; `status` as the kubelet writes it.
pub(crate) fn pod(name: &str, revision: &str, status: &Value) -> Value {
    json!({
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": format!("uid-{name}"),
            "creationTimestamp": ago(30),
            "labels": labels(revision),
            "ownerReferences":
                [controller("ReplicaSet", &format!("{NAME}-{revision}"), &format!("set-{revision}"))],
        },
        "spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "4Gi"}}}]},
        "status": status,
    })
}

pub(crate) fn labels(revision: &str) -> Value {
    json!({
        "lamplighter.dev/deployment": NAME,
        "lamplighter.dev/environment": "blue",
        "lamplighter.dev/revision": revision,
    })
}

fn controller(kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true})
}

// === what a kubelet and a scheduler say about a pod ===

pub(crate) fn ready() -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(10)}],
        "containerStatuses": [container(&json!({"running": {"startedAt": ago(20)}}), &Value::Null)],
    })
}

pub(crate) fn in_state(state: &Value) -> Value {
    after_failure(state, &Value::Null)
}

/// A container in this state whose predecessor ended in that one.
pub(crate) fn after_failure(state: &Value, last: &Value) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "False", "lastTransitionTime": ago(25)},
        ],
        "containerStatuses": [container(state, last)],
    })
}

fn container(state: &Value, last: &Value) -> Value {
    json!({
        "name": "worker", "image": IMAGE, "imageID": "", "ready": false, "restartCount": 0,
        "state": state, "lastState": last,
    })
}

pub(crate) fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

pub(crate) fn running() -> Value {
    json!({"running": {"startedAt": ago(2)}})
}

pub(crate) fn terminated(code: i32, reason: &str, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": message}})
}

pub(crate) fn unschedulable(message: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastTransitionTime": ago(25),
        }],
    })
}
