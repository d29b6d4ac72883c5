//! The record of a revision: what the user wished for, and the image that was resolved for it.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use lamplighter_api::names;

use crate::reconcile::render::metadata;
use crate::reconcile::validate::{ENVIRONMENT, Valid};

pub(super) fn render(valid: &Valid) -> ControllerRevision {
    let revision = valid.revision.as_str();
    ControllerRevision {
        metadata: metadata(
            valid,
            names::revision_object(&valid.name, revision),
            names::revision_labels(&valid.name, ENVIRONMENT, revision),
        ),
        data: Some(RawExtension(valid.snapshot.to_record())),
        revision: valid.sequence,
    }
}
