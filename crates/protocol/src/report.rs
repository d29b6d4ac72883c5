//! What a worker says about itself, whole, at `GET /status` of its admin port.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::manifest::{Device, ModelKey, Task};

/// The state of a worker process and of each of its models.
///
/// The worker may be of a later release than its reader: fields that are not known are ignored,
/// and states, phases and reasons that are not known are read as their type says. The device and the
/// tasks come from the manifest, so that whoever wrote it knows them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod's uid; empty outside Kubernetes. Pod addresses are reused, uids are not.
    pub pod_uid: String,
    /// The pod's name; empty outside Kubernetes.
    pub pod_name: String,
    /// The revision that the manifest names.
    pub revision: String,
    /// The worker's own version.
    pub worker_version: String,
    /// Where the models run.
    pub device: Device,
    /// The process as a whole.
    pub state: WorkerState,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Requests whose head was read and whose answer was not written to its end yet.
    pub in_flight: u64,
    /// Every model of the manifest, in its order, then those that were loaded later, with the last
    /// ones that failed.
    pub models: Vec<ModelReport>,
    /// Seconds since every validation case of every model passed, at the start or in a later
    /// round. None before that, where there is no case, and from a worker that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validated_seconds_ago: Option<f64>,
    /// What came of asking the cases again; none before the worker was ready, and from a worker
    /// that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revalidation: Option<Revalidation>,
    /// What the process has in memory; none from a worker that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryReport>,
    /// How many connections of the serving listener are open that were accepted before the last
    /// shed, down to 0. None if there was no shed since the process started, and from a worker
    /// that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_before_shed: Option<u64>,
}

/// What a worker has in the host's memory, in bytes. Files that are mapped or cached can be given
/// back at any time and do not count.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryReport {
    /// What it may have: the container's limit, or what the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What it has now.
    pub used_bytes: u64,
    /// The most that it had at a time.
    pub peak_bytes: u64,
    /// The most that it had until all models were loaded, warmed up and validated: what a start
    /// takes. None before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_bytes: Option<u64>,
}

/// What came of asking the validation cases again while requests are served. A wrong answer is
/// asked for again at once; the worker ends if it is wrong a second time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revalidation {
    /// How many rounds have ended. A round asks every case of every model.
    pub rounds: u64,
    /// How many answers were wrong.
    pub wrong: u64,
    /// How many questions got no answer: the model failed or took too long. That says nothing
    /// about whether it is right.
    pub inconclusive: u64,
}

/// The process as a whole.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum WorkerState {
    /// Models are on their way.
    Starting,
    /// Every model passed its gates.
    Ready,
    /// Told to stop: not ready, but finishing and still accepting while endpoints update.
    Draining,
    /// A model failed; the process is about to end.
    Failed,
    /// A state of a later release. Never given, only read.
    #[serde(other)]
    Unknown,
}

/// One model's way to readiness.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelReport {
    /// `name:version`.
    pub key: ModelKey,
    /// What it is for.
    pub task: Task,
    /// Where it stands.
    pub state: ModelState,
    /// The phases that have ended, in order, and the running one.
    pub phases: Vec<PhaseTiming>,
    /// What the artifact turned out to be; none until it has been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ModelFacts>,
    /// What it computes with; none until it is on its device, and from a worker that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeReport>,
    /// The warm-up's figures; none until it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmupReport>,
    /// The validation's cases; none until it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationReport>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether several requests got outputs that are not finite, and its cases were not all answered
    /// right since. Not said if it is not so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,
}

/// Where a model stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ModelState {
    /// Not begun.
    Pending,
    /// In one of the phases of loading; the last of `phases` says which.
    Loading,
    /// Running the warm-up.
    WarmingUp,
    /// Running the validation cases.
    Validating,
    /// Passed every gate.
    Ready,
    /// Gave up.
    Failed,
    /// A state of a later release. Never given, only read: neither ready nor failed, so on its
    /// way.
    #[serde(other)]
    Unknown,
}

/// A step of a model's start, timed on its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Phase {
    /// Bringing the files from the store to this pod.
    Fetch,
    /// Checking digest, headers and formats.
    Verify,
    /// Reading weights from storage into memory.
    Read,
    /// Building tensors and the tokenizer.
    Build,
    /// Moving tensors to the device.
    Transfer,
    /// First runs, until latencies settle.
    WarmUp,
    /// Asking the validation cases.
    Validate,
    /// A phase of a later release. Never given, only read.
    #[serde(other)]
    Unknown,
}

impl Phase {
    /// Every phase of this release, in the order in which a model passes them.
    pub const ALL: [Self; 7] = [
        Self::Fetch,
        Self::Verify,
        Self::Read,
        Self::Build,
        Self::Transfer,
        Self::WarmUp,
        Self::Validate,
    ];

    /// The name as it stands in reports, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "Fetch",
            Self::Verify => "Verify",
            Self::Read => "Read",
            Self::Build => "Build",
            Self::Transfer => "Transfer",
            Self::WarmUp => "WarmUp",
            Self::Validate => "Validate",
            Self::Unknown => "Unknown",
        }
    }
}

/// How long a phase took and how many bytes it handled.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTiming {
    /// Which phase.
    pub phase: Phase,
    /// Seconds so far, or in all when `done`.
    pub seconds: f64,
    /// Bytes handled so far: in the phase Fetch those that came from the store, in Verify those
    /// that were summed, in Read, Build and Transfer those of the weights as they are stored.
    /// Left out while there are none; warming up and validating never have any.
    #[serde(default, skip_serializing_if = "is_none")]
    pub bytes: u64,
    /// Bytes a second so far, or in all when `done`; left out where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Whether it has ended.
    pub done: bool,
}

/// What an artifact turned out to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFacts {
    /// `sha256:` and 64 hexadecimal digits over the sorted list of (path, size, sha256).
    pub digest: String,
    /// The architecture as `config.json` names it, for example `BertModel`.
    pub architecture: String,
    /// Length of an output vector.
    pub dimensions: u64,
    /// Longest input in tokens; longer texts are refused.
    pub max_tokens: u64,
    /// Number of weights: the elements of all floating-point tensors in the weight files, also of
    /// those that no output depends on, such as BERT's pooler in an embedding model.
    pub parameters: u64,
    /// Size of all files of the artifact, in bytes.
    pub bytes: u64,
}

/// What a model computes with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeReport {
    /// The code by name, for example `avx2-f32`. A worker of another release may have others.
    pub kernel: String,
    /// The number format that weights are multiplied in, for example `f32`.
    pub precision: String,
    /// How near a kernel of lower precision came; none where none was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<ComparedReport>,
    /// The kernel of lower precision that was not tried, because memory was short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaffordable: Option<UnaffordableReport>,
}

/// A kernel of lower precision that there was no memory to compare with one of 32-bit floats.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnaffordableReport {
    /// Its name, for example `amx-bf16`.
    pub kernel: String,
    /// How much more memory comparing takes for a while, in bytes.
    pub bytes: u64,
}

/// What came of comparing a kernel of lower precision with one of 32-bit floats, on the same weights.
/// The model computes with it if it was near enough and no validation case got a wrong answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparedReport {
    /// Its name, for example `amx-bf16`.
    pub kernel: String,
    /// The smallest cosine of all texts of the comparison, as a decimal string.
    pub cosine: String,
    /// The smallest one that would do.
    pub at_least: String,
    /// It was near enough, and an answer to a validation case was wrong none the less.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_wrong: bool,
}

/// What the warm-up measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmupReport {
    /// How many runs in all.
    pub runs: u64,
    /// Milliseconds of the very first run.
    pub first_millis: f64,
    /// Median milliseconds of the last five runs of the smallest shape.
    pub steady_millis: f64,
    /// Whether those five lay within 20 % of their median before the warm-up's time was over; if
    /// not, the machine was busy and `steady_millis` says little. None from a worker that does
    /// not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_none(bytes: &u64) -> bool {
    *bytes == 0
}

/// What the validation found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationReport {
    /// Whether the user switched validation off.
    pub disabled: bool,
    /// The cases that ran, in order.
    pub cases: Vec<CaseResult>,
}

/// One case's outcome.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// Whether the answer was as expected.
    pub passed: bool,
    /// What was expected, in words.
    pub expected: String,
    /// What was found, in words.
    pub found: String,
}
