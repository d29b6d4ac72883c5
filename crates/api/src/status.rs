//! What the operator reports: `status` of a `ModelDeployment`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is, as the operator last saw it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// Pods of the active environment, ready or not.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Pods of the active environment that passed every gate and serve.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,

    /// Label selector of the pods of the active environment, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,

    /// The revision that serves; absent until one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveRevision>,

    /// A revision that has not passed its gates yet; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,

    /// `Ready`, `Available`, `Progressing`, `WarmedUp` and `Validated`; `Reconciling`, `Stalled`
    /// and `Degraded` only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The revision that serves.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRevision {
    /// Its hash.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// The environment that the Service selects.
    #[schemars(length(max = 63))]
    pub environment: String,

    /// When it began to serve.
    pub since: Time,

    /// The models that it serves, as the pods report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub models: Vec<ServedModel>,
}

/// A model as the pods report it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// The name that requests use.
    #[schemars(length(max = 63))]
    pub name: String,

    /// The version.
    #[schemars(length(max = 64))]
    pub version: String,

    /// The digest of the artifact that was loaded.
    #[schemars(length(max = 71))]
    pub digest: String,

    /// The architecture as the artifact names it, for example `BertModel`.
    #[schemars(length(max = 256))]
    pub architecture: String,

    /// The number of weights.
    #[schemars(range(min = 0))]
    pub parameters: i64,

    /// The size of all files of the artifact.
    #[schemars(range(min = 0))]
    pub bytes: i64,
}

/// A revision that has not passed its gates yet.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its hash.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// What it waits for, or why it does not get ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,

    /// When it was created.
    pub started_time: Time,

    /// Its pods by state.
    pub pods: PodCounts,
}

/// How many pods of a revision are in which state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCounts {
    /// Scheduled or starting, with a gate still to pass.
    #[schemars(range(min = 0))]
    pub loading: i32,

    /// Passed every gate.
    #[schemars(range(min = 0))]
    pub ready: i32,

    /// Gave up for a reason of their own.
    #[schemars(range(min = 0))]
    pub failed: i32,
}
