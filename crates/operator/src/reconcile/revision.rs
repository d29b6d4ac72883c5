//! What a revision is, and its name.
//!
//! A revision is what decides how a pod behaves, as far as users own it (`spec.models`,
//! `spec.worker` and `spec.rollout.drainSeconds`), and the worker image. Replicas, the Service, the
//! rest of the rollout policy and everything that the operator adds to a pod by itself are outside:
//! changing them, or the operator, restarts no pod.
//!
//! The default image belongs to the operator, so it is looked up once, when a revision is created,
//! and recorded in it. As long as a record with the same wishes exists, its image stays.

use k8s_openapi::api::apps::v1::ControllerRevision;
use lamplighter_api::{Model, WorkerSpec, names};
use lamplighter_plan::RevisionId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Part of every hash. Another prefix would rename every revision and restart every pod.
const DOMAIN: &str = "lamplighter.dev/revision/v1\n";

/// What a revision consists of; the contents of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    models: Value,
    worker: Value,
    drain_seconds: Value,
    image: String,
}

/// Why a spec has no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("the spec cannot be written as JSON: {0}")]
pub struct SnapshotError(#[from] serde_json::Error);

impl Snapshot {
    /// The revision that the spec describes, given the records of those before it.
    pub fn resolve<'a>(
        models: &[Model],
        worker: &WorkerSpec,
        drain_seconds: u32,
        records: impl IntoIterator<Item = &'a ControllerRevision>,
        default_image: &str,
    ) -> Result<Self, SnapshotError> {
        let models = serde_json::to_value(models)?;
        let wished = serde_json::to_value(worker)?;
        let drain_seconds = Value::from(drain_seconds);
        let recorded = records
            .into_iter()
            .filter_map(|record| Some((record.revision, Self::from_record(record)?)))
            .filter(|(_, found)| {
                (&found.models, &found.worker, &found.drain_seconds)
                    == (&models, &wished, &drain_seconds)
            })
            .max_by_key(|(sequence, _)| *sequence)
            .map(|(_, found)| found.image);
        let image = worker.image.clone().or(recorded).unwrap_or_else(|| default_image.to_owned());
        Ok(Self { models, worker: wished, drain_seconds, image })
    }

    /// Reads a record. None when it is not one of ours, or of a release that wrote another form.
    pub fn from_record(record: &ControllerRevision) -> Option<Self> {
        let data = record.data.as_ref()?.0.as_object()?;
        Some(Self {
            models: data.get("models")?.clone(),
            worker: data.get("worker")?.clone(),
            drain_seconds: data.get("drainSeconds")?.clone(),
            image: data.get("image")?.as_str()?.to_owned(),
        })
    }

    /// What stands in the record.
    pub fn to_record(&self) -> Value {
        json!({
            "drainSeconds": self.drain_seconds,
            "image": self.image,
            "models": self.models,
            "worker": self.worker,
        })
    }

    /// The worker image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The models, as the user wrote them; empty when a record of another release has others.
    pub fn models(&self) -> Vec<Model> {
        serde_json::from_value(self.models.clone()).unwrap_or_default()
    }

    /// The revision's name.
    pub fn hash(&self) -> RevisionId {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update(canonical(&self.to_record()));
        let hex: String = hasher
            .finalize()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 0xf])
            .filter_map(|digit| char::from_digit(u32::from(digit), 16))
            .take(names::REVISION_LENGTH)
            .collect();
        RevisionId::new(hex)
    }
}

/// JSON without spaces and with sorted keys: equal values are equal bytes.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::String(key.clone()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
    use lamplighter_api::ModelDeploymentSpec;

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

    fn resolve(spec: &str, records: &[ControllerRevision], default_image: &str) -> Snapshot {
        let spec: ModelDeploymentSpec = serde_saphyr::from_str(spec).unwrap();
        let drain_seconds = u32::try_from(spec.rollout.drain_seconds).unwrap();
        Snapshot::resolve(&spec.models, &spec.worker, drain_seconds, records, default_image)
            .unwrap()
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

    #[test]
    fn replicas_service_and_rollout_are_outside_the_revision() {
        let more =
            format!("{FULL}\nservice: {{port: 81}}\nrollout: {{progressDeadlineSeconds: 5}}\n");
        let more = more.replace("replicas: 3", "replicas: 7");
        let image = "registry/worker:1";
        assert_eq!(resolve(&more, &[], image).hash(), resolve(FULL, &[], image).hash());
    }

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
        ] {
            let changed = FULL.replace(from, to);
            assert_ne!(changed, FULL, "{from}");
            assert_ne!(resolve(&changed, &[], image).hash(), base, "{from} -> {to}");
        }
    }

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
    fn an_image_in_the_spec_is_taken_as_it_is() {
        let named = format!("{MINIMAL}worker: {{image: mine:1}}\n");
        assert_eq!(resolve(&named, &[], "registry/worker:1").image(), "mine:1");
    }

    #[test]
    fn a_record_of_another_form_is_no_record() {
        let odd = ControllerRevision {
            data: Some(RawExtension(json!({"models": []}))),
            ..ControllerRevision::default()
        };
        assert_eq!(Snapshot::from_record(&odd), None);
    }
}
