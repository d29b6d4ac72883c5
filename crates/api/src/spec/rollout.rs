//! How a change reaches the pods.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a change reaches the pods and how long it may take. Apart from `drainSeconds` nothing of
/// this makes a new revision: a change applies to the next step of whatever is under way.
#[derive(KubeSchema, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.strategy == 'Rolling' && self.compatibility == 'NoMix')")
        .message("rollout: strategy Rolling lets two versions answer at the same time, and compatibility NoMix forbids it; use strategy Auto or BlueGreen")
)]
pub struct RolloutSpec {
    /// How pods get from one revision to the next. `Auto` looks at the models: `Rolling` where both
    /// versions may answer at the same time, else `BlueGreen`.
    #[serde(default)]
    pub strategy: Strategy,

    /// How many of the wanted pods may be missing while pods are replaced one at a time.
    #[serde(default = "default_max_unavailable")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_unavailable: i32,

    /// How many pods there may be beyond the wanted ones while pods are replaced one at a time.
    /// Where no pod can be missed, one more than wanted is made whatever this says.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_surge: i32,

    /// Whether two versions may answer at the same time. `Auto` decides by what the artifacts say
    /// about themselves.
    #[serde(default)]
    pub compatibility: Compatibility,

    /// Who moves the Service to a candidate that passed every gate. `Manual` waits for the
    /// annotation `lamplighter.dev/promote` with the candidate's revision.
    #[serde(default)]
    pub promotion: Promotion,

    /// How many seconds a candidate waits to be promoted before it is given up.
    #[serde(default = "default_promotion_deadline_seconds")]
    #[schemars(range(min = 10, max = 2_592_000))]
    pub promotion_deadline_seconds: i32,

    /// For how many seconds a new revision has to serve well until it counts as known good. Until
    /// then what it replaced is kept where it can be, and a failure returns to it.
    #[serde(default = "default_rollback_window_seconds")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub rollback_window_seconds: i32,

    /// Whether a revision that fails after it began to serve is left for the last known good one
    /// without anybody asking for it.
    #[serde(default = "default_auto_rollback")]
    pub auto_rollback: bool,

    /// How many seconds a rollout may go without a step forward before it is given up.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 10, max = 86400))]
    pub progress_deadline_seconds: i32,

    /// How many seconds a candidate's pod may wait for a node before `onInsufficientCapacity`
    /// decides.
    #[serde(default = "default_scheduling_deadline_seconds")]
    #[schemars(range(min = 5, max = 86400))]
    pub scheduling_deadline_seconds: i32,

    /// What happens when a second environment finds no place. `Fallback` replaces pods one at a
    /// time where both versions may answer and else waits; `Wait` frees what the candidate holds
    /// and tries again; `Reject` gives it up.
    #[serde(default)]
    pub on_insufficient_capacity: OnInsufficientCapacity,

    /// How a failure that may pass, such as a store that cannot be reached, is tried again.
    #[serde(default)]
    pub retry: RetrySpec,

    /// How many seconds an address has to be out of the endpoints until no node routes to it any
    /// more.
    #[serde(default = "default_propagation_delay_seconds")]
    #[schemars(range(min = 0, max = 600))]
    pub propagation_delay_seconds: i32,

    /// How many seconds a pod that was told to stop may take to finish the requests in flight.
    /// It decides how a pod behaves, so a change makes a new revision.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 0, max = 600))]
    pub drain_seconds: i32,
}

/// How pods get from one revision to the next.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Strategy {
    /// By what changed.
    #[default]
    Auto,
    /// Pods are replaced one at a time.
    Rolling,
    /// A second environment is made, and the Service moved to it.
    BlueGreen,
}

/// Whether two versions may answer at the same time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Compatibility {
    /// As far as the artifacts say so.
    #[default]
    Auto,
    /// They may: the user vouches for it.
    Interchangeable,
    /// They may not.
    NoMix,
}

/// Who moves the Service to a candidate.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Promotion {
    /// The operator, once every pod passed its gates.
    #[default]
    Automatic,
    /// A person.
    Manual,
}

/// What happens when a second environment finds no place.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnInsufficientCapacity {
    /// Pods are replaced one at a time where both versions may answer, else it waits.
    #[default]
    Fallback,
    /// It frees what it holds and asks again after a while.
    Wait,
    /// It is given up.
    Reject,
}

/// How a failure that may pass is tried again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrySpec {
    /// How many attempts a revision gets in all.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub attempts: i32,

    /// How many seconds to wait after the first failure; twice as long after each further one.
    #[serde(default = "default_backoff_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub backoff_seconds: i32,

    /// The longest wait, in seconds.
    #[serde(default = "default_max_backoff_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub max_backoff_seconds: i32,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            max_unavailable: default_max_unavailable(),
            max_surge: 0,
            compatibility: Compatibility::default(),
            promotion: Promotion::default(),
            promotion_deadline_seconds: default_promotion_deadline_seconds(),
            rollback_window_seconds: default_rollback_window_seconds(),
            auto_rollback: default_auto_rollback(),
            progress_deadline_seconds: default_progress_deadline_seconds(),
            scheduling_deadline_seconds: default_scheduling_deadline_seconds(),
            on_insufficient_capacity: OnInsufficientCapacity::default(),
            retry: RetrySpec::default(),
            propagation_delay_seconds: default_propagation_delay_seconds(),
            drain_seconds: default_drain_seconds(),
        }
    }
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            attempts: default_attempts(),
            backoff_seconds: default_backoff_seconds(),
            max_backoff_seconds: default_max_backoff_seconds(),
        }
    }
}

fn default_max_unavailable() -> i32 {
    1
}

fn default_promotion_deadline_seconds() -> i32 {
    86400
}

fn default_rollback_window_seconds() -> i32 {
    600
}

fn default_auto_rollback() -> bool {
    true
}

fn default_progress_deadline_seconds() -> i32 {
    600
}

fn default_scheduling_deadline_seconds() -> i32 {
    120
}

fn default_attempts() -> i32 {
    3
}

fn default_backoff_seconds() -> i32 {
    30
}

fn default_max_backoff_seconds() -> i32 {
    600
}

fn default_propagation_delay_seconds() -> i32 {
    5
}

fn default_drain_seconds() -> i32 {
    30
}
