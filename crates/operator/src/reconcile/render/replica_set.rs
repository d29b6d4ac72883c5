//! The workload of a revision.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use lamplighter_api::names;
use lamplighter_plan::rollout::Environment;

use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::render::{Digests, metadata, pod};

pub(super) fn render(
    blueprint: &Blueprint,
    digests: &Digests,
    environment: Environment,
    replicas: u32,
    epoch: u64,
) -> ReplicaSet {
    let (identity, revision) = (&blueprint.identity, blueprint.revision.as_str());
    let environment = environment.as_str();
    ReplicaSet {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([(
                names::ANNOTATION_EPOCH.to_owned(),
                epoch.to_string(),
            )])),
            ..metadata(
                identity,
                names::revision_object(&identity.name, revision),
                names::revision_labels(&identity.name, environment, revision),
            )
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            // Without the traffic label: a pod that is withdrawn stays in its ReplicaSet.
            selector: LabelSelector {
                match_labels: Some(names::replica_set_selector(
                    &identity.name,
                    environment,
                    revision,
                )),
                ..LabelSelector::default()
            },
            template: Some(pod::template(blueprint, environment, digests)),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    }
}
