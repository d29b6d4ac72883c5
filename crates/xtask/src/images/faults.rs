//! The worker that breaks on purpose, and that no other image has its faults.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::exec::Exec;
use crate::workspace::Workspace;

/// The program, which is built only when it is asked for.
pub(super) const WORKER: &str = "lamplighter-worker-faults";
/// The variable that lists the faults; a program that has them has its name.
const VARIABLE: &[u8] = b"WORKER_FAULTS";

/// Builds the program. The whole workspace and one program of it, so that dependencies have the
/// features that they have everywhere and only the worker is compiled once more.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    Exec::new("build the worker with faults", "cargo")
        .args(["build", "--workspace", "--features", "lamplighter-worker/faults"])
        .args(["--bin", WORKER])
        .dir(workspace.root())
        .deadline(Duration::from_mins(10))
        .run(&workspace.logs())?;
    Ok(())
}

/// Refuses a program that was built with faults.
pub(super) fn check_absent(program: &Path) -> Result<()> {
    let found = File::open(program)
        .and_then(contains_variable)
        .with_context(|| format!("cannot read {}", program.display()))?;
    if found {
        bail!(
            "{} was built with the feature `faults` and must not get into an image; build it with \
             `cargo build --workspace --bins`",
            program.display()
        );
    }
    Ok(())
}

fn contains_variable(mut program: impl Read) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    program.read_to_end(&mut bytes)?;
    Ok(bytes.windows(VARIABLE.len()).any(|window| window == VARIABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_found_wherever_it_stands() {
        for (program, found) in [
            (&b"WORKER_FAULTS"[..], true),
            (b"\x7fELF\0WORKER_FAULTS: {}", true),
            (b"..WORKER_FAULTS", true),
            (b"LAMPLIGHTER_FAULT", false),
            (b"LAMPLIGHTER_LISTEN", false),
            (b"", false),
        ] {
            assert_eq!(contains_variable(program).unwrap(), found, "{program:?}");
        }
    }

    #[test]
    fn a_program_with_faults_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker");
        std::fs::write(&program, "LAMPLIGHTER_MANIFEST").unwrap();
        check_absent(&program).unwrap();
        std::fs::write(&program, "LAMPLIGHTER_MANIFEST WORKER_FAULTS").unwrap();
        let error = check_absent(&program).unwrap_err().to_string();
        assert!(error.contains(&program.display().to_string()), "{error}");
    }
}
