//! Step 5: what the children should be. Pure: the same input gives the same bytes.
//!
//! Labels and annotations of the `ModelDeployment` are not copied: tools such as Argo CD would
//! take the children for objects of their own.

mod collector;
mod config_map;
mod controller_revision;
mod disruption_budget;
mod pod;
mod replica_set;
mod resolver;
mod service;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use lamplighter_plan::rollout::{Environment, Plan, World};

pub use pod::{Digests, Pinned};

use super::blueprint::{Blueprint, Identity};
use super::fetch::Fetched;
use super::observe::epoch;
use super::revision::Snapshot;
use super::validate::{Invalid, Valid};

/// What the children should be that accompany the workloads. Consumed by [`super::apply::apply`],
/// which takes it apart field by field: a child that is added here and not applied there does not
/// compile.
#[derive(Debug)]
pub struct Rendered {
    /// The record of the wanted revision. Written once.
    pub record: ControllerRevision,
    /// The manifest of the wanted revision. Written once.
    pub manifest: ConfigMap,
    /// The Service. Kept as it is here, and as the plan's actions move it.
    pub service: Service,
    /// Where the candidate can be tried, if there is one apart from what serves.
    pub preview: Option<Service>,
    /// The budgets of the environments that serve or are kept.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
}

/// What the children should be that accompany the workloads.
pub fn render(valid: &Valid, world: &World, plan: &Plan, fetched: &Fetched) -> Rendered {
    let identity = &valid.identity;
    let active = plan.memory.active.as_ref().map(|active| active.environment);
    // Only an action moves it: what is selected stays selected until one does.
    let selects = world.service.selects.or(active).unwrap_or(Environment::Blue);
    let written = fetched.service.as_ref().and_then(|service| epoch(service.as_ref()));
    Rendered {
        record: controller_revision::render(&valid.wanted, valid.sequence),
        manifest: config_map::render(&valid.wanted),
        service: service::render(identity, &valid.service, selects, written),
        preview: previewed(world, plan)
            .map(|environment| service::preview(identity, &valid.service, environment)),
        disruption_budgets: guarded(world, plan)
            .into_iter()
            .map(|environment| disruption_budget::render(identity, environment))
            .collect(),
    }
}

/// The Service, moved to an environment.
pub fn selecting(valid: &Valid, environment: Environment, epoch: u64) -> Service {
    service::render(&valid.identity, &valid.service, environment, Some(epoch))
}

/// The workload of a revision.
pub fn workload(
    blueprint: &Blueprint,
    digests: &Digests,
    environment: Environment,
    replicas: u32,
    epoch: u64,
) -> ReplicaSet {
    replica_set::render(blueprint, digests, environment, replicas, epoch)
}

/// The manifest of a revision.
pub fn manifest(blueprint: &Blueprint) -> ConfigMap {
    config_map::render(blueprint)
}

/// The pod that reads what the models of a revision are.
pub fn resolver(valid: &Valid, blueprint: &Blueprint) -> Pod {
    resolver::render(blueprint, valid.policy.progress)
}

/// The Job that cleans a shared cache up; `known` are the revisions that there are at `as_of`, and
/// `hash` is their name.
pub fn collector(
    blueprint: &Blueprint,
    known: &BTreeSet<String>,
    hash: &str,
    as_of: Timestamp,
) -> Job {
    collector::render(blueprint, known, hash, as_of)
}

/// What a revision's objects are made from: the wanted one's are the spec, all others' their
/// record. None when there is no record that can be read.
pub fn blueprint(
    valid: &Valid,
    fetched: &Fetched,
    revision: &lamplighter_plan::RevisionId,
) -> Option<Result<Blueprint, Invalid>> {
    if *revision == valid.wanted.revision {
        return Some(Ok(valid.wanted.clone()));
    }
    let record = fetched
        .records
        .iter()
        .find(|record| super::observe::revision_of(record.as_ref()).as_ref() == Some(revision))?;
    Some(Blueprint::of(&valid.identity, Snapshot::from_record(record)?))
}

/// The environment of a candidate that does not serve yet, apart from what does.
fn previewed(world: &World, plan: &Plan) -> Option<Environment> {
    use lamplighter_plan::rollout::Phase;
    match &plan.memory.phase {
        Phase::Gating(rollout, _) | Phase::AwaitingPromotion(rollout, _)
            if rollout.from.is_some() =>
        {
            world.placed(&rollout.to).map(|_| rollout.to.environment)
        }
        _ => None,
    }
}

/// The environments whose pods a node drain takes one at a time: those that serve or are kept.
fn guarded(world: &World, plan: &Plan) -> Vec<Environment> {
    let memory = &plan.memory;
    let serving = world.service.selects;
    Environment::ALL
        .into_iter()
        .filter(|environment| {
            Some(*environment) == serving
                || world.workloads().any(|(id, workload)| {
                    let placed = lamplighter_plan::rollout::Placed {
                        revision: id.clone(),
                        environment: workload.environment,
                    };
                    workload.environment == *environment && memory.needs(&placed)
                })
        })
        .collect()
}

fn metadata(identity: &Identity, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(identity.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![identity.owner.clone()]),
        ..ObjectMeta::default()
    }
}
