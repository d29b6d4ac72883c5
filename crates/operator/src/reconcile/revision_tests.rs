use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

use super::*;

/// A spec in which every field of the two parts is set.
const FULL: &str = r#"
replicas: 3
models:
  - name: embedder
    version: "2.1.0"
    task: Embedding
    default: true
    source: {uri: "s3://models/minilm/2.1.0", secretRef: {name: model-store}}
    expectedDigest: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    validation:
      mode: Required
      cases:
        - name: near
          similarity: {texts: ["a cat", "a kitten"], atLeast: "0.6"}
        - name: order
          ranking: {query: "q", passages: ["far", "near"], order: [1, 0]}
worker:
  imagePullPolicy: IfNotPresent
  imagePullSecrets: [{name: registry}]
  device: Cpu
  resources: {limits: {memory: 4Gi}, requests: {cpu: "2"}}
  env: [{name: A, value: "1"}]
  envFrom: [{configMapRef: {name: shared}}]
  nodeSelector: {disk: ssd}
  tolerations: [{key: gpu, operator: Exists}]
  serviceAccountName: worker
  priorityClassName: high
  runtimeClassName: nvidia
"#;

const MINIMAL: &str = r#"
models:
  - {name: m, version: "1", task: Embedding, source: {uri: "image:///m"}}
"#;

fn deployment(spec: &str) -> ModelDeployment {
    ModelDeployment::new("search", serde_saphyr::from_str(spec).unwrap())
}

fn images(cpu: &str, cuda: Option<&str>) -> Images {
    Images { cpu: cpu.to_owned(), cuda: cuda.map(str::to_owned) }
}

fn resolve(spec: &str, records: &[ControllerRevision], default_image: &str) -> Snapshot {
    let deployment = deployment(spec);
    let images = images(default_image, None);
    Snapshot::resolve(&Wishes::of(&deployment), records, &images).unwrap()
}

fn record(snapshot: &Snapshot, sequence: i64) -> ControllerRevision {
    ControllerRevision {
        data: Some(RawExtension(snapshot.to_record())),
        revision: sequence,
        ..ControllerRevision::default()
    }
}

/// If this fails, an upgrade of the operator would rename every revision and so restart every
/// pod of every user. Do not update the numbers: make the new field skip its default.
///
/// Guarantees: strategy-07.
#[test]
fn the_names_of_revisions_never_change() {
    let names =
        [FULL, MINIMAL].map(|spec| resolve(spec, &[], "registry/worker:1").hash().to_string());
    assert_eq!(names, ["49ba16559a", "9c40bec03c"]);
}

/// The contents of a record whose fields stand in another order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Guarantees: strategy-07.
#[test]
fn the_order_of_fields_does_not_matter() {
    let snapshot = resolve(FULL, &[], "registry/worker:1");
    let read = ControllerRevision {
        data: Some(RawExtension(reversed(&snapshot.to_record()))),
        ..ControllerRevision::default()
    };
    let read = Snapshot::from_record(&read).unwrap();
    assert_eq!(read.hash(), snapshot.hash());
    assert_eq!(read, snapshot);
}

/// Guarantees: strategy-08, mind-05.
#[test]
fn replicas_service_and_rollout_are_outside_the_revision() {
    let more = format!("{FULL}\nservice: {{port: 81}}\nrollout: {{progressDeadlineSeconds: 5}}\n");
    let more = more.replace("replicas: 3", "replicas: 7");
    let image = "registry/worker:1";
    assert_eq!(resolve(&more, &[], image).hash(), resolve(FULL, &[], image).hash());
}

/// Guarantees: gates-13, mind-06.
#[test]
fn each_wish_of_the_user_makes_another_revision() {
    let image = "registry/worker:1";
    let base = resolve(FULL, &[], image).hash();
    let drained = format!("{FULL}rollout: {{drainSeconds: 5}}\n");
    assert_ne!(resolve(&drained, &[], image).hash(), base);
    for (from, to) in [
        ("minilm/2.1.0", "minilm/2.1.1"),
        ("Required", "Disabled"),
        ("\"0.6\"", "\"0.7\""),
        ("4Gi", "8Gi"),
        ("{name: A, value: \"1\"}", "{name: A, value: \"2\"}"),
        ("device: Cpu", "image: registry/worker:2"),
        ("device: Cpu", "precision: F32"),
        ("device: Cpu", "apiKeys: {secretKeyRef: {name: callers, key: keys}}"),
    ] {
        let changed = FULL.replace(from, to);
        assert_ne!(changed, FULL, "{from}");
        assert_ne!(resolve(&changed, &[], image).hash(), base, "{from} -> {to}");
    }
}

/// Guarantees: operator-03.
#[test]
fn a_new_default_image_leaves_recorded_revisions_alone() {
    let old = resolve(MINIMAL, &[], "registry/worker:1");
    let records = [record(&old, 1)];
    assert_eq!(resolve(MINIMAL, &records, "registry/worker:2"), old);
    let changed = MINIMAL.replace("image:///m", "image:///n");
    assert_eq!(resolve(&changed, &records, "registry/worker:2").image(), "registry/worker:2");
}

#[test]
fn of_several_records_with_the_same_wishes_the_newest_counts() {
    let records = [
        record(&resolve(MINIMAL, &[], "registry/worker:2"), 5),
        record(&resolve(MINIMAL, &[], "registry/worker:1"), 3),
    ];
    assert_eq!(resolve(MINIMAL, &records, "registry/worker:9").image(), "registry/worker:2");
}

#[test]
fn a_restart_is_another_revision_of_the_same_models() {
    let mut restarted = deployment(MINIMAL);
    restarted.annotations_mut().insert(names::RESTARTED_AT.to_owned(), "now".to_owned());
    let before = resolve(MINIMAL, &[], "registry/worker:1");
    let images = images("registry/worker:1", None);
    let after = Snapshot::resolve(&Wishes::of(&restarted), [], &images).unwrap();
    assert_ne!(after.hash(), before.hash());
    assert_eq!(after.sources(), before.sources());
    let read = Snapshot::from_record(&record(&after, 2)).unwrap();
    assert_eq!(read.hash(), after.hash());
}

#[test]
fn what_a_record_holds_is_read_back_as_it_was_written() {
    let written = deployment(FULL);
    let read = Snapshot::from_record(&record(&resolve(FULL, &[], "w:1"), 1)).unwrap();
    assert_eq!(read.models().unwrap(), written.spec.models);
    assert_eq!(read.worker().unwrap(), written.spec.worker);
    assert_eq!(read.drain_seconds().unwrap(), 30);
}

/// Guarantees: strategy-05.
#[test]
fn only_what_names_the_bytes_decides_where_models_come_from() {
    let base = resolve(FULL, &[], "w:1").sources();
    for (from, to) in [("2.1.0\"", "2.1.1\""), ("minilm/2.1.0", "minilm/2.1.1"), ("9f86", "8f86")] {
        assert_ne!(resolve(&FULL.replacen(from, to, 1), &[], "w:1").sources(), base, "{from}");
    }
    for (from, to) in [("0.6", "0.7"), ("4Gi", "8Gi"), ("Required", "Disabled")] {
        assert_eq!(resolve(&FULL.replacen(from, to, 1), &[], "w:1").sources(), base, "{from}");
    }
}

#[test]
fn an_image_in_the_spec_is_taken_as_it_is() {
    let named = format!("{MINIMAL}worker: {{image: mine:1}}\n");
    assert_eq!(resolve(&named, &[], "registry/worker:1").image(), "mine:1");
}

#[test]
fn the_image_follows_the_device_and_stays_with_a_recorded_revision() {
    let wished = |device: &str, records: &[ControllerRevision], cuda: Option<&str>| {
        let deployment = deployment(&format!("{MINIMAL}worker: {device}\n"));
        Snapshot::resolve(&Wishes::of(&deployment), records, &images("worker:1", cuda))
    };
    let gpu = "{device: Cuda, resources: {limits: {nvidia.com/gpu: 1}}}";
    let implied = "{resources: {limits: {nvidia.com/gpu: 1}}}";
    let slice = "{resources: {limits: {nvidia.com/mig-1g.10gb: 1}}}";
    for (device, expected) in [
        ("{device: Cpu}", "worker:1"),
        ("{}", "worker:1"),
        (gpu, "worker-cuda:1"),
        (implied, "worker-cuda:1"),
        (slice, "worker-cuda:1"),
    ] {
        let snapshot = wished(device, &[], Some("worker-cuda:1")).unwrap();
        assert_eq!(snapshot.image(), expected, "{device}");
    }
    let records = [record(&wished(gpu, &[], Some("worker-cuda:1")).unwrap(), 1)];
    for later in [Some("worker-cuda:2"), None] {
        assert_eq!(wished(gpu, &records, later).unwrap().image(), "worker-cuda:1");
    }
}

#[test]
fn without_an_image_for_gpus_a_revision_needs_one_of_its_own() {
    let wished = |worker: &str| {
        let deployment = deployment(&format!("{MINIMAL}worker: {worker}\n"));
        Snapshot::resolve(&Wishes::of(&deployment), [], &images("worker:1", None))
    };
    let error = wished("{device: Cuda}").unwrap_err();
    assert!(matches!(error, SnapshotError::NoImage), "{error}");
    assert_eq!(wished("{device: Cuda, image: \"mine:1\"}").unwrap().image(), "mine:1");
}

/// Guarantees: operator-09.
#[test]
fn a_record_of_another_form_is_no_record() {
    let odd = ControllerRevision {
        data: Some(RawExtension(json!({"models": []}))),
        ..ControllerRevision::default()
    };
    assert_eq!(Snapshot::from_record(&odd), None);
}
