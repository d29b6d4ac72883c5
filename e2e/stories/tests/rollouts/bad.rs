//! Versions that are no good: before the switch they get no traffic, after it they are left by
//! themselves.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::With as _;
use lamplighter_e2e::trial::{NAME, NEW, OLD, REVALIDATION, Trial, failure_of, phase_of, version};
use lamplighter_e2e::{Turn, with_namespace};
use serde_json::{Value, json};

/// A version that cannot get ready is given up for this reason; what serves is not touched.
async fn given_up(
    name: &'static str,
    reason: &str,
    bad: impl Fn(&lamplighter_e2e::Scene) -> Value,
) -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let good = version(&scene, Variant::SOUND, "1.0.0", "").with("/spec/replicas", json!(2));
        let trial = Trial::begin(&scene, name, &good).await?;
        let old = trial.uids().await?;
        let applied = trial.apply(&bad(&scene).with("/spec/replicas", json!(2))).await?;
        let failed = trial
            .until("the version failed", applied, |status| failure_of(status) == Some(reason))
            .await?;
        let settled = trial
            .until("nothing is under way", failed.at, |status| phase_of(status).is_empty())
            .await?;
        let available = settled.status.conditions.iter().find(|found| found.type_ == "Available");
        ensure!(available.is_some_and(|found| found.status == "True"), "{:?}", settled.status);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let left = trial.uids().await?;
        ensure!(left.is_superset(&old), "pods that serve were replaced: {old:?} {left:?}");
        let finished = trial.finish(2).await?;
        ensure!(
            finished.ledger.by_version.keys().eq([&OLD]),
            "somebody else answered: {}",
            finished.ledger
        );
        finished.row(applied, None, Some(failed.at.saturating_sub(applied)))
    })
    .await
}

/// Guarantees: gates-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn corrupt_weights() -> anyhow::Result<()> {
    given_up("corrupt", "ArtifactTruncated", |scene| {
        version(scene, Variant::TRUNCATED, "2.0.0", "")
    })
    .await
}

/// Guarantees: gates-06, gates-07, told-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_wrong_answers() -> anyhow::Result<()> {
    given_up("wrong-answers", "ValidationFailed", |scene| {
        version(scene, Variant::SECOND, "2.0.0", "wrong-answers")
    })
    .await
}

/// Guarantees: gates-07, gates-12, gates-14.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn out_of_memory() -> anyhow::Result<()> {
    given_up("out-of-memory", "OutOfMemory", |scene| {
        version(scene, Variant::SECOND, "2.0.0", "out-of-memory")
    })
    .await
}

/// Guarantees: gates-08.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn never_ready() -> anyhow::Result<()> {
    given_up("never-ready", "ProgressDeadlineExceeded", |scene| {
        version(scene, Variant::SECOND, "2.0.0", "never-ready")
            .with("/spec/rollout/progressDeadlineSeconds", json!(15))
            .with("/spec/rollout/retry", json!({"attempts": 1}))
    })
    .await
}

/// It passes its gates, serves, and the process of one of its pods ends twice: the old environment
/// serves again by itself.
///
/// Guarantees: return-01, return-13.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_crashes_after_the_switch() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let of = |variant, number, window: u32| {
            version(&scene, variant, number, "")
                .with("/spec/replicas", json!(2))
                .with("/spec/rollout/rollbackWindowSeconds", json!(window))
        };
        let first = of(Variant::SOUND, "1.0.0", 5);
        let mut trial = Trial::begin(&scene, "crash-after-switch", &first).await?;
        let old = trial.uids().await?;
        let applied = trial.apply(&of(Variant::SECOND, "2.0.0", 120)).await?;
        let baking = trial.until_phase("Baking", applied).await?;
        let victim = trial.uids().await?.difference(&old).next().cloned().context("no new pod")?;
        trial.crash(&victim)?;
        trial.until_restarted(&victim, 1).await?;
        // What ended once may be chance.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let status = scene.deployment(NAME).await?.status.unwrap_or_default();
        ensure!(phase_of(&status) == "Baking", "one end was too many: {status:?}");
        let second = trial.crash(&victim)?;
        let safe = trial.until_over("RolledBackAuto", baking.at).await?;
        ensure!(failure_of(&safe.status) == Some("CrashedWhileServing"), "{:?}", safe.status);
        let serving = trial.uids().await?;
        ensure!(serving.is_superset(&old), "the pods that were returned to are others");
        let told = trial
            .until("it says that it was rolled back", safe.at, |status| {
                status.conditions.iter().any(|c| c.type_ == "Stalled" && c.reason == "RolledBack")
            })
            .await?;
        ensure!(told.status.active.is_some_and(|active| active.models[0].version == "1.0.0"));
        let finished = trial.finish(2).await?;
        ensure!(finished.ledger.by_version.contains_key(NEW), "the new version never answered");
        finished.row(applied, None, Some(safe.at.saturating_sub(second)))
    })
    .await
}

/// Answers go wrong while it serves: the worker notices by its own cases, and the old environment
/// serves again by itself.
///
/// Guarantees: return-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn slow_poison() -> anyhow::Result<()> {
    const POISONED: Duration = Duration::from_secs(15);
    with_namespace(Turn::Alone, async |scene| {
        let of = |variant, number, faults: &str, window: u32| {
            version(&scene, variant, number, faults)
                .with("/spec/replicas", json!(2))
                .with("/spec/rollout/rollbackWindowSeconds", json!(window))
        };
        let first = of(Variant::SOUND, "1.0.0", "", 5);
        let mut trial = Trial::begin(&scene, "slow-poison", &first).await?;
        let old = trial.uids().await?;
        let faults = format!("poison-after={}", POISONED.as_secs());
        let applied = trial.apply(&of(Variant::SECOND, "2.0.0", &faults, 120)).await?;
        let baking = trial.until_phase("Baking", applied).await?;
        let safe = trial.until_over("RolledBackAuto", baking.at).await?;
        ensure!(failure_of(&safe.status) == Some("RevalidationFailed"), "{:?}", safe.status);
        let new: Vec<_> =
            trial.lives().into_iter().filter(|life| !old.contains(&life.uid)).collect();
        let ready = new.iter().filter_map(|life| life.ready).min().context("it was never ready")?;
        // The kubelet may take a while to see that a pod is ready.
        let from = (ready + POISONED).saturating_sub(Duration::from_secs(3));
        // The interval of the cases, and five seconds.
        let until = ready + POISONED + Duration::from_secs(REVALIDATION + 5);
        trial.poisons(new.iter().map(|life| life.uid.clone()), from, until);
        let finished = trial.finish(2).await?;
        finished.row(applied, None, Some(safe.at.saturating_sub(from)))
    })
    .await
}

/// A candidate that fills its disk is evicted again and again, and given up; nobody else is.
///
/// Guarantees: gates-12.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn candidate_evicted() -> anyhow::Result<()> {
    given_up("candidate-evicted", "ProgressDeadlineExceeded", |scene| {
        let limits = json!({"memory": "256Mi", "ephemeral-storage": "64Mi"});
        version(scene, Variant::SECOND, "2.0.0", "fill-cache-at-load=200,never-ready")
            .with("/spec/worker/resources/limits", limits)
            .with("/spec/rollout/progressDeadlineSeconds", json!(40))
            .with("/spec/rollout/retry", json!({"attempts": 1}))
    })
    .await
}
