//! Models that cannot be in the memory of a pod are refused before there is one.

use anyhow::{Context as _, ensure};
use lamplighter_api::ModelDeployment;
use lamplighter_e2e::fixtures::{BUCKET, Variant};
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::{With as _, tiny};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

const NAME: &str = "heavy";
const REFUSED: &str = "HostMemoryExceeded";

/// The real model, whose weights take 87 MiB, in pods with this limit.
fn heavy(limit: &str) -> Value {
    tiny(NAME, Variant::SOUND)
        .with("/spec/models/0/source/uri", json!(format!("s3://{BUCKET}/all-MiniLM-L6-v2")))
        .with(
            "/spec/models/0/validation",
            json!({"cases": [{
                "name": "near",
                "similarity": {"texts": ["a cat", "a kitten"], "atLeast": "0.6"},
            }]}),
        )
        .with("/spec/worker/resources/limits", json!({"cpu": "2", "memory": limit}))
}

/// Guarantees: capacity-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn models_that_cannot_be_in_memory_get_no_pod_and_say_what_they_need() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let pods = scene.record_pods(NAME);
        scene.apply(&heavy("64Mi")).await?;
        let told = refused(&scene).await?;
        ensure!(told.contains("MiB of 64 MiB usable"), "{told}");
        ensure!(pods.finish()?.is_empty(), "a pod was made for what cannot fit");

        scene.apply(&heavy("512Mi")).await?;
        let ready = scene.settled(NAME).await?;
        let measured = measured(&ready)?;
        ensure!((88..512).contains(&measured), "{measured} MiB were measured");
        let serving = scene.pod_uids(NAME).await?;

        scene.apply(&heavy(&format!("{}Mi", measured - 3))).await?;
        let told = refused(&scene).await?;
        let said =
            format!("a pod needs {measured} MiB of {} MiB usable, as was measured", measured - 3);
        ensure!(told.contains(&said), "{told}");
        ensure!(scene.pod_uids(NAME).await? == serving, "what serves was touched");
        Ok(())
    })
    .await
}

/// What is said when it is refused.
async fn refused(scene: &Scene) -> anyhow::Result<String> {
    let told =
        scene.wait_for_condition(NAME, "Stalled", "True", Some(REFUSED), READY_DEADLINE).await?;
    let status = told.status.context("no status")?;
    let stalled = status.conditions.into_iter().find(|condition| condition.type_ == "Stalled");
    Ok(stalled.context("no condition Stalled")?.message)
}

/// Mebibytes that a pod took, as the status has it.
fn measured(deployment: &ModelDeployment) -> anyhow::Result<u64> {
    let active = deployment.status.as_ref().and_then(|status| status.active.as_ref());
    let memory = active.and_then(|active| active.memory.as_deref());
    let memory = memory.context("the status does not tell what a pod took")?;
    Ok(memory.strip_suffix("Mi").context("another unit")?.parse()?)
}
