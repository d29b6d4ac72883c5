//! Models that come from a volume or from the worker's own image instead of a store.

use std::path::Path;

use anyhow::{Context as _, ensure};
use lamplighter_e2e::call::{Connections, cosine};
use lamplighter_e2e::fixtures::{TinyBert, Variant};
use lamplighter_e2e::spec::{MODEL, With as _, tiny};
use lamplighter_e2e::volume::{Access, Volume};
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
        let volume = Volume::provide(&scene, Access::ReadOnly, fill).await?;
        let manifest = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/source", json!({"uri": "pvc://models/tiny/sound"}));
        let served = serves(&scene, &manifest, Variant::SOUND).await;
        let removed = volume.remove(&scene).await;
        served.and(removed)
    })
    .await
}

/// The worker's image with models in it, as a volume of a worker without.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_model_in_an_image_volume_is_served() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let image = &scene.settings.worker_baked_image;
        let uri = format!("oci://{image}/models/{}", Variant::SECOND.prefix());
        let manifest =
            tiny(NAME, Variant::SECOND).with("/spec/models/0/source", json!({"uri": uri}));
        serves(&scene, &manifest, Variant::SECOND).await
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
