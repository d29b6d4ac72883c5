//! A worker that runs on one core and computes with one thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::process::{Running, free_address};
use crate::exec::Exec;
use crate::workspace::{Profile, Workspace};
use crate::{images, model};

const DEADLINE: Duration = Duration::from_mins(3);
/// What it calls its model.
pub(crate) const MODEL: &str = "minilm";

/// A model of its own for a bench, in a folder that is removed when dropped.
pub(crate) struct Artifact {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Artifact {
    /// A copy of all-MiniLM-L6-v2, to which a golden file may be added.
    pub(crate) fn minilm(workspace: &Workspace) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(MODEL);
        model::copy_tree(&model::minilm(workspace)?, &path)?;
        Ok(Self { folder, path })
    }
}

/// A request for the vector of a text of some dozen tokens.
pub(crate) fn request() -> String {
    json!({"model": MODEL, "input": "a lamp on a hill by the sea ".repeat(8)}).to_string()
}

/// Ended when dropped.
pub(crate) struct Worker {
    /// Where it answers requests.
    pub(crate) serving: String,
    /// Where it answers the rest.
    pub(crate) admin: String,
    pub(crate) process: Running,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// Starts the worker that was built with a model of its own golden file, which is recorded, and
    /// waits until it is ready. `bench` names the log.
    pub(crate) fn start(
        workspace: &Workspace,
        bench: &str,
        core: &str,
        artifact: &Path,
        options: &[(&str, &str)],
    ) -> Result<Self> {
        let logs = workspace.logs();
        let program = workspace.binary("lamplighter-worker", Profile::Dev);
        Exec::new("record the golden file", &program)
            .args(["golden", "--artifact"])
            .args([artifact])
            .deadline(DEADLINE)
            .run(&logs)?;
        let folder = tempfile::tempdir()?;
        let manifest = folder.path().join("manifest.json");
        fs::write(&manifest, manifest_of(bench, artifact).to_string())?;
        let (serving, admin) = (free_address()?.to_string(), free_address()?.to_string());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (manifest, cache, reason) =
            (manifest.display().to_string(), path("cache"), path("termination-log"));
        let worker = program.display().to_string();
        let mut line = vec!["--cpu-list", core, &worker, "serve"];
        for (flag, value) in [
            ("--manifest", manifest.as_str()),
            ("--listen", &serving),
            ("--admin-listen", &admin),
            ("--cache-dir", &cache),
            ("--termination-log", &reason),
            ("--max-connection-age-seconds", "3600"),
            ("--compute-threads", "1"),
        ] {
            line.extend([flag, value]);
        }
        line.extend(options.iter().flat_map(|(flag, value)| [*flag, *value]));
        let log = logs.join(format!("bench-{bench}.log"));
        let taskset = PathBuf::from("taskset");
        let mut process = Running::start(&taskset, &line, &images::WORKER_ALLOCATOR, &log)?;
        process.until_answered(&format!("http://{admin}/readyz"), DEADLINE)?;
        Ok(Self { serving, admin, process, _folder: folder })
    }
}

fn manifest_of(bench: &str, artifact: &Path) -> serde_json::Value {
    json!({"format": 1, "deployment": format!("bench/{bench}"), "revision": "bench",
        "device": "Cpu", "models": [{"name": MODEL, "version": "1", "task": "Embedding",
            "default": true, "source": {"uri": format!("image://{}", artifact.display())}}]})
}
