//! Who may ask.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use lamplighter_e2e::call::{Caller, Connections};
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::tiny;
use lamplighter_e2e::wait::{self, Look};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

const NAME: &str = "keyed";
/// A container that failed is started again after ten seconds, twenty, forty; then a model is loaded.
const AGAIN_DEADLINE: Duration = Duration::from_mins(3);
/// A kubelet writes what a Secret holds now when it next looks after the pod: once a minute, and up to half
/// as much again (<https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-files-from-a-pod>).
const KUBELET_DEADLINE: Duration = Duration::from_mins(3);

fn secret(keys: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "callers"},
        "stringData": {"keys.txt": keys},
    })
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn requests_need_a_key_of_a_secret_and_keys_are_replaced_without_a_restart()
-> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let mut manifest = tiny(NAME, Variant::SOUND);
        // The pods that failed are to find the Secret, and not others after them.
        manifest["spec"]["rollout"]["progressDeadlineSeconds"] = json!(240);
        manifest["spec"]["worker"]["apiKeys"] =
            json!({"secretKeyRef": {"name": "callers", "key": "keys.txt"}});
        scene.apply(&manifest).await?;
        let reason = Some("ApiKeysUnusable");
        let told = scene.wait_for_condition(NAME, "Ready", "False", reason, READY_DEADLINE).await?;
        let conditions = told.status.context("no status")?.conditions;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        let message = &ready.context("no condition Ready")?.message;
        ensure!(message.contains("worker.apiKeys"), "it does not say what is missing: {message}");

        let failed = scene.pod_uids(NAME).await?;
        scene.apply(&secret("wick\n")).await?;
        scene.wait_for_condition(NAME, "Ready", "True", None, AGAIN_DEADLINE).await?;
        ensure!(scene.pod_uids(NAME).await? == failed, "other pods serve than those that failed");
        let caller = scene.caller(NAME, Connections::Fresh).await?;
        let [nobody, wick, oil] = [caller.clone(), caller.with_key("wick"), caller.with_key("oil")];
        for (who, expected) in [
            (&nobody, StatusCode::UNAUTHORIZED),
            (&wick, StatusCode::OK),
            (&oil, StatusCode::UNAUTHORIZED),
        ] {
            let found = status(who).await?;
            ensure!(found == expected, "answered {found}, not {expected}");
        }

        let before = lives(&scene).await?;
        scene.apply(&secret("oil\n")).await?;
        wait::eventually(
            "the new key is taken and the old one is not",
            KUBELET_DEADLINE,
            || async {
                let found = [status(&oil).await?, status(&wick).await?];
                let is_so = found == [StatusCode::OK, StatusCode::UNAUTHORIZED];
                Ok(Look::when(is_so, || format!("{found:?}")))
            },
        )
        .await?;
        let after = lives(&scene).await?;
        ensure!(after == before, "a pod was replaced or started again: {before:?}, {after:?}");
        Ok(())
    })
    .await
}

async fn status(caller: &Caller) -> anyhow::Result<StatusCode> {
    Ok(caller.get("/v1/models").await?.status)
}

/// The pods, and how often the containers of each were started again.
async fn lives(scene: &Scene) -> anyhow::Result<Vec<(Option<String>, i32)>> {
    let pods = scene.pods(NAME).await?;
    let life = |pod: &Pod| {
        let containers = pod.status.iter().flat_map(|status| &status.container_statuses).flatten();
        (pod.uid(), containers.map(|container| container.restart_count).sum())
    };
    Ok(pods.iter().map(life).collect())
}
