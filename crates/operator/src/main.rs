//! The operator's binary.

use std::process::ExitCode;

use clap::Parser;
use lamplighter_operator::args::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => lamplighter_operator::run(args).await,
        Command::Check(args) => lamplighter_operator::check(args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}
