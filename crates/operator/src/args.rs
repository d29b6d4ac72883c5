//! The command line. Every flag can be set by an environment variable, which is how the chart
//! sets them.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};
use lamplighter_telemetry::log::LogArgs;

use crate::images::Images;
use crate::lease::Timing;

/// Keeps machine-learning models lit: reconciles ModelDeployments.
#[derive(Debug, Parser)]
#[command(name = "lamplighter-operator", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile until told to stop.
    Run(RunArgs),
    /// Verify an installation: the resource is served and a minimal one is accepted. Nothing is
    /// created.
    Check(CheckArgs),
}

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Image of worker pods whose ModelDeployment names none. Recorded when a revision is
    /// created: another value later restarts no pod.
    #[arg(
        long,
        env = "LAMPLIGHTER_WORKER_IMAGE",
        value_parser = NonEmptyStringValueParser::new(),
        value_name = "IMAGE"
    )]
    pub worker_image: String,

    /// As `--worker-image`, of worker pods that run models on GPUs. Unset or empty: a
    /// ModelDeployment that wants one has to name its image.
    #[arg(long, env = "LAMPLIGHTER_WORKER_CUDA_IMAGE", value_name = "IMAGE")]
    pub worker_cuda_image: Option<String>,

    /// Reconcile only the ModelDeployments of this namespace. Unset or empty: of all namespaces.
    #[arg(long, env = "LAMPLIGHTER_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Where probes (`/livez`, `/readyz`) and `/metrics` are answered.
    #[arg(
        long,
        env = "LAMPLIGHTER_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// How many ModelDeployments are reconciled at the same time.
    #[arg(
        long,
        env = "LAMPLIGHTER_CONCURRENCY",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1024),
        value_name = "COUNT"
    )]
    pub concurrency: u16,

    /// Who leads.
    #[command(flatten)]
    pub leader: LeaderArgs,

    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Flags of the leader election.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
pub struct LeaderArgs {
    /// Whether to reconcile only while holding a Lease. Needed for more than one replica.
    #[arg(
        long,
        env = "LAMPLIGHTER_LEADER_ELECT",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    pub leader_elect: bool,

    /// Name of the Lease.
    #[arg(
        long,
        env = "LAMPLIGHTER_LEASE_NAME",
        default_value = "lamplighter-operator",
        value_parser = NonEmptyStringValueParser::new(),
        value_name = "NAME"
    )]
    pub lease_name: String,

    /// Namespace of the Lease. Unset: the operator's own.
    #[arg(long, env = "LAMPLIGHTER_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// After how many seconds without renewal another replica takes over.
    #[arg(
        long,
        env = "LAMPLIGHTER_LEASE_DURATION_SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u16).range(3..=3600),
        value_name = "SECONDS"
    )]
    pub lease_duration_seconds: u16,

    /// After how many seconds without a successful renewal the leader stops by itself. Must be
    /// less than the duration, or two replicas could lead.
    #[arg(
        long,
        env = "LAMPLIGHTER_RENEW_DEADLINE_SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(2..=3600),
        value_name = "SECONDS"
    )]
    pub renew_deadline_seconds: u16,

    /// How many seconds lie between two attempts. Must be less than the renew deadline.
    #[arg(
        long,
        env = "LAMPLIGHTER_RETRY_PERIOD_SECONDS",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=3600),
        value_name = "SECONDS"
    )]
    pub retry_period_seconds: u16,

    /// Name of this pod, the first half of its identity in the Lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "lamplighter-operator", value_name = "NAME")]
    pub pod_name: String,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The namespace in which a ModelDeployment is tried. Unset: the one of the credentials.
    #[arg(long, env = "LAMPLIGHTER_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// After how many seconds the check fails.
    #[arg(
        long,
        default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(1..=3600),
        value_name = "SECONDS"
    )]
    pub timeout_seconds: u16,

    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
}

impl RunArgs {
    /// The images of workers that name none.
    pub fn images(&self) -> Images {
        let cuda = non_empty(self.worker_cuda_image.as_deref());
        Images { cpu: self.worker_image.clone(), cuda: cuda.map(str::to_owned) }
    }

    /// The one namespace that is watched, if it is one.
    pub fn only_namespace(&self) -> Option<&str> {
        non_empty(self.namespace.as_deref())
    }
}

impl CheckArgs {
    /// The namespace that was asked for.
    pub fn only_namespace(&self) -> Option<&str> {
        non_empty(self.namespace.as_deref())
    }
}

impl LeaderArgs {
    /// The Lease's namespace, if it is not the operator's own.
    pub fn namespace(&self) -> Option<&str> {
        non_empty(self.lease_namespace.as_deref())
    }

    /// The three durations.
    pub fn timing(&self) -> Timing {
        let seconds = |number: u16| Duration::from_secs(u64::from(number));
        Timing {
            lease_duration: seconds(self.lease_duration_seconds),
            renew_deadline: seconds(self.renew_deadline_seconds),
            retry_period: seconds(self.retry_period_seconds),
        }
    }
}

/// A chart that sets a variable to nothing means that it is unset.
fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run_args(flags: &[&str]) -> RunArgs {
        let line = ["lamplighter-operator", "run", "--worker-image", "registry/worker:1"];
        let cli = Cli::try_parse_from(line.iter().chain(flags)).unwrap();
        match cli.command {
            Command::Run(args) => args,
            Command::Check(_) => panic!("parsed as check"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let args = run_args(&[]);
        assert_eq!(args.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(args.concurrency, 16);
        assert!(args.leader.leader_elect);
        assert!(args.leader.timing().check().is_ok());
        assert_eq!(args.only_namespace(), None);
    }

    #[test]
    fn an_empty_namespace_means_all_namespaces() {
        assert_eq!(run_args(&["--namespace", ""]).only_namespace(), None);
        assert_eq!(run_args(&["--namespace", "models"]).only_namespace(), Some("models"));
    }

    #[test]
    fn an_empty_image_for_gpus_means_none() {
        let cuda = |flags: &[&str]| run_args(flags).images().cuda;
        assert_eq!(cuda(&[]), None);
        assert_eq!(cuda(&["--worker-cuda-image", ""]), None);
        let named = cuda(&["--worker-cuda-image", "registry/worker-cuda:1"]);
        assert_eq!(named.as_deref(), Some("registry/worker-cuda:1"));
    }

    #[test]
    fn leader_election_is_switched_off_by_a_value() {
        assert!(!run_args(&["--leader-elect", "false"]).leader.leader_elect);
    }

    #[test]
    fn an_empty_worker_image_is_refused() {
        let line = ["lamplighter-operator", "run", "--worker-image", ""];
        assert!(Cli::try_parse_from(line).is_err());
    }
}
