//! Step 6: brings the children to what they should be.
//!
//! # Rules
//!
//! - Only objects with our owner uid are written. A foreign object of a name that we need is
//!   named in the error and left alone.
//! - What is already as it should be is not written.
//! - Every write to an existing object carries its uid and resourceVersion: a decision that was
//!   made on an old view is refused by the apiserver and made again.
//! - A name that is in no cache is looked up before it is created: a foreign object has not our
//!   label and is in no cache, and an apply would merge into it. What appears in between meets an
//!   apply without force, which the apiserver refuses where values differ.
//! - The order is fixed, and any prefix is safe: see [`apply`].

mod act;
mod outcome;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use lamplighter_api::names;
use lamplighter_plan::rollout::{Action, Plan, World};
use serde_json::json;
use tokio::time::timeout;

use super::collecting;
use super::fetch::Fetched;
use super::observe::{self, Ages};
use super::render::Rendered;
use super::resolving;
use super::validate::Valid;
use crate::context::Context;
use writer::{Writer, metadata};

pub use outcome::{Applied, ApplyError, Change, ObjectName, Obstacle};

/// How long all of it may take. What a slow admission webhook did not let through by then is
/// reported and tried again: enough of the reconcile's own minute must be left for the status.
const APPLY_DEADLINE: Duration = Duration::from_secs(40);

/// What is to be brought about, and what it was decided on.
pub struct Decided<'a> {
    /// The spec.
    pub valid: &'a Valid,
    /// What was seen.
    pub fetched: &'a Fetched,
    /// The same in the plan's words.
    pub world: &'a World,
    /// What to do.
    pub plan: &'a Plan,
    /// Ages of what was seen.
    pub ages: &'a Ages,
}

/// Brings the children to what they should be.
///
/// The order: what was learned is recorded first, because it must not be lost; the record and the
/// manifest before the workload whose pods mount it; Service and budgets before the first pod; then
/// the plan's actions in the plan's order; last what nobody needs any more. Stops at the first
/// failure and at a deadline.
///
/// A plan that is to be remembered does nothing here, and neither does one on a memory that is out
/// of date.
pub async fn apply(context: &Context, decided: &Decided<'_>, rendered: Rendered) -> Applied {
    if decided.world.overtaken || decided.plan.remembers(&decided.world.memory) {
        return Applied::default();
    }
    let identity = &decided.valid.identity;
    let mut writer = Writer {
        client: context.client.clone(),
        metrics: context.metrics.clone(),
        owner: identity.owner.clone(),
        namespace: identity.namespace.clone(),
        changes: Vec::new(),
    };
    let steps = async {
        note_down(&mut writer, decided).await?;
        accompany(&mut writer, decided, &rendered).await?;
        for action in &decided.plan.actions {
            act::act(context, &mut writer, decided, action).await?;
        }
        tidy_up(&mut writer, decided, &rendered).await
    };
    let failure = match timeout(APPLY_DEADLINE, steps).await {
        Ok(outcome) => outcome.err().map(Obstacle::Child),
        Err(_) => Some(Obstacle::Late(APPLY_DEADLINE)),
    };
    Applied { changes: writer.changes, failure }
}

/// What was found out is written where the next decision finds it.
async fn note_down(writer: &mut Writer, decided: &Decided<'_>) -> Result<(), ApplyError> {
    let memory = &decided.world.memory;
    let unmarked = resolving::unmarked(memory, decided.fetched);
    for record in &unmarked {
        let annotation =
            json!({"metadata": {"annotations": {names::ANNOTATION_SERVED: names::SERVED}}});
        writer.merge(record.as_ref(), annotation).await?;
    }
    for record in resolving::voided(memory, decided.fetched) {
        let annotation = json!({"metadata": {"annotations": {names::ANNOTATION_RESOLVED: null}}});
        writer.merge(record.as_ref(), annotation).await?;
    }
    let learned = resolving::learned(memory, decided.fetched).into_iter();
    // What was just written is not what was seen any more: the next step sees it.
    for (record, found) in learned.filter(|(record, _)| !unmarked.contains(record)) {
        let annotation = json!({"metadata": {"annotations": {names::ANNOTATION_RESOLVED: found}}});
        writer.merge(record.as_ref(), annotation).await?;
    }
    for (pod, exits) in observe::to_forgive(decided.fetched, decided.ages) {
        let exits = exits.to_string();
        let annotation =
            json!({"metadata": {"annotations": {names::ANNOTATION_FORGIVEN_EXITS: exits}}});
        writer.merge(pod.as_ref(), annotation).await?;
    }
    Ok(())
}

/// What accompanies the workloads.
async fn accompany(
    writer: &mut Writer,
    decided: &Decided<'_>,
    rendered: &Rendered,
) -> Result<(), ApplyError> {
    let Rendered { record, manifest, service, preview, disruption_budgets } = rendered;
    let fetched = decided.fetched;
    writer.ensure_exists(record, metadata(&fetched.records, record)).await?;
    writer.ensure_exists(manifest, metadata(&fetched.manifests, manifest)).await?;
    // Whoever moves it writes all of it.
    let is_moved =
        decided.plan.actions.iter().any(|action| matches!(action, Action::Select { .. }));
    if !(is_moved && fetched.service.is_some()) {
        writer.ensure_equal(service, fetched.service.as_deref()).await?;
    }
    for budget in disruption_budgets {
        writer.ensure_equal(budget, cached(&fetched.disruption_budgets, budget)).await?;
    }
    if let Some(preview) = preview {
        writer.ensure_equal(preview, fetched.preview.as_deref()).await?;
    }
    Ok(())
}

/// What nobody needs any more goes.
async fn tidy_up(
    writer: &mut Writer,
    decided: &Decided<'_>,
    rendered: &Rendered,
) -> Result<(), ApplyError> {
    let Decided { valid, fetched, world, ages, .. } = decided;
    let collector = collecting::wanted(valid, world, fetched, ages.now());
    if let Some(job) = &collector {
        writer.ensure_exists(job, metadata(&fetched.collectors, job)).await?;
    }
    let is_wanted = |found: &PartialObjectMeta<Job>| {
        collector.as_ref().is_some_and(|job| job.metadata.name == found.metadata.name)
    };
    for job in fetched.collectors.iter().filter(|job| !is_wanted(job)) {
        writer.delete::<Job>(job.meta()).await?;
    }
    for pod in resolving::obsolete(valid, &world.memory, fetched, ages) {
        writer.delete::<Pod>(pod.meta()).await?;
    }
    if let Some(preview) = fetched.preview.as_ref().filter(|_| rendered.preview.is_none()) {
        writer.delete_ours::<Service>(preview.meta()).await?;
    }
    let is_kept = |budget: &PodDisruptionBudget| {
        rendered.disruption_budgets.iter().any(|kept| kept.name_any() == budget.name_any())
    };
    for budget in fetched.disruption_budgets.iter().filter(|budget| !is_kept(budget)) {
        writer.delete_ours::<PodDisruptionBudget>(budget.meta()).await?;
    }
    Ok(())
}

fn cached<'a, K: Resource>(found: &'a [Arc<K>], rendered: &K) -> Option<&'a K> {
    let name = rendered.meta().name.as_ref();
    found.iter().map(AsRef::as_ref).find(|cached| cached.meta().name.as_ref() == name)
}
