//! A pod is told to stop while requests keep coming.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use lamplighter_e2e::call::Connections;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::load::{Load, first_vector};
use lamplighter_e2e::spec::{MODEL, With as _, tiny};
use lamplighter_e2e::wait::Look;
use lamplighter_e2e::{Turn, with_namespace};
use serde_json::json;

const NAME: &str = "draining";

/// Guarantees: drain-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_pod_that_is_told_to_stop_loses_no_request() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND).with("/spec/replicas", json!(2))).await?;
        scene.ready(NAME).await?;
        let before = scene.pods(NAME).await?;
        ensure!(before.len() == 2, "{} pods", before.len());
        let leaving = before.first().context("no pod")?;
        let leaving_uid = leaving.uid().context("no uid")?;

        let mut callers = Vec::new();
        for connections in
            [Connections::Fresh, Connections::Fresh, Connections::Kept, Connections::Kept]
        {
            callers.push(scene.caller(NAME, connections).await?);
        }
        let load =
            Load::start(callers, MODEL, "the lamp burns", |answer| first_vector(answer).map(drop));
        load.under_way(50).await?;
        scene.kubectl(&["delete", "pod", &leaving.name_any(), "--wait=false"], "").await?;
        scene
            .wait_for(
                &leaving.name_any(),
                "the pod is gone",
                Duration::from_mins(1),
                |found: Option<&Pod>| {
                    Look::when(
                        found.and_then(ResourceExt::uid).as_ref() != Some(&leaving_uid),
                        || format!("{:?}", found.and_then(|pod| pod.status.as_ref())),
                    )
                },
            )
            .await?;
        scene.ready(NAME).await?;
        let after = scene.pod_uids(NAME).await?;
        ensure!(after.len() == 2 && !after.contains(&leaving_uid), "{after:?}");
        let arrived = scene.heard_from(NAME, &after).await;
        let tally = load.stop().await?;
        arrived?;

        ensure!(
            tally.failures.is_empty(),
            "{} failed, the first: {:?}",
            tally.failures.len(),
            tally.failures.first()
        );
        ensure!(tally.answered > 100, "only {} requests", tally.answered);
        ensure!(
            tally.by_pod.contains_key(&leaving_uid),
            "{leaving_uid} never answered: {:?}",
            tally.by_pod
        );
        Ok(())
    })
    .await
}
