//! The image for GPUs holds two programs: this one, and one with code for GPUs, which does not even
//! start where the driver's library is missing. So this one reads what models are, wherever that is,
//! and hands over when models are to be served on a GPU; where that cannot be, it is there to say why.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_protocol::{Failure, Phase, Reason, place};
use tokio_util::sync::CancellationToken;

/// Beside the program that hands over.
const PROGRAM: &str = "lamplighter-worker-cuda";
const DEADLINE: Duration = Duration::from_secs(place::GPU_PROGRAM_SECONDS as u64);
/// Most bytes of what the loader said that a failure repeats.
const MAX_SAID: usize = 512;

/// Goes on as the program with code for GPUs, with the same command line and process id. Comes back
/// where there is no other, for the engine to say what is missing, where it cannot start:
/// [`Reason::DeviceUnavailable`] with what the loader said, and when it is told to stop before.
pub(crate) async fn to_program_for_gpus(stop: &CancellationToken) -> Result<(), Failure> {
    if cfg!(feature = "cuda") {
        return Ok(());
    }
    let Some(program) = beside(&std::env::current_exe().map_err(internal)?) else {
        return Ok(());
    };
    tokio::select! {
        started = try_start(&program) => started?,
        () = stop.cancelled() => return Ok(()),
    }
    // From here until the other program has its handlers, which are a few system calls and the reading of
    // its libraries, a signal is lost: the pod then ends when its grace period is over.
    if stop.is_cancelled() {
        return Ok(());
    }
    tracing::info!(program = %program.display(), "going on as the program with code for GPUs");
    let mut command = std::process::Command::new(&program);
    Err(internal(command.args(std::env::args_os().skip(1)).exec()))
}

fn beside(this: &Path) -> Option<PathBuf> {
    Some(this.with_file_name(PROGRAM)).filter(|program| program.exists())
}

/// Whether its libraries are found: after the hand-over there is nobody left to say so.
async fn try_start(program: &Path) -> Result<(), Failure> {
    let mut command = tokio::process::Command::new(program);
    let started = command.arg("--version").kill_on_drop(true).output();
    let Ok(ended) = tokio::time::timeout(DEADLINE, started).await else {
        let took = format!("it did not start within {} s", DEADLINE.as_secs());
        return Err(unavailable(program, &took));
    };
    let ended = ended.map_err(|error| unavailable(program, &error.to_string()))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.trim();
    let said = &said[..said.floor_char_boundary(MAX_SAID)];
    Err(unavailable(program, &format!("{}: {said}", ended.status)))
}

fn unavailable(program: &Path, problem: &str) -> Failure {
    let message = format!(
        "{} cannot start ({problem}). The driver is put into a pod that asks for nvidia.com/gpu, on a \
         node with the NVIDIA container toolkit (where that is no default, by spec.worker.runtimeClassName)",
        program.display()
    );
    Failure::new(Reason::DeviceUnavailable, message).with_phase(Phase::Transfer)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, format!("the program for GPUs: {error}"))
}
