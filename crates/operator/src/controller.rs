//! The controller: what wakes a reconcile, how many run at once, and when a failed one returns.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Error as ControllerError, applier};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Config, watcher};
use lamplighter_api::ModelDeployment;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::backoff;
use crate::caches::Queue;
use crate::context::Context;
use crate::error::{Class, Error};
use crate::reconcile::reconcile;

/// How long events about one object are gathered before it is reconciled. A rollout changes a
/// ReplicaSet and its pods many times within milliseconds, and our own writes come back as
/// events: long enough for both, too short for a person.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long one reconcile may take. It makes a handful of requests; a watch that is not filled or
/// a request without an answer ends here, and the object waits for its turn.
const RECONCILE_DEADLINE: Duration = Duration::from_mins(1);
/// How long reconciles that run may take to end once the controller was told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How the controller ended.
#[must_use = "what broke off may still be on its way to the apiserver"]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Every reconcile came to its end.
    InOrder,
    /// Some were broken off. What they sent may still arrive.
    BrokenOff,
}

/// Reconciles until `stop`, then lets running reconciles end.
pub async fn run(
    context: Arc<Context>,
    queue: Queue,
    concurrency: u16,
    stop: CancellationToken,
) -> Ended {
    let config = Config::default().debounce(DEBOUNCE).concurrency(concurrency);
    let store = context.caches.deployments.clone();
    let until_stopped = queue.take_until(stop.clone().cancelled_owned());
    let shared = Arc::clone(&context);
    let outcomes = applier(spawned, error_policy, shared, store, until_stopped, config);
    let draining = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_DEADLINE).await;
    };
    tokio::select! {
        () = log(outcomes, &context) => Ended::InOrder,
        () = draining => {
            tracing::warn!("reconciles were still running {} s after the stop", STOP_DEADLINE.as_secs());
            Ended::BrokenOff
        }
    }
}

/// A reconcile in a task of its own, so that a slow one keeps no other from running.
fn spawned(deployment: Arc<ModelDeployment>, context: Arc<Context>) -> Reconcile {
    Reconcile(tokio::spawn(measured(deployment, context).in_current_span()))
}

async fn measured(
    deployment: Arc<ModelDeployment>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let object = key(deployment.namespace().as_deref(), &deployment.name_any());
    let begun = Instant::now();
    let reconcile = Box::pin(reconcile(deployment, Arc::clone(&context)));
    let outcome = timeout(RECONCILE_DEADLINE, reconcile)
        .await
        .unwrap_or(Err(Error::TimedOut(RECONCILE_DEADLINE)));
    let Context { metrics, attempts, caches, .. } = context.as_ref();
    match &outcome {
        Ok(_) => {
            attempts.succeeded(&object);
            metrics.reconciled(begun.elapsed());
        }
        Err(error) => metrics.failed(begun.elapsed(), error.category(), error.class().name()),
    }
    metrics.set_managed(caches.deployments.len());
    outcome
}

/// A running reconcile. Dropping it, which only the end of the controller does, aborts it.
struct Reconcile(JoinHandle<Result<Action, Error>>);

impl Future for Reconcile {
    type Output = Result<Action, Error>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0)
            .poll(context)
            .map(|joined| joined.unwrap_or_else(|lost| Err(Error::Panicked(lost.to_string()))))
    }
}

impl Drop for Reconcile {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// When an object that failed is reconciled again.
#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn error_policy(deployment: Arc<ModelDeployment>, error: &Error, context: Arc<Context>) -> Action {
    let object = key(deployment.namespace().as_deref(), &deployment.name_any());
    let before = context.attempts.failed(&object);
    Action::requeue(backoff::delay(error.class(), &object, before))
}

/// What failures are counted by.
fn key(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

type Outcome = Result<(ObjectRef<ModelDeployment>, Action), ControllerError<Error, watcher::Error>>;

async fn log(outcomes: impl Stream<Item = Outcome>, context: &Context) {
    outcomes
        .for_each(|outcome| {
            match outcome {
                Ok((object, action)) => tracing::debug!(%object, ?action, "reconciled"),
                Err(ControllerError::ReconcilerFailed(error, object)) => match error.class() {
                    // The ordinary consequence of acting on a cache.
                    Class::Conflict => tracing::debug!(%object, %error, "looking again"),
                    Class::Transient | Class::Refused => {
                        tracing::warn!(%object, %error, "reconcile failed");
                    }
                    Class::Bug => tracing::error!(%object, %error, "reconcile failed by a bug"),
                },
                // Its last events, or a retry, come after it is gone.
                Err(ControllerError::ObjectNotFound(object)) => {
                    context.attempts.succeeded(&key(object.namespace.as_deref(), &object.name));
                    context.metrics.set_managed(context.caches.deployments.len());
                    tracing::debug!(%object, "gone");
                }
                Err(ControllerError::QueueError(error)) => {
                    tracing::warn!(%error, "a watch broke off and is started again");
                }
                Err(ControllerError::RunnerError(error)) => {
                    tracing::error!(%error, "the controller's caches ended");
                }
            }
            std::future::ready(())
        })
        .await;
}
