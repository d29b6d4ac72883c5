//! The worker for GPUs where there is a driver and no GPU: all that can be seen of it without one. It has to
//! start, so all of its libraries are found, and to say what is missing before it fetches anything.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::toolkit::Toolkit;
use crate::exec::Exec;
use crate::term;
use crate::workspace::Workspace;

/// Far more than it takes to load the libraries, of which there are some hundred megabytes.
const DEADLINE: Duration = Duration::from_mins(2);

/// Runs it once; an error if it ends otherwise than it should.
pub(super) fn run(workspace: &Workspace, toolkit: &Toolkit, worker: &Path) -> Result<()> {
    term::step("cuda: starting the worker beside a driver that has no GPU");
    let driver = toolkit.driver_without_gpu(workspace)?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let [manifest, last_words] =
        ["manifest.json", "last-words.json"].map(|name| folder.path().join(name));
    // Nobody listens there: whoever asked would say so instead.
    let models = json!({
        "format": 1, "deployment": "try/try", "revision": "1", "device": "Cuda",
        "models": [{
            "name": "embedder", "version": "1", "task": "Embedding", "default": true,
            "source": {"uri": "https://127.0.0.1:1/embedder"},
            "validation": {"mode": "Disabled", "cases": []},
        }],
    });
    fs::write(&manifest, models.to_string()).context("cannot write a manifest")?;
    let libraries = format!("{}:{}", driver.display(), toolkit.libraries().display());
    let (status, output) = Exec::new("try the worker for GPUs", worker)
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--manifest".as_ref(), manifest.as_os_str()])
        .args(["--termination-log".as_ref(), last_words.as_os_str()])
        .args(["--cache-dir".as_ref(), folder.path().as_os_str()])
        .env("LD_LIBRARY_PATH", libraries)
        .deadline(DEADLINE)
        .run_to_end(&workspace.logs())?;
    let said = fs::read_to_string(&last_words).unwrap_or_default();
    let reason = serde_json::from_str(&said)
        .ok()
        .and_then(|said: Value| Some(said.get("reason")?.as_str()?.to_owned()));
    ensure!(
        status.code() == Some(1) && reason.as_deref() == Some("DeviceUnavailable"),
        "it ended otherwise than with DeviceUnavailable ({status}); the log is {}\n{said}",
        output.log.display()
    );
    term::line(&format!("it started, and ended as it should: {said}"));
    Ok(())
}
