//! Models that come from a volume or from the worker's own image instead of a store.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use lamplighter_e2e::call::{Connections, cosine};
use lamplighter_e2e::fixtures::{TinyBert, Variant};
use lamplighter_e2e::spec::{MODEL, With as _, tiny};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

const NAME: &str = "sourced";
const TEXT: &str = "a candle in the window";

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_model_baked_into_the_workers_image_is_served() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let path = format!("image:///models/{}", Variant::SECOND.prefix());
        let manifest = tiny(NAME, Variant::SECOND)
            .with("/spec/models/0/source", json!({"uri": path}))
            .with("/spec/worker/image", json!(scene.settings.worker_baked_image));
        serves(&scene, &manifest, Variant::SECOND).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_model_on_a_claim_is_served() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let fill = |folder: &Path| Variant::SOUND.write(&folder.join(Variant::SOUND.prefix()));
        let volume = Volume::provide(&scene, fill).await?;
        let manifest = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/source", json!({"uri": "pvc://models/tiny/sound"}));
        let served = serves(&scene, &manifest, Variant::SOUND).await;
        let removed = volume.remove(&scene).await;
        served.and(removed)
    })
    .await
}

async fn serves(scene: &Scene, manifest: &Value, variant: Variant) -> anyhow::Result<()> {
    scene.apply(manifest).await?;
    let deployment = scene.ready(NAME).await?;
    let status = deployment.status.context("no status")?;
    let models = status.active.context("no active revision")?.models;
    ensure!(models.len() == 1 && models[0].digest.starts_with("sha256:"), "{models:?}");
    let vectors = scene.caller(NAME, Connections::Fresh).await?.embed(MODEL, &[TEXT]).await?;
    let expected = TinyBert::seeded(variant.seed).embed(TEXT).context("unknown word")?;
    let found = cosine(&vectors[0], &expected);
    ensure!(found > 0.9995, "cosine {found} to the expected answer");
    Ok(())
}

/// A folder of this machine, which is the node, as a local `PersistentVolume`.
pub(crate) struct Volume {
    name: String,
    folder: PathBuf,
}

impl Volume {
    /// Makes the folder, filled by `fill`, the volume, and a claim `models` that is bound to it.
    pub(crate) async fn provide(
        scene: &Scene,
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let nodes: Api<Node> = Api::all(scene.client.clone());
        let nodes = nodes.list(&ListParams::default()).await?.items;
        ensure!(nodes.len() == 1, "{} nodes; which one is this machine?", nodes.len());
        let folder = scene.settings.repo.join(".local/e2e/volumes").join(&scene.namespace);
        fill(&folder)?;
        let name = scene.namespace.clone();
        let volume = local_volume(&name, &folder, &nodes[0].name_any(), &scene.namespace);
        scene.apply(&volume).await?;
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
            "spec": {"storageClassName": "", "volumeName": name, "accessModes": ["ReadOnlyMany"],
                "resources": {"requests": {"storage": "16Mi"}}},
        });
        scene.apply(&claim).await?;
        Ok(Self { name, folder })
    }

    /// Removes volume and folder; the claim goes with its namespace.
    pub(crate) async fn remove(self, scene: &Scene) -> anyhow::Result<()> {
        let volumes: Api<PersistentVolume> = Api::all(scene.client.clone());
        volumes.delete(&self.name, &DeleteParams::default()).await?;
        std::fs::remove_dir_all(&self.folder)
            .with_context(|| format!("{} cannot be removed", self.folder.display()))
    }
}

fn local_volume(name: &str, folder: &Path, node: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "16Mi"},
            "accessModes": ["ReadOnlyMany"],
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
