//! The local cluster, from the command line.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use lamplighter_cluster::{Cluster, NODE};

use crate::term::{self, Printer};
use crate::workspace::Workspace;

/// What can be done with the cluster of this machine.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Starts it, or repairs what does not run. May be repeated.
    Up,
    /// Removes it with everything in it.
    Down,
    /// Says what runs. Fails if the cluster cannot be used.
    Status,
}

/// Runs one of the commands.
pub(crate) fn run(command: ClusterCommand) -> Result<()> {
    let cluster = here()?;
    match command {
        ClusterCommand::Up => {
            cluster.up(&Printer)?;
            term::step(&format!("the cluster is ready, with the node `{NODE}`"));
            term::line(&format!(
                "\n  export KUBECONFIG={}\n  cargo xtask kubectl get pods --all-namespaces",
                cluster.kubeconfig().display()
            ));
        }
        ClusterCommand::Down => {
            cluster.down(&Printer)?;
            term::step("the cluster is down");
        }
        ClusterCommand::Status => {
            let status = cluster.status();
            term::line(&status.to_string());
            if !status.anything_runs() {
                bail!("the cluster is down; `cargo xtask cluster up` starts it");
            }
            if !status.is_healthy() {
                bail!("the cluster is not healthy; `cargo xtask cluster up` repairs it");
            }
        }
    }
    Ok(())
}

/// Becomes kubectl, talking to the local cluster.
pub(crate) fn kubectl(args: Vec<OsString>) -> Result<()> {
    let program = here()?.kubectl();
    if !program.exists() {
        bail!("there is no kubectl yet; `cargo xtask cluster up` builds it");
    }
    let error = Command::new(&program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn here() -> Result<Cluster> {
    Ok(Cluster::at(Workspace::find()?.root()))
}
