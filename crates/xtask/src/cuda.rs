//! `cargo xtask cuda`: the worker with code for NVIDIA GPUs, on a machine that need not have one.

pub(crate) mod image;
mod toolkit;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::exec::Exec;
use crate::term;
use crate::workspace::{Profile, Workspace};
use toolkit::Toolkit;

/// Ten times what it takes on two cores that have nothing else to do.
const DEADLINE: Duration = Duration::from_mins(90);
/// What this build is apart from all others: nothing else has its features.
const TARGET: &str = ".local/cuda/target";
const WORKER: &str = "lamplighter-worker";

/// Options of `cargo xtask cuda`.
#[derive(Args, Debug)]
pub(crate) struct CudaArgs {
    /// How the programs are built.
    #[command(flatten)]
    chip: ChipArgs,
    /// Also builds the tests of all families of models as a program for a machine with a GPU.
    #[arg(long)]
    test: bool,
    /// Also starts the worker beside a driver's library that knows no GPU: it has to end with
    /// `DeviceUnavailable`, before it fetches anything.
    #[arg(long = "try")]
    is_tried: bool,
    /// Builds with optimisation, as for publishing.
    #[arg(long)]
    release: bool,
}

/// For which chips there is to be code.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ChipArgs {
    /// The chip that is to run it, without the dot: 80 for A100, 89 for L4, 90 for H100 and H200
    /// (<https://developer.nvidia.com/cuda-gpus>). Later ones run it, too, unless it is 90 or more: then
    /// the code is for that one alone.
    #[arg(
        long,
        default_value_t = 80,
        value_parser = clap::value_parser!(u16).range(75..=121),
        value_name = "NUMBER"
    )]
    compute_capability: u16,
}

/// `cargo xtask cuda`.
pub(crate) fn run(workspace: &Workspace, args: &CudaArgs) -> Result<()> {
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let builder = Builder::new(workspace, args.chip, profile)?;
    let worker = builder.worker()?;
    if args.is_tried {
        trial::run(workspace, &builder.toolkit, &worker)?;
    }
    let tests = args.test.then(|| builder.tests()).transpose()?;
    let said = |path: &Path| -> Result<String> {
        let size =
            path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        Ok(format!("{} ({} MB)", path.display(), size / 1_000_000))
    };
    term::line(&said(&worker)?);
    if let Some(tests) = tests {
        term::line(&format!(
            "{}\n    on a machine with a GPU, beside crates/engine of this checkout:
    LD_LIBRARY_PATH={} CARGO_MANIFEST_DIR=crates/engine {} --ignored",
            said(&tests)?,
            builder.toolkit.libraries().display(),
            tests.display()
        ));
    }
    Ok(())
}

/// Builds programs with code for GPUs.
pub(crate) struct Builder<'a> {
    workspace: &'a Workspace,
    toolkit: Toolkit,
    chip: ChipArgs,
    profile: Profile,
}

impl<'a> Builder<'a> {
    /// Makes the toolkit if it is not there.
    pub(crate) fn new(workspace: &'a Workspace, chip: ChipArgs, profile: Profile) -> Result<Self> {
        Ok(Self { toolkit: Toolkit::make(workspace)?, workspace, chip, profile })
    }

    /// The worker.
    pub(crate) fn worker(&self) -> Result<PathBuf> {
        term::step("cuda: building the worker (some minutes the first time)");
        self.cargo("build the worker for GPUs", "build")
            .args(["--package", WORKER, "--bin", WORKER, "--features", "cuda"])
            .run(&self.workspace.logs())?;
        Ok(self.workspace.path(TARGET).join(self.profile.folder()).join(WORKER))
    }

    /// The tests of all families, for a machine with a GPU.
    fn tests(&self) -> Result<PathBuf> {
        term::step("cuda: building the tests of all families");
        let output = self
            .cargo("build the tests for GPUs", "test")
            .args(["--package", "lamplighter-engine", "--test", "families", "--no-run"])
            .args(["--features", "cuda"])
            .run(&self.workspace.logs())?;
        let program = executable(&output.text).context("cargo did not name the program")?;
        Ok(self.workspace.path(program))
    }

    fn cargo(&self, what: &str, command: &str) -> Exec {
        let (options, nvcc): (&[&str], _) = match self.profile {
            // A seventh of the time, most of which goes into kernels that are not called here.
            Profile::Dev => (&[], "-Ofc max"),
            Profile::Release => (&["--release"], ""),
        };
        let capability = self.chip.compute_capability.to_string();
        let command = Exec::new(what, "cargo")
            .args([command])
            .args(options)
            .dir(self.workspace.root())
            .env("CARGO_TARGET_DIR", TARGET)
            .env("CUDA_COMPUTE_CAP", capability)
            .env("NVCC_APPEND_FLAGS", nvcc)
            .deadline(DEADLINE);
        self.toolkit
            .environment()
            .into_iter()
            .fold(command, |command, (name, value)| command.env(name, value))
    }
}

/// The program in a line `Executable tests/families.rs (target/debug/deps/families-…)`.
fn executable(output: &str) -> Option<&str> {
    let line = output.lines().find(|line| line.trim_start().starts_with("Executable"))?;
    line.rsplit_once('(')?.1.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_test_is_found_in_what_cargo_says() {
        let said =
            "   Compiling a v0.1.0 (/a)\n  Executable tests/families.rs (t/deps/families-1)\n";
        assert_eq!(executable(said), Some("t/deps/families-1"));
        assert_eq!(executable("   Compiling a v0.1.0 (/a)\n"), None);
    }
}
