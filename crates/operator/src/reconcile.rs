//! The pipeline: what happens to a `ModelDeployment` each time that something about it changed.
//!
//! | step | kind | from → to |
//! |---|---|---|
//! | [`fetch`] | reads caches and pods | the resource → [`fetch::Fetched`] |
//! | [`validate`] | pure | spec, fetched → [`validate::Valid`], or why not |
//! | [`memory`] | pure | status → what earlier decisions left behind |
//! | [`observe`] | pure | valid, memory, fetched, now → [`lamplighter_plan::rollout::World`] |
//! | [`lamplighter_plan::rollout::decide`] | pure | world → plan |
//! | [`render`] | pure | valid, world, plan → [`render::Rendered`] |
//! | [`apply`] | writes children | rendered, plan → [`apply::Applied`] |
//! | [`report`] | pure | plan, applied → status and events |
//! | [`publish`] | writes the status once | |
//!
//! A plan either acts or is remembered, never both: what is to be remembered is written into the
//! status, and the next reconcile acts on it. The status is written on every path, also when
//! applying failed. Nothing that decides is remembered between two reconciles elsewhere. What pods
//! said last, and which were told to shed, is kept in [`crate::polls`] and [`crate::sheds`], and
//! forgetting it costs a few requests.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use lamplighter_api::ModelDeployment;
use lamplighter_plan::rollout::{Plan, World, check, decide};

use crate::context::Context;
use crate::error::Error;

pub mod apply;
pub mod blueprint;
pub mod collecting;
pub mod compare;
pub mod fetch;
pub mod fitting;
pub mod memory;
pub mod observe;
pub mod ownership;
pub mod publish;
pub mod render;
pub mod report;
pub mod resolving;
pub mod revision;
pub mod validate;

use apply::{Applied, Decided, Obstacle};
use fetch::Fetched;
use memory::Remembered;
use observe::Ages;
use report::Subject;
use validate::{Unfit, Valid};

/// Brings one `ModelDeployment` a step further and reports how it stands.
pub async fn reconcile(
    deployment: Arc<ModelDeployment>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    context.caches.synced().await?;
    let fetched = fetch::fetch(&context, &deployment).await;
    let now = context.now();
    let remembered = remembered(&deployment, &fetched, now);
    let subject =
        Subject { deployment: &deployment, fetched: &fetched, remembered: &remembered, now };
    let report = match validate::validate(&deployment, &fetched, &context.images) {
        Err(Unfit::Deleting) => return Ok(Action::await_change()),
        Err(Unfit::Incomplete(field)) => return Err(Error::Incomplete(field)),
        Err(Unfit::Invalid(invalid)) => report::invalid(&subject, &invalid),
        Ok(valid) => Box::pin(step(&context, &subject, &valid)).await,
    };
    publish::publish(&context, &deployment, report).await
}

/// Decides, acts and says what came of it.
async fn step(context: &Context, subject: &Subject<'_>, valid: &Valid) -> report::Report {
    let Subject { deployment, fetched, remembered, now } = subject;
    let ages = Ages::at(*now);
    let commands = memory::commands(deployment.annotations());
    let world = observe::world(valid, remembered, commands, fetched, &ages);
    let standing = observe::standing(valid, remembered, fetched, &ages);
    let plan = recovered(remembered, &world, decide(&world));
    let decided = Decided { valid, fetched, world: &world, plan: &plan, ages: &ages };
    let applied = if let Some(obstacle) = violated(context, &world, &plan) {
        Applied::nothing_because(obstacle)
    } else {
        let rendered = render::render(valid, &world, &plan, fetched);
        Box::pin(apply::apply(context, &decided, rendered)).await
    };
    report::planned(subject, &decided, &standing, applied)
}

/// What the status remembers. Where it remembers nothing although objects were written under a
/// memory, that one is lost: it is taken up from there.
fn remembered(
    deployment: &ModelDeployment,
    fetched: &Fetched,
    now: k8s_openapi::jiff::Timestamp,
) -> Remembered {
    let mut remembered = memory::remembered(deployment.status.as_ref(), now);
    for unread in &remembered.unread {
        tracing::warn!(unread, "a part of the status cannot be read and is left out");
    }
    let latest = observe::latest_epoch(fetched);
    if remembered.is_lost && latest > 0 {
        tracing::warn!(epoch = latest, "the memory in the status is lost and begun anew");
        remembered.memory.epoch = latest;
    }
    remembered
}

/// On a memory that was begun anew nothing is done before it is written: that fails if the status
/// was only not seen yet.
fn recovered(remembered: &Remembered, world: &World, plan: Plan) -> Plan {
    let is_new = remembered.is_lost && world.memory.epoch > 0;
    if !is_new || plan.remembers(&world.memory) {
        return plan;
    }
    let mut memory = world.memory.clone();
    memory.epoch = memory.epoch.saturating_add(1);
    Plan { actions: Vec::new(), memory, wake: None, notes: Vec::new() }
}

/// A plan that breaks an invariant is a bug; acting on it could end the service that it is about.
fn violated(context: &Context, world: &World, plan: &Plan) -> Option<Obstacle> {
    let violations = check::violations(world, plan);
    for violation in &violations {
        context.metrics.violated(violation.name());
        tracing::error!(%violation, ?world, ?plan, "a plan breaks an invariant");
    }
    (!violations.is_empty()).then_some(Obstacle::Plan(violations))
}
