//! The pipeline: what happens to a `ModelDeployment` each time that something about it changed.
//!
//! | step | kind | from → to |
//! |---|---|---|
//! | [`fetch`] | reads caches and pods | the resource → [`fetch::Fetched`] |
//! | [`validate`] | pure | spec, fetched → [`validate::Valid`], or why not |
//! | [`observe`] | pure | valid, fetched, now → [`lamplighter_plan::World`] |
//! | [`lamplighter_plan::decide`] | pure | world → plan |
//! | [`render`] | pure | valid, plan → [`render::Rendered`] |
//! | [`apply`] | writes children | rendered → [`apply::Applied`] |
//! | [`report`] | pure | plan, applied → status and events |
//! | [`publish`] | writes the status once | |
//!
//! The status is written on every path, also when applying failed. Nothing that decides is
//! remembered between two reconciles: the next decision depends on the cluster and on the status
//! alone. What pods said last is kept in [`crate::polls`], for messages.

use std::sync::Arc;

use kube::runtime::controller::Action;
use lamplighter_api::ModelDeployment;
use lamplighter_plan::{Plan, World, check, decide};

use crate::context::Context;
use crate::error::Error;

pub mod apply;
pub mod compare;
pub mod fetch;
pub mod observe;
pub mod ownership;
pub mod publish;
pub mod render;
pub mod report;
pub mod revision;
pub mod validate;

use apply::{Applied, Obstacle};
use report::Subject;
use validate::Unfit;

/// Brings one `ModelDeployment` a step further and reports how it stands.
pub async fn reconcile(
    deployment: Arc<ModelDeployment>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    context.caches.synced().await?;
    let fetched = fetch::fetch(&context, &deployment).await;
    let now = context.now();
    let subject = Subject { deployment: &deployment, fetched: &fetched, now };
    let report = match validate::validate(&deployment, &fetched, &context.worker_image) {
        Err(Unfit::Deleting) => return Ok(Action::await_change()),
        Err(Unfit::Incomplete(field)) => return Err(Error::Incomplete(field)),
        Err(Unfit::Invalid(invalid)) => report::invalid(&subject, &invalid),
        Ok(valid) => {
            let world = observe::observe(&valid, settled(&deployment), &fetched, now);
            let plan = decide(&world);
            let rendered = render::render(&valid, &plan);
            let applied = match violated(&context, &world, &plan) {
                Some(obstacle) => Applied::nothing_because(obstacle),
                None => Box::pin(apply::apply(&context, &fetched, rendered)).await,
            };
            report::planned(&subject, &valid, &world, &plan, applied)
        }
    };
    publish::publish(&context, &deployment, report).await
}

/// The revision that was the last to be ready in full, as the status remembers.
fn settled(deployment: &ModelDeployment) -> Option<&str> {
    let active = deployment.status.as_ref()?.active.as_ref()?;
    Some(active.revision.as_str())
}

/// A plan that breaks an invariant is a bug; acting on it could end the service that it is about.
fn violated(context: &Context, world: &World, plan: &Plan) -> Option<Obstacle> {
    let violations = check::violations(world, plan);
    for violation in &violations {
        context.metrics.violated(violation.name());
        tracing::error!(%violation, ?world, "a plan breaks an invariant");
    }
    (!violations.is_empty()).then_some(Obstacle::Plan(violations))
}
