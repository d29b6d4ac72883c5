//! Volumes that outlive their pods, made of folders of this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::Scene;

/// What pods may do with a volume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Write to it, several at a time.
    ReadWrite,
}

impl Access {
    fn mode(self) -> &'static str {
        match self {
            Self::ReadOnly => "ReadOnlyMany",
            Self::ReadWrite => "ReadWriteMany",
        }
    }
}

/// A folder of this machine, which is the node, as a local `PersistentVolume`.
pub struct Volume {
    name: String,
    folder: PathBuf,
}

impl Volume {
    /// Makes the folder, filled by `fill`, the volume, and a claim `models` that is bound to it.
    pub async fn provide(
        scene: &Scene,
        access: Access,
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let nodes: Api<Node> = Api::all(scene.client.clone());
        let nodes = nodes.list(&ListParams::default()).await?.items;
        ensure!(nodes.len() == 1, "{} nodes; which one is this machine?", nodes.len());
        let folder = scene.settings.repo.join(".local/e2e/volumes").join(&scene.namespace);
        fill(&folder)?;
        let name = scene.namespace.clone();
        let volume = local_volume(&name, &folder, &nodes[0].name_any(), &scene.namespace, access);
        scene.apply(&volume).await?;
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
            "spec": {"storageClassName": "", "volumeName": name, "accessModes": [access.mode()],
                "resources": {"requests": {"storage": "16Mi"}}},
        });
        scene.apply(&claim).await?;
        Ok(Self { name, folder })
    }

    /// Where its files are on this machine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes volume and folder; the claim goes with its namespace.
    pub async fn remove(self, scene: &Scene) -> anyhow::Result<()> {
        let volumes: Api<PersistentVolume> = Api::all(scene.client.clone());
        volumes.delete(&self.name, &DeleteParams::default()).await?;
        std::fs::remove_dir_all(&self.folder)
            .with_context(|| format!("{} cannot be removed", self.folder.display()))
    }
}

fn local_volume(name: &str, folder: &Path, node: &str, namespace: &str, access: Access) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "16Mi"},
            "accessModes": [access.mode()],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": "models"},
            "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    })
}
