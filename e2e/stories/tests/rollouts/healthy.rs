//! Rollouts of sound versions.

use std::time::Duration;

use anyhow::ensure;
use lamplighter_api::names;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::With as _;
use lamplighter_e2e::traffic::judge::kept_answers;
use lamplighter_e2e::trial::{NEW, OLD, Trial, phase_of, serves, version};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::json;

/// Pods are replaced one at a time, and every answer is of one of the two versions.
async fn rolling(name: &'static str, replicas: u32) -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let of = |variant, number| {
            version(&scene, variant, number, "").with("/spec/replicas", json!(replicas))
        };
        let trial = Trial::begin(&scene, name, &of(Variant::SOUND, "1.0.0")).await?;
        let applied = trial.apply(&of(Variant::SECOND, "1.0.1")).await?;
        let served = trial.until_serves("1.0.1", applied).await?;
        let over = trial.until_over("Promoted", served.at).await?;
        ensure!(over.status.history[0].strategy == "Rolling", "{:?}", over.status.history);
        let finished = trial.finish(replicas).await?;
        for life in &finished.pods {
            ensure!(life.restarts == 0, "a container was restarted: {life:?}");
        }
        ensure!(finished.ledger.by_version.contains_key(NEW), "{}", finished.ledger);
        finished.row(applied, Some(served.at), None)
    })
    .await
}

/// Guarantees: strategy-03, rolling-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn rolling_one_replica() -> anyhow::Result<()> {
    rolling("rolling-1", 1).await
}

/// Guarantees: strategy-01, rolling-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_rolling_two_replicas() -> anyhow::Result<()> {
    rolling("rolling-2", 2).await
}

/// Guarantees: rolling-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn rolling_three_replicas() -> anyhow::Result<()> {
    rolling("rolling-3", 3).await
}

/// A second environment, one switch, and no new connection that gets the old version after it.
/// The pods that were proved are the pods that serve.
///
/// Guarantees: strategy-01, switch-02, switch-07, drain-04.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_blue_green() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let of =
            |variant, number| version(&scene, variant, number, "").with("/spec/replicas", json!(2));
        let trial = Trial::begin(&scene, "blue-green", &of(Variant::SOUND, "1.0.0")).await?;
        let old = trial.uids().await?;
        let applied = trial.apply(&of(Variant::SECOND, "2.0.0")).await?;
        let gating = trial.until_phase("Gating", applied).await?;
        let served = trial.until_serves("2.0.0", applied).await?;
        let shed = trial.until_phase("Baking", applied).await?;
        let baking = trial.uids().await?;
        ensure!(baking.is_superset(&old) && baking.len() == 4, "the old environment is not kept");
        let over = trial.until_over("Promoted", served.at).await?;
        trial.until_swept(2).await?;
        let promoted = trial.uids().await?;
        let proved: std::collections::BTreeSet<_> = baking.difference(&old).cloned().collect();
        ensure!(promoted == proved, "pods changed by the promotion: {proved:?} {promoted:?}");
        ensure!(over.status.history[0].strategy == "BlueGreen", "{:?}", over.status.history);
        let finished = trial.finish(2).await?;
        finished.never_mixed("2.0.0")?;
        let kept = kept_answers(&finished.stream.records, shed.at + Duration::from_millis(500));
        ensure!(!kept.contains_key(OLD), "kept connections stayed with the old version: {kept:?}");
        prompt(&finished.pods, &old, gating.at, served.at, Duration::from_secs(1))?;
        finished.row(applied, Some(served.at), None)
    })
    .await
}

/// From the beginning of the gates to serving it may take what the slowest pod takes to be ready,
/// three seconds, and the waits that were configured.
fn prompt(
    pods: &[lamplighter_e2e::trial::Life],
    old: &std::collections::BTreeSet<String>,
    gating: Duration,
    served: Duration,
    waits: Duration,
) -> anyhow::Result<()> {
    let new = pods.iter().filter(|life| !old.contains(&life.uid));
    let slowest = new
        .filter_map(|life| Some(life.ready?.saturating_sub(life.born)))
        .max()
        .unwrap_or_default();
    let took = served.saturating_sub(gating);
    // Shedding ends when the last kept connection is gone, which the worker answers for.
    let most = slowest + Duration::from_secs(3) + waits + Duration::from_secs(2);
    eprintln!("gates to serving {took:?}, slowest pod {slowest:?}");
    ensure!(took <= most, "{took:?} from the gates to serving, at most {most:?}");
    Ok(())
}

/// The candidate waits, can be tried, and serves when somebody says so.
///
/// Guarantees: switch-02, switch-08.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_blue_green_by_hand() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let of = |variant, number| {
            version(&scene, variant, number, "").with("/spec/rollout/promotion", json!("Manual"))
        };
        let trial = Trial::begin(&scene, "blue-green-manual", &of(Variant::SOUND, "1.0.0")).await?;
        let applied = trial.apply(&of(Variant::SECOND, "2.0.0")).await?;
        let waits = trial.until_phase("AwaitingPromotion", applied).await?;
        let candidate =
            waits.status.candidate.clone().unwrap_or_else(|| unreachable!("no candidate"));
        let preview = candidate.preview_service.unwrap_or_default();
        ensure!(preview == names::preview_service("rolled"), "the preview Service is {preview:?}");
        // Nothing happens by itself.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let still = trial.until_phase("AwaitingPromotion", waits.at).await?;
        ensure!(!serves(&still.status, "2.0.0"), "it serves without a promotion");
        let promoted = trial.traffic.now();
        trial.annotate(names::COMMAND_PROMOTE, &candidate.revision).await?;
        let served = trial.until_serves("2.0.0", promoted).await?;
        let heard = &served.status.acknowledged;
        ensure!(heard.iter().any(|heard| heard.token == candidate.revision), "{heard:?}");
        trial.until_over("Promoted", served.at).await?;
        let finished = trial.finish(1).await?;
        finished.never_mixed("2.0.0")?;
        finished.row(promoted, Some(served.at), None)
    })
    .await
}

/// The number of pods changes while pods are replaced, up and down.
async fn scaled(scene: &Scene, name: &'static str, number: &str, to: u32) -> anyhow::Result<()> {
    let of = |variant, number, replicas: u32| {
        version(scene, variant, number, "slow-load=2").with("/spec/replicas", json!(replicas))
    };
    let trial = Trial::begin(scene, name, &of(Variant::SOUND, "1.0.0", 2)).await?;
    let applied = trial.apply(&of(Variant::SECOND, number, 2)).await?;
    trial
        .until("a rollout is under way", applied, |status| {
            matches!(phase_of(status), "RollingForward" | "Gating")
        })
        .await?;
    let scaled = trial.apply(&of(Variant::SECOND, number, to)).await?;
    let served = trial
        .until("the new version serves in the new number", scaled, |status| {
            serves(status, number) && status.ready_replicas == i32::try_from(to).unwrap_or_default()
        })
        .await?;
    trial.until_over("Promoted", served.at).await?;
    let finished = trial.finish(2).await?;
    finished.row(applied, Some(served.at), None)
}

/// Guarantees: rolling-07.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_scaled_up_while_rolling() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| scaled(&scene, "rolling-scaled-up", "1.0.1", 3).await)
        .await
}

/// Guarantees: rolling-07.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn scaled_down_while_rolling() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        scaled(&scene, "rolling-scaled-down", "1.0.1", 1).await
    })
    .await
}

/// Guarantees: mind-08, surroundings-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn scaled_up_during_blue_green() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        scaled(&scene, "blue-green-scaled-up", "2.0.0", 3).await
    })
    .await
}
