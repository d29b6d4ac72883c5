//! infinity, a server of embeddings in Python (<https://github.com/michaelfeil/infinity>).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::generator::Server;
use crate::bench::process::{Running, free_address};
use crate::bench::worker::MODEL;
use crate::python;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "crates/xtask/src/bench/serve/requirements.txt";
/// Imports, loading and its own warm-up, on one core.
const START: Duration = Duration::from_mins(5);

/// Ended when dropped.
pub(super) struct Infinity {
    address: String,
    pub(super) process: Running,
}

/// The program, in an environment of its own: it wants older packages than the other benches compare
/// with.
pub(super) fn environment(workspace: &Workspace) -> Result<PathBuf> {
    let python = python::environment(workspace, "infinity", REQUIREMENTS)?;
    Ok(python.parent().context("Python has no folder")?.join("infinity_emb"))
}

impl Infinity {
    /// Starts it on one core with one thread, and waits until it is ready.
    pub(super) fn start(program: &Path, core: &str, artifact: &Path, logs: &Path) -> Result<Self> {
        let address = free_address()?;
        let port = address.port().to_string();
        let (program, artifact) = (program.display().to_string(), artifact.display().to_string());
        let line = [
            "--cpu-list",
            core,
            &program,
            "v2",
            "--model-id",
            &artifact,
            "--served-model-name",
            MODEL,
            "--engine",
            "torch",
            "--device",
            "cpu",
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--log-level",
            "warning",
        ];
        let envs = [
            ("OMP_NUM_THREADS", "1"),
            ("HF_HUB_OFFLINE", "1"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("INFINITY_ANONYMOUS_USAGE_STATS", "0"),
            ("DO_NOT_TRACK", "1"),
        ];
        let log = logs.join("bench-serve-infinity.log");
        let mut process = Running::start(&PathBuf::from("taskset"), line, &envs, &log)?;
        process.until_answered(&format!("http://{address}/health"), START)?;
        Ok(Self { address: address.to_string(), process })
    }

    pub(super) fn server(&self) -> Server<'_> {
        Server { address: &self.address, path: "/embeddings", process: &self.process }
    }
}
