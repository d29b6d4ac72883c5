//! The manifest of a revision. Immutable: the kubelet need not watch it, and no pod can ever
//! start with another manifest than the one that its revision is named after.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use lamplighter_api::names;

use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::render::metadata;

/// The file's name in the ConfigMap and, by the mount, in [`lamplighter_protocol::place::MANIFEST_DIR`].
pub(super) const FILE: &str = "manifest.json";

pub(super) fn render(blueprint: &Blueprint) -> ConfigMap {
    let (identity, revision) = (&blueprint.identity, blueprint.revision.as_str());
    ConfigMap {
        metadata: metadata(
            identity,
            names::revision_object(&identity.name, revision),
            names::record_labels(&identity.name, revision),
        ),
        data: Some(BTreeMap::from([(FILE.to_owned(), blueprint.manifest.clone())])),
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
