//! One action of the plan.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Resource, ResourceExt};
use lamplighter_api::names;
use lamplighter_plan::rollout::{Action, Environment, Placed};
use lamplighter_plan::{PodName, RevisionId};
use serde_json::{Value, json};

use super::outcome::{ApplyError, Change};
use super::writer::{Effect, Writer};
use super::{Decided, metadata};
use crate::context::Context;
use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::observe::revision_of;
use crate::reconcile::{render, resolving};

/// The cost of deleting a pod that was withdrawn: the lowest of its ReplicaSet.
const WITHDRAWN_COST: &str = "-1000";

/// Carries out one action of the plan.
pub(super) async fn act(
    context: &Context,
    writer: &mut Writer,
    decided: &Decided<'_>,
    action: &Action,
) -> Result<(), ApplyError> {
    let effect = match action {
        Action::Resolve(revision) => resolve(writer, decided, revision).await?,
        Action::Create { placed, replicas } => create(writer, decided, placed, *replicas).await?,
        Action::Scale { revision, to, .. } => scale(writer, decided, revision, *to).await?,
        Action::Select { to, .. } => select(writer, decided, *to).await?,
        Action::Withdraw(pod) => {
            relabel(writer, decided, pod, &Value::Null, &json!(WITHDRAWN_COST)).await?
        }
        Action::Restore(pod) => {
            relabel(writer, decided, pod, &json!(names::TRAFFIC), &Value::Null).await?
        }
        Action::Shed(revision) => {
            shed(context, decided, revision).await;
            Effect::None
        }
        Action::Validate(revision) => {
            validate(context, decided, revision).await;
            Effect::None
        }
        Action::Delete(revision) => delete(writer, decided, revision).await?,
        Action::Forget(revision) => forget(writer, decided, revision).await?,
    };
    if effect == Effect::Changed {
        writer.changes.push(Change::Done(action.clone()));
    }
    Ok(())
}

fn blueprint(decided: &Decided<'_>, revision: &RevisionId) -> Result<Blueprint, ApplyError> {
    match render::blueprint(decided.valid, decided.fetched, revision) {
        Some(Ok(blueprint)) => Ok(blueprint),
        Some(Err(invalid)) => {
            Err(ApplyError::Unreadable { revision: revision.clone(), problem: invalid.to_string() })
        }
        None => Err(ApplyError::Unreadable {
            revision: revision.clone(),
            problem: "there is no record of it".to_owned(),
        }),
    }
}

/// What is written down was refused for what it is, and reading it again would not change that. A pod
/// that has finished is in the way of the next attempt.
async fn resolve(
    writer: &mut Writer,
    decided: &Decided<'_>,
    revision: &RevisionId,
) -> Result<Effect, ApplyError> {
    if resolving::is_recorded(decided.fetched, revision) {
        return Ok(Effect::None);
    }
    match resolving::resolver(decided.fetched, revision) {
        Some(pod) if resolving::has_finished(pod) => writer.delete::<Pod>(pod.meta()).await,
        Some(_) => Ok(Effect::None),
        None => {
            let blueprint = blueprint(decided, revision)?;
            ensure_manifest(writer, decided, &blueprint).await?;
            writer.ensure_exists(&render::resolver(decided.valid, &blueprint), None).await
        }
    }
}

async fn ensure_manifest(
    writer: &mut Writer,
    decided: &Decided<'_>,
    blueprint: &Blueprint,
) -> Result<(), ApplyError> {
    let manifest = render::manifest(blueprint);
    writer.ensure_exists(&manifest, metadata(&decided.fetched.manifests, &manifest)).await?;
    Ok(())
}

async fn create(
    writer: &mut Writer,
    decided: &Decided<'_>,
    placed: &Placed,
    replicas: u32,
) -> Result<Effect, ApplyError> {
    let blueprint = blueprint(decided, &placed.revision)?;
    ensure_manifest(writer, decided, &blueprint).await?;
    let epoch = decided.world.memory.epoch;
    let digests = resolving::digests(decided.fetched, &placed.revision);
    let workload = render::workload(&blueprint, &digests, placed.environment, replicas, epoch);
    writer.ensure_exists(&workload, None).await
}

async fn scale(
    writer: &Writer,
    decided: &Decided<'_>,
    revision: &RevisionId,
    to: u32,
) -> Result<Effect, ApplyError> {
    let Some(set) = of_revision(&decided.fetched.replica_sets, revision) else {
        return Ok(Effect::None);
    };
    let epoch = decided.world.memory.epoch.to_string();
    let fields = json!({
        "metadata": {"annotations": {names::ANNOTATION_EPOCH: epoch}},
        "spec": {"replicas": to},
    });
    writer.merge(set.as_ref(), fields).await
}

/// The one write that moves requests from one environment to another.
async fn select(
    writer: &Writer,
    decided: &Decided<'_>,
    to: Environment,
) -> Result<Effect, ApplyError> {
    let Some(service) = &decided.fetched.service else { return Ok(Effect::None) };
    let moved = render::selecting(decided.valid, to, decided.world.memory.epoch);
    writer.apply(&moved, service.as_ref()).await
}

async fn relabel(
    writer: &Writer,
    decided: &Decided<'_>,
    pod: &PodName,
    traffic: &Value,
    cost: &Value,
) -> Result<Effect, ApplyError> {
    let mut pods = decided.fetched.pods.iter();
    let Some(pod) = pods.find(|found| found.name_any() == pod.as_str()) else {
        return Ok(Effect::None);
    };
    let fields = json!({"metadata": {
        "labels": {names::LABEL_TRAFFIC: traffic},
        "annotations": {names::ANNOTATION_DELETION_COST: cost},
    }});
    writer.merge(pod.as_ref(), fields).await
}

/// A pod that cannot be reached keeps its connections until the time for it is over, so that is
/// no failure of the step.
async fn shed(context: &Context, decided: &Decided<'_>, revision: &RevisionId) {
    let epoch = decided.world.memory.epoch;
    let told = pods_of(decided, revision).map(|(address, uid)| async move {
        match context.reporter.shed(&address, &uid).await {
            Ok(()) => context.sheds.told(&uid, epoch, context.now()),
            Err(error) => tracing::debug!(address, %error, "a pod was not told to shed"),
        }
    });
    join_all(told).await;
}

async fn validate(context: &Context, decided: &Decided<'_>, revision: &RevisionId) {
    let told = pods_of(decided, revision).map(|(address, uid)| async move {
        if let Err(error) = context.reporter.validate(&address, &uid).await {
            tracing::debug!(address, %error, "a pod was not told to validate again");
        }
    });
    join_all(told).await;
}

/// Address and uid of the pods of a revision that have both.
fn pods_of<'a>(
    decided: &'a Decided<'_>,
    revision: &'a RevisionId,
) -> impl Iterator<Item = (String, String)> + 'a {
    decided
        .fetched
        .pods
        .iter()
        .filter(|pod| revision_of(pod.as_ref()).as_ref() == Some(revision))
        .filter_map(|pod| Some((pod.status.as_ref()?.pod_ip.clone()?, pod.uid()?)))
}

async fn delete(
    writer: &Writer,
    decided: &Decided<'_>,
    revision: &RevisionId,
) -> Result<Effect, ApplyError> {
    // The manifest first: while the workload is there, the deletion is decided again.
    if *revision != decided.valid.wanted.revision {
        delete_of::<ConfigMap>(writer, &decided.fetched.manifests, revision).await?;
    }
    delete_of::<ReplicaSet>(writer, &decided.fetched.replica_sets, revision).await
}

async fn forget(
    writer: &Writer,
    decided: &Decided<'_>,
    revision: &RevisionId,
) -> Result<Effect, ApplyError> {
    delete_of::<ConfigMap>(writer, &decided.fetched.manifests, revision).await?;
    delete_of::<ControllerRevision>(writer, &decided.fetched.records, revision).await
}

async fn delete_of<K: super::writer::Child>(
    writer: &Writer,
    cached: &[Arc<impl Resource>],
    revision: &RevisionId,
) -> Result<Effect, ApplyError> {
    match of_revision(cached, revision) {
        Some(found) => writer.delete::<K>(found.meta()).await,
        None => Ok(Effect::None),
    }
}

fn of_revision<'a, K: Resource>(cached: &'a [Arc<K>], revision: &RevisionId) -> Option<&'a Arc<K>> {
    cached.iter().find(|found| revision_of(found.as_ref()).as_ref() == Some(revision))
}
