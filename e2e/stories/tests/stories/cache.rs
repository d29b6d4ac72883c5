//! Downloads that are kept on a claim: shared by pods and by deployments, and cleaned up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::{MODEL, With as _, tiny};
use lamplighter_e2e::volume::{Access, Volume};
use lamplighter_e2e::wait::{Look, eventually};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

const NAME: &str = "kept";
const NEIGHBOUR: &str = "neighbour";
const DEADLINE: Duration = Duration::from_secs(90);

/// A version whose downloads are kept on the claim `models`.
fn version(name: &str, variant: Variant, number: &str) -> Value {
    tiny(name, variant)
        .with("/spec/models/0/version", json!(number))
        .with("/spec/worker/cache", json!({"persistentVolumeClaim": {"claimName": "models"}}))
}

async fn with_volume(
    turn: Turn,
    story: impl AsyncFnOnce(&Scene, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    with_namespace(turn, async move |scene| {
        let empty = |folder: &Path| Ok(std::fs::create_dir_all(folder)?);
        let volume = Volume::provide(&scene, Access::ReadWrite, empty).await?;
        let told = story(&scene, volume.folder()).await;
        let removed = volume.remove(&scene).await;
        told.and(removed)
    })
    .await
}

/// What is in the cache of a model's version: how many copies, and how much else that is no note.
fn shelf(cache: &Path, number: &str) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut copies, mut leftovers) = (0, Vec::new());
    for entry in std::fs::read_dir(cache.join(MODEL).join(number))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            copies += 1;
        } else if name.starts_with(".partial") || name.starts_with(".lock") {
            leftovers.push(name);
        }
    }
    Ok((copies, leftovers))
}

async fn promoted(scene: &Scene, name: &str, rollouts: usize) -> anyhow::Result<()> {
    eventually("the rollout is over and promoted", DEADLINE, || async {
        let status = scene.deployment(name).await?.status.unwrap_or_default();
        let over = status.history.iter().filter(|past| past.outcome == "Promoted").count();
        let is_over = status.rollout.is_none() && over >= rollouts;
        Ok(Look::when(is_over, || format!("{:?} {:?}", status.rollout, status.history)))
    })
    .await
}

/// Three pods that start at once with nothing there download once; with the copy there, pods need
/// no store, and neither does the way back to the version before.
///
/// Guarantees: return-11.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_shared_cache_is_filled_once_and_needs_no_store_to_return() -> anyhow::Result<()> {
    with_volume(Turn::Alone, async |scene, cache| {
        let told = filled_once(scene, cache).await;
        let back = scene.scale_store(1).await;
        told.and(back)
    })
    .await
}

async fn filled_once(scene: &Scene, cache: &Path) -> anyhow::Result<()> {
    let first = version(NAME, Variant::SOUND, "1.0.0").with("/spec/replicas", json!(3));
    scene.apply(&first).await?;
    scene.ready(NAME).await?;
    promoted(scene, NAME, 1).await?;
    ensure!(shelf(cache, "1.0.0")? == (1, Vec::new()), "{:?}", shelf(cache, "1.0.0")?);

    let before = downloads(scene).await?;
    std::fs::remove_dir_all(cache.join(MODEL))?;
    restart(scene).await?;
    ensure!(shelf(cache, "1.0.0")? == (1, Vec::new()), "{:?}", shelf(cache, "1.0.0")?);
    let downloads = downloads(scene).await? - before;
    ensure!(downloads == 1, "three pods downloaded {downloads} times");

    let second = version(NAME, Variant::SECOND, "2.0.0").with("/spec/replicas", json!(3));
    let old = scene.deployment(NAME).await?.status.and_then(|status| status.active);
    let old = old.context("no revision was active")?.revision;
    scene.apply(&second).await?;
    promoted(scene, NAME, 2).await?;
    let condition = condition(scene, "RollbackAvailable").await?;
    ensure!(condition == "Cached", "RollbackAvailable is {condition}");

    scene.scale_store(0).await?;
    restart(scene).await?;
    let command = format!("lamplighter.dev/rollback-to={old}");
    scene.kubectl(&["annotate", "mdpl", NAME, &command], "").await?;
    eventually("the first revision serves again, without a store", DEADLINE, || async {
        let status = scene.deployment(NAME).await?.status.unwrap_or_default();
        let active = status.active.map(|active| active.revision);
        let back = active.as_deref() == Some(&old) && status.ready_replicas == 3;
        Ok(Look::when(back, || format!("{active:?} {:?}", status.candidate)))
    })
    .await
}

/// How often the store was asked for weights, which are small enough for one request.
async fn downloads(scene: &Scene) -> anyhow::Result<usize> {
    let log = scene.store_log().await?;
    Ok(log.lines().filter(|line| line.contains("model.safetensors")).count())
}

/// Deletes all pods and waits until others are ready.
async fn restart(scene: &Scene) -> anyhow::Result<()> {
    let before = scene.pod_uids(NAME).await?;
    let workers = format!("lamplighter.dev/deployment={NAME},lamplighter.dev/environment");
    let selected = ListParams::default().labels(&workers);
    scene.api::<Pod>().delete_collection(&DeleteParams::default(), &selected).await?;
    eventually("three other pods are ready", DEADLINE, || async {
        let pods = scene.pods(NAME).await?;
        let is_other = |pod: &Pod| pod.uid().is_some_and(|uid| !before.contains(&uid));
        let there = pods.iter().filter(|pod| is_other(pod) && is_ready(pod)).count();
        Ok(Look::when(there == 3, || format!("{there} are, of {}", pods.len())))
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|found| found.type_ == "Ready" && found.status == "True")
}

async fn condition(scene: &Scene, kind: &str) -> anyhow::Result<String> {
    let status = scene.deployment(NAME).await?.status.unwrap_or_default();
    let found = status.conditions.into_iter().find(|condition| condition.type_ == kind);
    Ok(found.with_context(|| format!("no condition {kind}"))?.reason)
}

/// Two deployments on one claim: what the one does not need any more stays as long as the other
/// needs it, and no version goes that a deployment may have to return to.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_shared_cache_is_cleaned_up_and_keeps_what_anybody_needs() -> anyhow::Result<()> {
    with_volume(Turn::Shared, async |scene, cache| {
        scene.apply(&version(NEIGHBOUR, Variant::SECOND, "2.0.0")).await?;
        let variants = [Variant::SOUND, Variant::SECOND].into_iter().cycle();
        for (index, variant) in variants.take(4).enumerate() {
            scene.apply(&version(NAME, variant, &format!("{}.0.0", index + 1))).await?;
            promoted(scene, NAME, index + 1).await?;
        }
        promoted(scene, NEIGHBOUR, 1).await?;
        let there = |number: &str| shelf(cache, number).is_ok_and(|(copies, _)| copies == 1);
        for number in ["1.0.0", "2.0.0", "3.0.0", "4.0.0"] {
            ensure!(there(number), "{number} was never there");
        }

        // The Job of the last set of revisions, without its time of grace.
        let said = clean_up_now(scene, NAME, 3 + 1).await?;
        ensure!(!there("1.0.0"), "1.0.0 is needed by nobody and stays:\n{said}");
        for number in ["2.0.0", "3.0.0", "4.0.0"] {
            ensure!(there(number), "{number} is gone:\n{said}");
        }
        ensure!(said.contains("removed 1 of 4 copies"), "{said}");

        scene.kubectl(&["delete", "mdpl", NAME], "").await?;
        scene.apply(&version(NEIGHBOUR, Variant::SOUND, "6.0.0")).await?;
        promoted(scene, NEIGHBOUR, 2).await?;
        let said = clean_up_now(scene, NEIGHBOUR, 2).await?;
        ensure!(there("2.0.0") && there("6.0.0"), "the neighbour's are gone:\n{said}");
        ensure!(said.contains("removed 2 of 4 copies"), "{said}");
        Ok(())
    })
    .await
}

/// Runs a copy of the deployment's clean-up Job that gives no grace, once that Job knows so many
/// revisions; what it said.
async fn clean_up_now(scene: &Scene, name: &str, known: usize) -> anyhow::Result<String> {
    let jobs = scene.api::<Job>();
    let selected = ListParams::default().labels(&format!("lamplighter.dev/deployment={name}"));
    let job = eventually("the clean-up Job is there", DEADLINE, || async {
        let found = jobs.list(&selected).await?.items.into_iter().next();
        let told = found.as_ref().map_or(0, revisions);
        Ok(match found {
            Some(job) if told == known => Look::There(job),
            _ => Look::NotYet(format!("a Job that knows {told} revisions, not {known}")),
        })
    })
    .await?;
    let mut template = job.spec.context("no spec")?.template;
    let container = &mut template.spec.as_mut().context("no pod")?.containers[0];
    container.args = Some(["cache", "gc", "--grace-seconds", "0"].map(str::to_owned).to_vec());
    if let Some(metadata) = &mut template.metadata {
        metadata.labels = Some(BTreeMap::new());
    }
    let mut at_once = Job::default();
    at_once.metadata.name = Some(format!("{name}-gc-at-once"));
    at_once.spec = Some(k8s_openapi::api::batch::v1::JobSpec {
        template,
        backoff_limit: Some(0),
        ..Default::default()
    });
    let made = jobs.create(&PostParams::default(), &at_once).await?.name_any();
    let completed = ["wait", "--for=condition=complete", "--timeout=60s"];
    scene.kubectl(&[&completed[..], &[&format!("job/{made}")]].concat(), "").await?;
    scene.kubectl(&["logs", &format!("job/{made}")], "").await
}

/// How many revisions a clean-up Job knows.
fn revisions(job: &Job) -> usize {
    let env = job.spec.as_ref().and_then(|spec| {
        let container = spec.template.spec.as_ref()?.containers.first()?;
        container.env.as_ref()?.first()?.value.clone()
    });
    env.map_or(0, |known| known.split(',').count())
}
