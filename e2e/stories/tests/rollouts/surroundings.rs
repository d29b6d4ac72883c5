//! What a rollout stands on breaks in the middle: pods, the store, the apiserver.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::With as _;
use lamplighter_e2e::trial::{Trial, delete_pod, version};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::sleep;

/// How long the apiserver says nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Every pod is deleted once while pods are replaced, the next one when all are ready again.
///
/// Guarantees: rolling-09, return-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn pods_deleted_one_at_a_time() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let of =
            |variant, number| version(&scene, variant, number, "").with("/spec/replicas", json!(3));
        let trial = Trial::begin(&scene, "pods-deleted", &of(Variant::SOUND, "1.0.0")).await?;
        let applied = trial.apply(&of(Variant::SECOND, "1.0.1")).await?;
        trial.until_phase("RollingForward", applied).await?;
        for _ in 0..3 {
            let pods = scene.pods(lamplighter_e2e::trial::NAME).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod));
            let victim = ready.max_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
            let uid = delete_pod(&scene, victim.context("no pod is ready")?).await?;
            trial.traffic.mark(format!("pod {uid} deleted"));
            sleep(Duration::from_secs(6)).await;
        }
        let served = trial.until_serves("1.0.1", applied).await?;
        trial.until_over("Promoted", served.at).await?;
        let finished = trial.finish(3).await?;
        finished.row(applied, Some(served.at), None)
    })
    .await
}

fn is_ready(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True")
        })
}

/// The store is away when the new version fails: what was there before needs no store to serve.
///
/// Guarantees: return-11.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn store_offline_during_a_return() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let told = store_offline(&scene).await;
        let back = scene.scale_store(1).await;
        told.and(back)
    })
    .await
}

async fn store_offline(scene: &Scene) -> anyhow::Result<()> {
    let of = |variant, number, window: u32| {
        version(scene, variant, number, "")
            .with("/spec/replicas", json!(2))
            .with("/spec/rollout/rollbackWindowSeconds", json!(window))
    };
    let first = of(Variant::SOUND, "1.0.0", 5);
    let mut trial = Trial::begin(scene, "store-offline", &first).await?;
    let old = trial.uids().await?;
    let applied = trial.apply(&of(Variant::SECOND, "2.0.0", 120)).await?;
    let baking = trial.until_phase("Baking", applied).await?;
    let victim = trial.uids().await?.difference(&old).next().cloned().context("no new pod")?;
    trial.crash(&victim)?;
    trial.until_restarted(&victim, 1).await?;
    scene.scale_store(0).await?;
    trial.traffic.mark("the store is offline");
    let second = trial.crash(&victim)?;
    let safe = trial.until_over("RolledBackAuto", baking.at).await?;
    ensure!(trial.uids().await?.is_superset(&old), "the pods that were returned to are others");
    let finished = trial.finish(2).await?;
    finished.row(applied, None, Some(safe.at.saturating_sub(second)))
}

/// The apiserver of the local cluster stands still for half a minute.
///
/// Guarantees: operator-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn apiserver_silent_for_half_a_minute() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let of =
            |variant, number| version(&scene, variant, number, "").with("/spec/replicas", json!(2));
        let trial = Trial::begin(&scene, "apiserver-silent", &of(Variant::SOUND, "1.0.0")).await?;
        let applied = trial.apply(&of(Variant::SECOND, "1.0.1")).await?;
        trial.until_phase("RollingForward", applied).await?;
        let apiserver = apiserver(&scene)?;
        trial.traffic.mark("the apiserver is silent");
        kill_process(apiserver, Signal::STOP).context("the apiserver cannot be stopped")?;
        sleep(SILENCE).await;
        kill_process(apiserver, Signal::CONT).context("the apiserver cannot go on")?;
        trial.traffic.mark("the apiserver answers again");
        let served = trial.until_serves("1.0.1", applied).await?;
        trial.until_over("Promoted", served.at).await?;
        let finished = trial.finish(2).await?;
        finished.row(applied, Some(served.at), None)
    })
    .await
}

/// The process of this checkout's own apiserver.
fn apiserver(scene: &Scene) -> anyhow::Result<Pid> {
    let ours = scene.settings.repo.join(".local/bin/kubernetes");
    for entry in std::fs::read_dir("/proc").context("/proc cannot be listed")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        if program == ours.as_os_str().as_encoded_bytes()
            && words.next() == Some(b"kube-apiserver".as_slice())
        {
            return Pid::from_raw(pid).context("not a process id");
        }
    }
    anyhow::bail!("no kube-apiserver of {} runs", ours.display())
}
