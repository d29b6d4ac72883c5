//! Models that no GPU of the cluster can hold, and what is said of them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use lamplighter_e2e::fixtures::{BUCKET, Variant};
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::{With as _, tiny};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::json;

const NAME: &str = "large";
const MEMORY: &str = "nvidia.com/gpu.memory";

/// A node without a kubelet, whose labels say how large its GPUs are. Nothing is ever placed there.
async fn with_node<T>(
    scene: &Scene,
    mebibytes: &str,
    story: impl AsyncFnOnce(&str) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let name = format!("gpus-of-{}", scene.namespace);
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, MEMORY: mebibytes}},
        "spec": {"unschedulable": true},
    });
    scene.kubectl(&["create", "-f", "-"], &node.to_string()).await?;
    let status = json!({"status": {
        "capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "8"},
    }});
    let patch = status.to_string();
    let patched = ["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &patch];
    let told = match scene.kubectl(&patched, "").await {
        Ok(_) => story(&name).await,
        Err(error) => Err(error),
    };
    scene.kubectl(&["delete", "node", &name, "--wait=false"], "").await?;
    told
}

/// Guarantees: capacity-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn models_that_no_gpu_can_hold_get_no_pod_until_there_is_a_larger_one() -> anyhow::Result<()>
{
    with_namespace(Turn::Shared, async |scene| {
        // The real model, whose weights take 87 MiB. What it is, is read while it runs on processors:
        // on the other node nothing is read.
        let on_processors = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/source/uri", json!(format!("s3://{BUCKET}/all-MiniLM-L6-v2")))
            .with("/spec/models/0/validation", json!({"mode": "Disabled"}))
            .with("/spec/worker/resources/limits", json!({"memory": "512Mi"}));
        scene.apply(&on_processors).await?;
        scene.settled(NAME).await?;
        let serving = scene.pods(NAME).await?;
        let image =
            serving.first().and_then(|pod| pod.spec.as_ref()?.containers.first()?.image.clone());
        let image = image.context("the pods have no image")?;

        with_node(&scene, "64", async |node| {
            let on_gpus = on_processors
                .with("/spec/worker/device", json!("Cuda"))
                .with("/spec/worker/image", json!(image))
                .with("/spec/worker/nodeSelector", json!({"kubernetes.io/hostname": node}))
                .with(
                    "/spec/worker/resources/limits",
                    json!({"memory": "512Mi", "nvidia.com/gpu": "1"}),
                );
            scene.apply(&on_gpus).await?;
            let reason = Some("DeviceMemoryExceeded");
            let told =
                scene.wait_for_condition(NAME, "Ready", "False", reason, READY_DEADLINE).await?;
            let status = told.status.context("no status")?;
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            let message = &ready.context("no condition Ready")?.message;
            ensure!(message.contains("MiB of 64 MiB usable on the largest GPU"), "{message}");
            ensure!(
                scene.pods(NAME).await?.len() == serving.len(),
                "a pod was made for what cannot fit"
            );

            let larger = format!("{MEMORY}=40960");
            scene.kubectl(&["label", "node", node, "--overwrite", &larger], "").await?;
            let begun = tokio::time::Instant::now();
            while scene.pods(NAME).await?.len() == serving.len() {
                ensure!(begun.elapsed() < READY_DEADLINE, "no pod was made for the larger GPU");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(())
        })
        .await
    })
    .await
}
