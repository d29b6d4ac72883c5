//! A Python environment below `.local/`, with exactly what a requirements file pins.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exec::Exec;
use crate::workspace::Workspace;

/// The interpreter of an environment that holds what `requirements` (a path below the top
/// folder) lists. Made once; made anew when the file changes.
pub(crate) fn environment(
    workspace: &Workspace,
    name: &str,
    requirements: &str,
) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(workspace.path(requirements))
        .with_context(|| format!("cannot read {requirements}"))?;
    let folder = workspace.path(".local/python").join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.stamp");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(python);
    }
    let logs = workspace.logs();
    Exec::new(format!("python environment {name}"), "python3")
        .args(["-m", "venv", "--clear"])
        .args([&folder])
        .deadline(Duration::from_mins(2))
        .run(&logs)?;
    Exec::new(format!("python packages {name}"), &python)
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r"])
        .args([workspace.path(requirements)])
        .deadline(Duration::from_mins(10))
        .run(&logs)?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}
