//! The operator: brings every `ModelDeployment` to what its spec asks for, and says how it stands.
//!
//! Open [`reconcile`] first: it is the pipeline, step by step, each step in a file of its own.
//! What to do is decided in `lamplighter-plan`, which knows no Kubernetes; this crate reads,
//! translates, renders, writes and reports.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::client::ClientBuilder;
use kube::runtime::events::{Recorder, Reporter as EventReporter};
use kube::{Client, Config};
use lamplighter_api::names;
use lamplighter_telemetry::metrics::Registry;
use lamplighter_telemetry::probe::{self, Readiness};
use lamplighter_telemetry::{admin, log, metrics as exposition, shutdown};
use tokio_util::sync::CancellationToken;

use crate::answers::Answers;
use crate::args::{CheckArgs, RunArgs};
use crate::caches::Caches;
use crate::context::{Clock, Context};
use crate::controller::Ended;
use crate::lease::Keeper;
use crate::metrics::Metrics;
use crate::polls::Polls;
use crate::reports::Reporter;
use crate::server_time::ServerTime;
use crate::standby::Standby;
use crate::watches::Watches;

pub mod answers;
pub mod args;
pub mod backoff;
pub mod caches;
mod check;
pub mod context;
pub mod controller;
pub mod error;
pub mod images;
pub mod lease;
pub mod metrics;
pub mod polls;
pub mod quantity;
pub mod rbac;
pub mod reconcile;
pub mod reports;
pub mod server_time;
pub mod sheds;
pub mod standby;
pub mod watches;

/// How long a connection may say nothing while an answer is waited for. Kube sets no limit, so a list
/// over a connection that died in silence would wait until TCP gives up, a quarter of an hour; an idle
/// watch is ended by the apiserver within 290 s and must not be broken off before.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

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

    let config = Config::infer().await.context("no cluster is configured")?;
    let operator = Operator::new(config, metrics, args);
    let watches = operator.watches.clone();
    let outcome = tokio::select! {
        outcome = Box::pin(operator.work(&stop)) => outcome,
        // A replica that waits to lead sees as much as the one that leads, and is ready alike: else
        // a Deployment with two never is.
        never = watches::follow(&watches, &readiness) => match never {},
    };

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
    time: ServerTime,
    watches: Watches,
}

impl Operator {
    fn new(mut config: Config, metrics: Metrics, args: RunArgs) -> Self {
        // The client's own retries could take a quarter of an hour. A lease that is still being
        // renewed when its deadline has passed looks like one that was, and objects have a back-off
        // of their own.
        config.default_retry = false;
        config.read_timeout.get_or_insert(READ_TIMEOUT);
        // A connection that was idle for long has the whole time again for its next answer.
        config.reset_reader_on_write = true;
        let time = ServerTime::new(Clock::system());
        Self { config, metrics, args, time, watches: Watches::default() }
    }

    /// Leads if it must, reconciles, and gives leadership back.
    async fn work(self, stop: &CancellationToken) -> anyhow::Result<()> {
        let client = self.client()?;
        let (caches, writers) = Caches::new();
        let queue = caches::watch(&client, self.args.only_namespace(), writers, &self.watches);
        let mut standby = Standby::new(queue);
        let context = Arc::new(self.context(client, caches));
        let concurrency = self.args.concurrency;
        if !self.args.leader.leader_elect {
            self.metrics.set_leader(true);
            // There is no lease that could be given back too early.
            let (Ended::InOrder | Ended::BrokenOff) =
                controller::run(context, standby.lead(), concurrency, stop.clone()).await;
            return Ok(());
        }
        let keeper = self.keeper()?;
        let Some(mut leadership) = standby.until(keeper.acquire(stop)).await else {
            return Ok(());
        };
        self.metrics.set_leader(true);
        // A lost Lease ends the future below where it stands: nothing more is written.
        let held = CancellationToken::new();
        let outcome = tokio::select! {
            ended = controller::run(context, standby.lead(), concurrency, stop.clone()) => Ok(ended),
            lost = leadership.hold(&held) => lost.map(|()| Ended::BrokenOff),
        };
        self.metrics.set_leader(false);
        match outcome? {
            Ended::InOrder => leadership.release().await,
            Ended::BrokenOff => tracing::warn!(
                "the lease is left to run out: what was broken off may still arrive, and must not meet the next leader's writes"
            ),
        }
        Ok(())
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
            self.time.clock(),
        ))
    }

    /// A client with connections of its own.
    fn client(&self) -> anyhow::Result<Client> {
        let answers = Answers::new(self.time.clone(), self.watches.clone());
        let builder = ClientBuilder::try_from(self.config.clone())
            .context("the cluster's configuration is unusable")?;
        Ok(builder.with_layer(&answers).build())
    }

    fn context(&self, client: Client, caches: Caches) -> Context {
        let reporter = EventReporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: Some(self.args.leader.pod_name.clone()),
        };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            reporter: Reporter::new(),
            polls: Polls::default(),
            sheds: crate::sheds::Sheds::default(),
            metrics: self.metrics.clone(),
            attempts: backoff::Attempts::default(),
            images: self.args.images(),
            clock: self.time.clock(),
        }
    }
}

/// Chooses the TLS implementation of the whole process, before anything opens a connection:
/// rustls panics at the first one when two are compiled in and none was chosen.
fn install_tls() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS implementation was installed before"))
}
