//! A worker process from its command line to its exit code.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use lamplighter_protocol::{Failure, Reason, place};
use lamplighter_telemetry::log;

use crate::cli::{Cli, Command};
use crate::{arguments, cache, failure, golden, resolve, serve, stop};

/// What shells and clap give to a command line that cannot be used.
const USAGE: u8 = 2;

/// Does what this process's command line says.
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&line) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &line),
    };
    if let Err(error) = log::init(&cli.log) {
        eprintln!("{error}");
        return gave_up(&cli, &internal(error));
    }
    match live(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            failure::log(&failed);
            gave_up(&cli, &failed)
        }
    }
}

/// Help and version are what was asked for; anything else that clap says is a failure, which the
/// kubelet is told like any other.
fn refuse(error: &clap::Error, line: &[OsString]) -> ExitCode {
    // Who has read enough of the help closes the pipe.
    if let Err(lost) = error.print()
        && lost.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("{error}\n{lost}");
    }
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    unusable(line, error.to_string().trim())
}

/// Ends a process whose command line or environment cannot be used; whoever calls has printed why.
pub(crate) fn unusable(line: &[OsString], problem: &str) -> ExitCode {
    let environment = std::env::var_os(arguments::ENV_TERMINATION_LOG);
    let default_is_there = Path::new(place::TERMINATION_LOG).exists();
    if let Some(path) = arguments::termination_log(line, environment, default_is_there) {
        let failed = Failure::new(Reason::ArgumentsInvalid, problem);
        // Which command it was cannot be known, and the shorter limit fits all.
        // There is no log yet.
        if let Err(error) = failure::replace(&path, &resolve::last_words(&failed)) {
            eprintln!("{} cannot be written: {error}", path.display());
        }
    }
    ExitCode::from(USAGE)
}

fn live(cli: &Cli) -> Result<(), Failure> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Failure::new(Reason::Internal, "a TLS provider was already installed"))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(internal)?;
    let outcome = runtime.block_on(run(cli));
    // A model that is still being read would otherwise hold the process at its end.
    runtime.shutdown_background();
    outcome
}

fn gave_up(cli: &Cli, failed: &Failure) -> ExitCode {
    let left = match &cli.command {
        Command::Serve(args) => Some((&args.termination_log, failed.to_termination_message())),
        Command::Resolve(args) if args.uris.is_empty() => {
            Some((&args.termination_log, resolve::last_words(failed)))
        }
        Command::Resolve(_) | Command::Golden(_) | Command::Cache(_) => None,
    };
    if let Some((path, words)) = left
        && let Err(error) = failure::replace(path, &words)
    {
        tracing::error!(path = %path.display(), %error, "the termination log cannot be written");
    }
    ExitCode::FAILURE
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve(args) => {
            let told = stop::signals().map_err(internal)?;
            serve::serve(args, told).await
        }
        Command::Resolve(args) => {
            let told = stop::signals().map_err(internal)?;
            resolve::resolve(args, told).await
        }
        Command::Golden(args) => golden::record(args).await,
        Command::Cache(command) => {
            let told = stop::signals().map_err(internal)?;
            cache::run(command, told).await
        }
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, error.to_string())
}
