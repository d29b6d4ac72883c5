//! Developer commands: demo, test, e2e, explore, mutants, faults, fuzz, soak, bench, cluster, images, cuda,
//! generate.

mod bench;
mod charts;
mod cluster;
mod count;
mod cuda;
mod demo;
mod e2e;
mod exec;
mod explore;
mod faults;
mod fuzz;
mod generate;
mod guarantees;
mod images;
mod interrupt;
mod model;
mod mutants;
mod python;
mod soak;
mod term;
mod test;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What a developer of Lamplighter, or somebody who tries it, does with a checkout.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings up a real model behind a Service on a local Kubernetes, from nothing.
    ///
    /// Needs root on Debian 12 with Rust, Go and Python; installs and builds the rest. May be
    /// repeated. `cargo xtask cluster down` takes everything down again.
    Demo,
    /// Runs every test of the project, as CI does.
    Test(test::TestArgs),
    /// Runs what takes long on the local cluster, and prints what it took.
    #[command(subcommand)]
    E2e(e2e::E2eCommand),
    /// Explores every order of events in small worlds around the rollout.
    Explore(explore::ExploreArgs),
    /// Seeds faults into the rollout and shows that its tests catch each of them.
    Mutants(mutants::MutantsArgs),
    /// Plays every way in which an artifact, its store or its cache can be broken, and shows what
    /// the worker says to it.
    Faults,
    /// Gives damaged files and messages to whoever reads them: none may panic, be slow, or accept
    /// before the weights are read what is refused after.
    Fuzz(fuzz::FuzzArgs),
    /// Keeps the worker under load for as long as it is told, with clients that go away, requests
    /// that are too long and models that come and go, and judges whether its memory stays flat.
    Soak(soak::SoakArgs),
    /// Measures how fast the worker is, in one run with what others take for the same.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// A real Kubernetes on this machine.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// kubectl for the local cluster.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Arguments, passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Builds the images as OCI tar files in `.local/images/`.
    Images(images::ImagesArgs),
    /// Builds the worker with code for NVIDIA GPUs. Needs no GPU; fetches NVIDIA's compiler.
    Cuda(cuda::CudaArgs),
    /// Writes the generated files of crds/, config/, charts/ and docs/ from their source.
    Generate {
        /// Writes nothing; fails when a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match interrupt::watch().and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Demo => demo::run(&workspace),
        Command::Test(args) => test::run(&workspace, &args),
        Command::E2e(command) => e2e::run(&workspace, &command),
        Command::Explore(args) => explore::run(&args),
        Command::Mutants(args) => mutants::run(&workspace, &args),
        Command::Faults => faults::run(&workspace),
        Command::Fuzz(args) => fuzz::run(&workspace, &args),
        Command::Soak(args) => soak::run(&workspace, &args),
        Command::Bench(command) => bench::run(&workspace, &command),
        Command::Cluster(command) => cluster::run(command),
        Command::Kubectl { args } => cluster::kubectl(args),
        Command::Images(args) => images::run(&workspace, &args),
        Command::Cuda(args) => cuda::run(&workspace, &args),
        Command::Generate { check } => generate::run(workspace.root(), check),
    }
}
