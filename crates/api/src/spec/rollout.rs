//! How a change reaches the pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a change reaches the pods and how long it may take.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// How many seconds pods may take to pass every gate before the condition `Stalled` names
    /// what holds them up.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 10, max = 86400))]
    pub progress_deadline_seconds: i32,

    /// How many seconds a pod that was told to stop may take to finish the requests in flight.
    /// It decides how a pod behaves, so a change makes a new revision.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 0, max = 600))]
    pub drain_seconds: i32,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            progress_deadline_seconds: default_progress_deadline_seconds(),
            drain_seconds: default_drain_seconds(),
        }
    }
}

fn default_progress_deadline_seconds() -> i32 {
    600
}

fn default_drain_seconds() -> i32 {
    30
}
