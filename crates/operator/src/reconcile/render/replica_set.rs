//! The workload of a revision.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use lamplighter_api::names;

use crate::reconcile::render::{metadata, pod};
use crate::reconcile::validate::{ENVIRONMENT, Valid};

pub(super) fn render(valid: &Valid) -> ReplicaSet {
    let revision = valid.revision.as_str();
    ReplicaSet {
        metadata: metadata(
            valid,
            names::revision_object(&valid.name, revision),
            names::revision_labels(&valid.name, ENVIRONMENT, revision),
        ),
        spec: Some(ReplicaSetSpec {
            replicas: Some(i32::try_from(valid.replicas).unwrap_or(i32::MAX)),
            // Without the traffic label: a pod that is withdrawn stays in its ReplicaSet.
            selector: LabelSelector {
                match_labels: Some(names::replica_set_selector(&valid.name, ENVIRONMENT, revision)),
                ..LabelSelector::default()
            },
            template: Some(pod::template(valid)),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    }
}
