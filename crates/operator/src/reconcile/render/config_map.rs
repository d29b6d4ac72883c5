//! The manifest of a revision. Immutable: the kubelet need not watch it, and no pod can ever
//! start with another manifest than the one that its revision is named after.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use lamplighter_api::names;

use crate::reconcile::render::metadata;
use crate::reconcile::validate::{ENVIRONMENT, Valid};

/// The file's name in the ConfigMap and, by the mount, in [`lamplighter_protocol::place::MANIFEST_DIR`].
pub(super) const FILE: &str = "manifest.json";

pub(super) fn render(valid: &Valid) -> ConfigMap {
    let revision = valid.revision.as_str();
    ConfigMap {
        metadata: metadata(
            valid,
            names::revision_object(&valid.name, revision),
            names::revision_labels(&valid.name, ENVIRONMENT, revision),
        ),
        data: Some(BTreeMap::from([(FILE.to_owned(), valid.manifest.clone())])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_protocol::place;

    use super::*;

    #[test]
    fn the_worker_reads_the_file_that_is_mounted() {
        assert_eq!(format!("{}/{FILE}", place::MANIFEST_DIR), place::MANIFEST);
    }
}
