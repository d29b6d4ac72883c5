//! The command line of the worker.

#![expect(clippy::result_large_err, reason = "a failure is made once and ends the process")]

use std::process::ExitCode;

use clap::Parser;
use lamplighter_protocol::{Failure, Reason};
use lamplighter_telemetry::{log, shutdown};
use lamplighter_worker::cli::{Cli, Command};
use lamplighter_worker::{failure, golden, serve};

fn main() -> ExitCode {
    let cli = Cli::parse();
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
    if let Command::Serve(args) = &cli.command {
        failure::leave_last_words(failed, &args.termination_log);
    }
    ExitCode::FAILURE
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve(args) => {
            let stop = shutdown::signals().map_err(internal)?;
            serve::serve(args, stop).await
        }
        Command::Golden(args) => golden::record(args).await,
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, error.to_string())
}
