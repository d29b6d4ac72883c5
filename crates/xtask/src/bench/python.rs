//! The same files loaded by Python.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::median;
use crate::exec::Exec;
use crate::python;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "crates/xtask/src/bench/requirements.txt";
const SCRIPT: &str = "crates/xtask/src/bench/load.py";

/// Seconds, and bytes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Loaded {
    /// Of the packages.
    pub(crate) imports: f64,
    /// Of safetensors, alone.
    pub(crate) weights: f64,
    /// Of tokenizers, alone.
    pub(crate) tokenizer: f64,
    /// From the files to the first answer of sentence-transformers, without imports.
    pub(crate) ready: f64,
    /// The same with imports, as a process that has just started sees it.
    pub(crate) process: f64,
    /// The most that was in memory.
    pub(crate) peak_bytes: f64,
}

/// The environment, which takes minutes when it is made first.
pub(crate) fn environment(workspace: &Workspace) -> Result<PathBuf> {
    python::environment(workspace, "bench", REQUIREMENTS)
}

/// Loads the models of these folders, several times; medians.
pub(crate) fn load(
    workspace: &Workspace,
    python: &PathBuf,
    folders: &[PathBuf],
    runs: u32,
) -> Result<Loaded> {
    let mut loads: Vec<Loaded> = Vec::new();
    for _ in 0..runs {
        let output = Exec::new("python load", python)
            .args([workspace.path(SCRIPT)])
            .args(folders)
            .env("TOKENIZERS_PARALLELISM", "true")
            .env("HF_HUB_OFFLINE", "1")
            .deadline(Duration::from_mins(5))
            .run(&workspace.logs())?;
        let line = output.text.lines().rev().find(|line| line.starts_with('{'));
        let line = line.with_context(|| format!("no figures in {}", output.log.display()))?;
        loads.push(serde_json::from_str(line).context("figures of another form")?);
    }
    let of = |field: fn(&Loaded) -> f64| median(loads.iter().map(field));
    Ok(Loaded {
        imports: of(|load| load.imports),
        weights: of(|load| load.weights),
        tokenizer: of(|load| load.tokenizer),
        ready: of(|load| load.ready),
        process: of(|load| load.process),
        peak_bytes: of(|load| load.peak_bytes),
    })
}
