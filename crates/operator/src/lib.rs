//! The operator: brings every `ModelDeployment` to what its spec asks for, and says how it stands.
//!
//! Open [`reconcile`] first: it is the pipeline, step by step, each step in a file of its own.
//! What to do is decided in `lamplighter-plan`, which knows no Kubernetes; this crate reads,
//! translates, renders, writes and reports.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::runtime::events::{Recorder, Reporter as EventReporter};
use kube::{Client, Config};
use lamplighter_api::names;
use lamplighter_telemetry::metrics::Registry;
use lamplighter_telemetry::probe::{self, Readiness};
use lamplighter_telemetry::{admin, log, metrics as exposition, shutdown};
use tokio_util::sync::CancellationToken;

use crate::args::{CheckArgs, RunArgs};
use crate::caches::Caches;
use crate::context::{Clock, Context};
use crate::lease::Keeper;
use crate::metrics::Metrics;
use crate::polls::Polls;
use crate::reports::Reporter;

pub mod args;
pub mod backoff;
pub mod caches;
mod check;
pub mod context;
pub mod controller;
pub mod error;
pub mod lease;
pub mod metrics;
pub mod polls;
pub mod rbac;
pub mod reconcile;
pub mod reports;

/// `lamplighter-operator run`: reconciles until told to stop, or until leadership is lost.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    log::init(&args.log)?;
    install_tls()?;
    args.leader.timing().check()?;
    let stop = shutdown::signals().context("signal handlers cannot be installed")?;

    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let readiness = Readiness::not_ready_yet("Starting", "the apiserver's address is being read");
    let admin_stop = CancellationToken::new();
    let router = exposition::router(registry).merge(probe::router(readiness.clone()));
    let admin = admin::serve(args.listen, router, admin_stop.clone()).await?;
    tracing::info!(address = %admin.address(), "answering probes");

    // The client's own retries could take a quarter of an hour. A lease that is still being
    // renewed when its deadline has passed looks like one that was, and objects have a back-off of
    // their own.
    let mut config = Config::infer().await.context("no cluster is configured")?;
    config.default_retry = false;
    let operator = Operator { config, metrics, args };
    // A replica that does not lead is ready too: else a Deployment with two never is.
    readiness.set_ready();
    let outcome = operator.work(&stop).await;

    admin_stop.cancel();
    admin.stopped().await?;
    outcome
}

/// `lamplighter-operator check`: verifies an installation and changes nothing.
pub async fn check(args: CheckArgs) -> anyhow::Result<()> {
    log::init(&args.log)?;
    install_tls()?;
    let client = Client::try_default().await.context("no cluster is configured")?;
    let deadline = Duration::from_secs(u64::from(args.timeout_seconds));
    check::check(client, args.only_namespace(), deadline).await
}

struct Operator {
    config: Config,
    metrics: Metrics,
    args: RunArgs,
}

impl Operator {
    /// Leads if it must, reconciles, and gives leadership back.
    async fn work(self, stop: &CancellationToken) -> anyhow::Result<()> {
        if !self.args.leader.leader_elect {
            self.metrics.set_leader(true);
            self.reconcile(stop.clone()).await?;
            return Ok(());
        }
        let Some(mut leadership) = self.keeper()?.acquire(stop).await else { return Ok(()) };
        self.metrics.set_leader(true);
        // A lost Lease ends the future below where it stands: nothing more is written.
        let held = CancellationToken::new();
        let outcome = tokio::select! {
            worked = self.reconcile(stop.clone()) => worked,
            lost = leadership.hold(&held) => lost.map_err(anyhow::Error::from),
        };
        self.metrics.set_leader(false);
        if outcome.is_ok() {
            leadership.release().await;
        }
        outcome
    }

    fn keeper(&self) -> anyhow::Result<Keeper> {
        let leader = &self.args.leader;
        let client = self.client()?;
        let namespace = leader.namespace().unwrap_or(&self.config.default_namespace);
        Ok(Keeper::new(
            client,
            namespace,
            &leader.lease_name,
            lease::identity(&leader.pod_name),
            leader.timing(),
            Clock::system(),
        ))
    }

    fn client(&self) -> anyhow::Result<Client> {
        Client::try_from(self.config.clone()).context("the cluster's configuration is unusable")
    }

    async fn reconcile(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let client = self.client()?;
        let (caches, writers) = Caches::new();
        let queue = caches::watch(&client, self.args.only_namespace(), writers);
        let reporter = EventReporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: Some(self.args.leader.pod_name.clone()),
        };
        let context = Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            reporter: Reporter::new(),
            polls: Polls::default(),
            metrics: self.metrics.clone(),
            attempts: backoff::Attempts::default(),
            worker_image: self.args.worker_image.clone(),
            clock: Clock::system(),
        };
        controller::run(Arc::new(context), queue, self.args.concurrency, stop).await;
        Ok(())
    }
}

/// Chooses the TLS implementation of the whole process, before anything opens a connection:
/// rustls panics at the first one when two are compiled in and none was chosen.
fn install_tls() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS implementation was installed before"))
}
