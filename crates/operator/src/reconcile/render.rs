//! Step 5: what the children should be. Pure: the same input gives the same bytes.
//!
//! Labels and annotations of the `ModelDeployment` are not copied: tools such as Argo CD would
//! take the children for objects of their own.

mod config_map;
mod controller_revision;
mod disruption_budget;
mod pod;
mod replica_set;
mod service;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use lamplighter_plan::{Action, Plan};

use super::validate::Valid;

/// What the children should be, and what is to be done to workloads. Consumed by
/// [`super::apply::apply`], which takes it apart field by field: a child that is added here and
/// not applied there does not compile.
#[derive(Debug)]
pub struct Rendered {
    /// Whose children these are.
    pub owner: OwnerReference,
    /// Where they are.
    pub namespace: String,
    /// The deployment's name.
    pub name: String,
    /// The record of the wanted revision. Written once.
    pub record: ControllerRevision,
    /// The manifest of the wanted revision. Written once.
    pub manifest: ConfigMap,
    /// The Service. Kept as it is here.
    pub service: Service,
    /// The disruption budget. Kept as it is here.
    pub disruption_budget: PodDisruptionBudget,
    /// The workload of the wanted revision, with the replicas that it is created with. Written
    /// once; afterwards only its replicas are.
    pub workload: ReplicaSet,
    /// What is to be done to workloads and records, in this order.
    pub actions: Vec<Action>,
}

/// What the children should be.
pub fn render(valid: &Valid, plan: &Plan) -> Rendered {
    Rendered {
        owner: valid.owner.clone(),
        namespace: valid.namespace.clone(),
        name: valid.name.clone(),
        record: controller_revision::render(valid),
        manifest: config_map::render(valid),
        service: service::render(valid),
        disruption_budget: disruption_budget::render(valid),
        workload: replica_set::render(valid),
        actions: plan.actions.clone(),
    }
}

fn metadata(valid: &Valid, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}
