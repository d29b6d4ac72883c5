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

    /// The revision that is on its way, or that is wanted and cannot be; absent when there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,

    /// Revisions that served well for the whole rollback window, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub known_good: Vec<KnownGood>,

    /// Until when a failure returns to what was there before; absent when nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_until: Option<Time>,

    /// Revisions that failed, and what that means for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub failed_revisions: Vec<FailedRevision>,

    /// Rollouts that are over, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<PastRollout>,

    /// Commands that were heard: the last one of each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub acknowledged: Vec<Acknowledged>,

    /// A revision that a person asked to return to, until the spec changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,

    /// Grows with every decision that is remembered here. Objects carry the epoch that they were
    /// written under, so that a decision on an older view is recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub epoch: Option<i64>,

    /// What is under way, for the operator's next decision; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutState>,

    /// `Ready`, `Available`, `Progressing`, `WarmedUp`, `Validated` and `RollbackAvailable`;
    /// `Reconciling`, `Stalled`, `Degraded` and `Paused` only while they are true.
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

    /// Its worker image is not the operator's present default, which applies at the next change of
    /// the spec.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worker_outdated: bool,

    /// The models that it serves, as they were read or as the pods report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub models: Vec<ServedModel>,

    /// The most memory that one of its pods took until it was ready, of those that were asked when it
    /// began to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
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

/// The revision that is on its way, or that is wanted and cannot be.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its hash.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// Where its pods are; absent before they are placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub environment: Option<String>,

    /// How pods get to it: `Initial`, `Rolling` or `BlueGreen`; absent before that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub strategy: Option<String>,

    /// Where it stands: `Resolving`, `Waiting`, `Blocked`, or a phase of `rollout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub step: Option<String>,

    /// Why it is brought up in this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub because: Option<String>,

    /// What it waits for, or why it does not get ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,

    /// When its rollout began.
    pub started_time: Time,

    /// When its step is given up unless it gets on; absent where only a person ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_time: Option<Time>,

    /// The Service at which it can be tried before it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub preview_service: Option<String>,

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

/// A revision that served well for the whole rollback window.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownGood {
    /// Its hash.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// Since when that is known.
    pub proven_time: Time,
}

/// A revision that failed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRevision {
    /// Its hash.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// What the failure says about the next attempt: `Deterministic`, `Transient`, `Outside`,
    /// `Capacity` or `Withdrawn`.
    #[schemars(length(max = 63))]
    pub class: String,

    /// Why, in one word.
    #[schemars(length(max = 128))]
    pub reason: String,

    /// Why, in a sentence that names the way out.
    #[schemars(length(max = 1024))]
    pub message: String,

    /// How many attempts failed.
    #[schemars(range(min = 0))]
    pub attempts: i64,

    /// When the last one did, or when a person asked for another.
    pub time: Time,

    /// When it is tried again; absent where only a change or a person brings that about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<Time>,

    /// A person asked for another attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// A rollout that is over.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PastRollout {
    /// What served before; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub from: Option<String>,

    /// What was rolled out.
    #[schemars(length(max = 63))]
    pub to: String,

    /// How it was rolled out: `Initial`, `Rolling` or `BlueGreen`.
    #[schemars(length(max = 63))]
    pub strategy: String,

    /// How it ended: `Promoted`, `FastPromoted`, `Aborted`, `Superseded`, `RolledBack`,
    /// `RolledBackAuto` or `Blocked`.
    #[schemars(length(max = 63))]
    pub outcome: String,

    /// When it began.
    pub started_time: Time,

    /// When it ended.
    pub finished_time: Time,
}

/// A command that was heard.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// `promote`, `abort`, `retry` or `rollback-to`.
    #[schemars(length(max = 63))]
    pub command: String,

    /// The annotation's value.
    #[schemars(length(max = 256))]
    pub token: String,
}

/// A revision that a person asked to return to.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// The revision.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// What the spec described then. When it describes something else, this is over.
    #[schemars(length(max = 63))]
    pub instead_of: String,
}

/// What is under way.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutState {
    /// `Gating`, `AwaitingPromotion`, `CuttingOver`, `Shedding`, `Baking`, `Reverting`,
    /// `Clearing`, `RollingForward` or `RollingBack`.
    #[schemars(length(max = 63))]
    pub phase: String,

    /// Since when.
    pub since: Time,

    /// When the rollout began.
    pub started_time: Time,

    /// What served when it began; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,

    /// The candidate.
    pub to: Place,

    /// Where to return when the candidate fails after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Place>,

    /// `Initial`, `Rolling` or `BlueGreen`.
    #[schemars(length(max = 63))]
    pub strategy: String,

    /// Why this way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub because: Vec<String>,

    /// The pod that leaves next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
}

/// A revision in an environment.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The revision.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// `blue`, `green` or `amber`.
    #[schemars(length(max = 63))]
    pub environment: String,
}

/// A pod that gets no new requests because it leaves next.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawn {
    /// The pod.
    #[schemars(length(max = 253))]
    pub pod: String,

    /// Its revision.
    #[schemars(length(max = 63))]
    pub revision: String,

    /// How many pods its workload asks for once it is gone.
    #[schemars(range(min = 0))]
    pub leaves: i64,

    /// Since when its address is out of the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_time: Option<Time>,
}
