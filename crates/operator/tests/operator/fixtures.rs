//! Objects in a few words. Every name is another one, so that swapped names fail a test.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use lamplighter_api::{
    ActiveRevision, KnownGood, ModelDeployment, ModelDeploymentStatus, Place, RolloutState,
};
use lamplighter_operator::images::Images;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::validate::{Valid, validate};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "library";
pub(crate) const NAME: &str = "scripture-search";
pub(crate) const UID: &str = "d0000000-0000-4000-8000-000000000001";
pub(crate) const IMAGE: &str = "registry.example/lamplighter-worker:0.1.0";
pub(crate) const CUDA_IMAGE: &str = "registry.example/lamplighter-worker-cuda:0.1.0";
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
  apiKeys: {secretKeyRef: {name: callers, key: keys.txt}}
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

/// What the operator was installed with.
pub(crate) fn images() -> Images {
    Images { cpu: IMAGE.to_owned(), cuda: Some(CUDA_IMAGE.to_owned()) }
}

pub(crate) fn valid() -> Valid {
    validate(&deployment(), &Fetched::default(), &images()).expect("the fixture is valid")
}

/// The name of the wanted revision.
pub(crate) fn wanted() -> String {
    valid().wanted.revision.to_string()
}

/// What is known when the wanted revision has a workload of these pods and its models were read.
/// Requests reach the pods that are ready.
pub(crate) fn with_pods(pods: Vec<Value>) -> Fetched {
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(|pod| Arc::new(from::<Pod>(pod))).collect();
    Fetched {
        endpoint_slices: vec![Arc::new(slice_of(&pods))],
        pods,
        records: vec![Arc::new(record(&valid(), 1))],
        replica_sets: vec![Arc::new(replica_set(&wanted(), 2))],
        service: Some(Arc::new(service("blue"))),
        ..Fetched::default()
    }
}

pub(crate) fn slice_of(pods: &[Arc<Pod>]) -> EndpointSlice {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|pod| {
            let is_ready = lamplighter_operator::reconcile::observe::is_ready(pod);
            json!({
                "addresses": ["10.0.0.1"], "conditions": {"ready": is_ready},
                "targetRef": {"kind": "Pod", "uid": pod.metadata.uid},
            })
        })
        .collect();
    from(json!({"addressType": "IPv4", "metadata": {"name": "slice"}, "endpoints": endpoints}))
}

pub(crate) fn service(environment: &str) -> Service {
    from(json!({
        "metadata": {
            "name": NAME, "namespace": NAMESPACE,
            "ownerReferences": [controller("ModelDeployment", NAME, UID)],
        },
        "spec": {"selector": {
            "lamplighter.dev/deployment": NAME,
            "lamplighter.dev/environment": environment,
            "lamplighter.dev/traffic": "true",
        }},
    }))
}

/// The record of what a spec describes, with what was found out about its models.
pub(crate) fn record(valid: &Valid, sequence: i64) -> ControllerRevision {
    let revision = valid.wanted.revision.as_str();
    let found: Vec<Value> = valid.wanted.models.iter().map(found).collect();
    from(json!({
        "metadata": {
            "name": format!("{NAME}-{revision}"),
            "namespace": NAMESPACE,
            "uid": format!("record-{revision}"),
            "labels": {
                "lamplighter.dev/deployment": NAME, "lamplighter.dev/revision": revision,
            },
            "annotations": {"lamplighter.dev/resolved": json!(found).to_string()},
            "ownerReferences": [controller("ModelDeployment", NAME, UID)],
        },
        "revision": sequence,
        "data": valid.wanted.snapshot.to_record(),
    }))
}

/// What is found out about a model.
pub(crate) fn found(model: &lamplighter_api::Model) -> Value {
    let digest = format!("sha256:{}", "ab".repeat(32));
    json!({
        "model": format!("{}:{}", model.name, model.version), "task": "Embedding",
        "architecture": "BertModel", "layers": 6, "hidden": 384, "vocabulary": 30522,
        "dimensions": 384, "dtype": "F32", "parameters": 22_713_216, "bytes": 91_000_000,
        "memory": 151_670_272,
        "tokenizerDigest": digest, "digest": digest, "pin": digest,
    })
}

/// A status in which the wanted revision is on its way, as the first one.
pub(crate) fn on_its_way() -> ModelDeploymentStatus {
    ModelDeploymentStatus {
        epoch: Some(1),
        rollout: Some(RolloutState {
            phase: "Gating".to_owned(),
            since: ago(40),
            started_time: ago(40),
            from: None,
            to: place(&wanted(), "blue"),
            fallback: None,
            strategy: "Initial".to_owned(),
            because: vec!["nothing served before".to_owned()],
            withdrawn: None,
        }),
        ..ModelDeploymentStatus::default()
    }
}

/// A status in which a revision serves and is known to be good, and nothing is under way.
pub(crate) fn serving(revision: &str) -> ModelDeploymentStatus {
    ModelDeploymentStatus {
        epoch: Some(2),
        active: Some(ActiveRevision {
            revision: revision.to_owned(),
            environment: "blue".to_owned(),
            since: ago(5000),
            worker_outdated: false,
            models: Vec::new(),
            memory: None,
        }),
        known_good: vec![KnownGood { revision: revision.to_owned(), proven_time: ago(4000) }],
        ..ModelDeploymentStatus::default()
    }
}

pub(crate) fn place(revision: &str, environment: &str) -> Place {
    Place { revision: revision.to_owned(), environment: environment.to_owned() }
}

/// The same deployment with this status.
pub(crate) fn having(
    mut deployment: ModelDeployment,
    status: ModelDeploymentStatus,
) -> ModelDeployment {
    deployment.status = Some(status);
    deployment
}

/// The same object in another environment.
pub(crate) fn moved(mut object: Value, environment: &str) -> Value {
    object["metadata"]["labels"]["lamplighter.dev/environment"] = json!(environment);
    object
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
        "lamplighter.dev/traffic": "true",
    })
}

pub(crate) fn controller(kind: &str, name: &str, uid: &str) -> Value {
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
