//! What a revision is, and its name.
//!
//! A revision is what decides how a pod behaves, as far as users own it (`spec.models`,
//! `spec.worker` and `spec.rollout.drainSeconds`), and the worker image. Replicas, the Service, the
//! rest of the rollout policy and everything that the operator adds to a pod by itself are outside:
//! changing them, or the operator, restarts no pod.
//!
//! The default image, one for each device, belongs to the operator, so it is looked up once, when a
//! revision is created, and recorded in it. As long as a record with the same wishes exists, its image stays.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use lamplighter_api::{Model, ModelDeployment, WorkerSpec, names};
use lamplighter_plan::RevisionId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::images::Images;

/// Part of every hash. Another prefix would rename every revision and restart every pod.
const DOMAIN: &str = "lamplighter.dev/revision/v1\n";

/// What a user wishes for, as far as it makes a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Wishes<'a> {
    /// What to serve.
    pub models: &'a [Model],
    /// By which pods.
    pub worker: &'a WorkerSpec,
    /// How long a pod may take to finish its requests, in seconds.
    pub drain_seconds: u32,
    /// What tells this restart of every pod from the one before; none before the first.
    pub restarted_at: Option<&'a str>,
}

/// What a revision consists of; the contents of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    models: Value,
    worker: Value,
    drain_seconds: Value,
    restarted_at: Option<String>,
    image: String,
}

/// Why a snapshot and what it is made from do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The spec cannot be written.
    #[error("the spec cannot be written as JSON: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// A record is of another release, or was changed by somebody else.
    #[error("{field} of the record of revision {revision} cannot be read: {source}")]
    Unreadable {
        /// The revision.
        revision: RevisionId,
        /// The part.
        field: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Nobody says which image runs models on a GPU.
    #[error(
        "spec.worker: the models are to run on a GPU, and the operator was installed without an image for that; set worker.cuda.image of its chart (--worker-cuda-image), or name one in spec.worker.image, or set spec.worker.device: Cpu"
    )]
    NoImage,
}

impl<'a> Wishes<'a> {
    /// What the spec and the annotations wish for.
    pub fn of(deployment: &'a ModelDeployment) -> Self {
        let spec = &deployment.spec;
        Self {
            models: &spec.models,
            worker: &spec.worker,
            drain_seconds: u32::try_from(spec.rollout.drain_seconds).unwrap_or_default(),
            restarted_at: deployment.annotations().get(names::RESTARTED_AT).map(String::as_str),
        }
    }
}

impl Snapshot {
    /// The revision that is wished for, given the records of those before it.
    pub fn resolve<'a>(
        wishes: &Wishes<'_>,
        records: impl IntoIterator<Item = &'a ControllerRevision>,
        images: &Images,
    ) -> Result<Self, SnapshotError> {
        let asked = Self {
            models: serde_json::to_value(wishes.models)?,
            worker: serde_json::to_value(wishes.worker)?,
            drain_seconds: Value::from(wishes.drain_seconds),
            restarted_at: wishes.restarted_at.map(str::to_owned),
            image: String::new(),
        };
        let recorded = records
            .into_iter()
            .filter_map(|record| Some((record.revision, Self::from_record(record)?)))
            .filter(|(_, found)| *found == Self { image: found.image.clone(), ..asked.clone() })
            .max_by_key(|(sequence, _)| *sequence)
            .map(|(_, found)| found.image);
        let named = wishes.worker.image.clone();
        let default = || images.of(wishes.worker.effective_device()).map(str::to_owned);
        let image = named.or(recorded).or_else(default).ok_or(SnapshotError::NoImage)?;
        Ok(Self { image, ..asked })
    }

    /// Reads a record. None when it is not one of ours, or of a release that wrote another form.
    pub fn from_record(record: &ControllerRevision) -> Option<Self> {
        let data = record.data.as_ref()?.0.as_object()?;
        Some(Self {
            models: data.get("models")?.clone(),
            worker: data.get("worker")?.clone(),
            drain_seconds: data.get("drainSeconds")?.clone(),
            restarted_at: data.get("restartedAt").and_then(Value::as_str).map(str::to_owned),
            image: data.get("image")?.as_str()?.to_owned(),
        })
    }

    /// The claim that the revision of a record keeps its downloads on.
    pub fn cache_claim(record: &ControllerRevision) -> Option<&str> {
        let claim = "/worker/cache/persistentVolumeClaim/claimName";
        record.data.as_ref()?.0.pointer(claim)?.as_str()
    }

    /// What stands in the record.
    pub fn to_record(&self) -> Value {
        let mut record = json!({
            "drainSeconds": self.drain_seconds,
            "image": self.image,
            "models": self.models,
            "worker": self.worker,
        });
        // Left out where there is none: it came later, and names must not change.
        if let Some(restarted_at) = &self.restarted_at {
            record["restartedAt"] = json!(restarted_at);
        }
        record
    }

    /// The worker image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The models, as the user wrote them.
    pub fn models(&self) -> Result<Vec<Model>, SnapshotError> {
        self.read("models", &self.models)
    }

    /// The settings of the pods, as the user wrote them.
    pub fn worker(&self) -> Result<WorkerSpec, SnapshotError> {
        self.read("worker", &self.worker)
    }

    /// How long a pod may take to finish its requests, in seconds.
    pub fn drain_seconds(&self) -> Result<u32, SnapshotError> {
        self.read("drainSeconds", &self.drain_seconds)
    }

    fn read<T: DeserializeOwned>(
        &self,
        field: &'static str,
        value: &Value,
    ) -> Result<T, SnapshotError> {
        T::deserialize(value).map_err(|source| SnapshotError::Unreadable {
            revision: self.hash(),
            field,
            source,
        })
    }

    /// Where the models come from. Two revisions for which this is equal read the same artifacts,
    /// so what was found out for one holds for the other.
    pub fn sources(&self) -> String {
        const DECIDING: [&str; 5] = ["expectedDigest", "name", "source", "task", "version"];
        let models = self.models.as_array().map(Vec::as_slice).unwrap_or_default();
        let models: Vec<Value> = models
            .iter()
            .map(|model| DECIDING.iter().map(|key| model.get(*key).cloned()).collect())
            .collect();
        canonical(&Value::Array(models))
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
#[path = "revision_tests.rs"]
mod tests;
