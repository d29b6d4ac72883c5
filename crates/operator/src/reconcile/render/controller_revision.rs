//! The record of a revision: what the user wished for, and the image that was resolved for it.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use lamplighter_api::names;

use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::render::metadata;

pub(super) fn render(blueprint: &Blueprint, sequence: i64) -> ControllerRevision {
    let (identity, revision) = (&blueprint.identity, blueprint.revision.as_str());
    ControllerRevision {
        metadata: metadata(
            identity,
            names::revision_object(&identity.name, revision),
            names::record_labels(&identity.name, revision),
        ),
        data: Some(RawExtension(blueprint.snapshot.to_record())),
        revision: sequence,
    }
}
