//! A row of the table of rollouts.

use std::io::Write as _;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Where rows are appended, as JSON, one a line.
const ENV_ROWS: &str = "LAMPLIGHTER_ROLLOUT_ROWS";

/// What one trial came to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub scenario: String,
    /// Seconds from `kubectl apply` until the new version served in full.
    pub to_serving: Option<f64>,
    /// Seconds from the first sign of the failure until what was there before served alone.
    pub to_safety: Option<f64>,
    /// Seconds of pods beyond the wanted number, summed.
    pub extra_pod_seconds: f64,
    /// Requests made.
    pub requests: usize,
    /// Requests in a second.
    pub rate: f64,
    /// Failures by routing.
    pub by_routing: usize,
    /// Requests lost to crashes that were injected.
    pub to_crashes: usize,
    /// Wrong answers from pods that were poisoned.
    pub by_poison: usize,
}

impl Row {
    /// Appends it to the file that the environment names, if it names one.
    pub fn write(&self) -> anyhow::Result<()> {
        let Some(path) = std::env::var_os(ENV_ROWS) else { return Ok(()) };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let line = serde_json::to_string(self)?;
        writeln!(file, "{line}").with_context(|| format!("{} cannot be written", path.display()))
    }
}
