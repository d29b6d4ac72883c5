//! The operator dies, or is replaced, while something is under way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use lamplighter_e2e::deploy::SYSTEM_NAMESPACE;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::With as _;
use lamplighter_e2e::trial::{Trial, phase_of, serves, version};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How often it is killed in one run.
const KILLS: usize = 20;
/// How long all of that may take.
const LONGEST: Duration = Duration::from_mins(6);

/// Sets or removes environment variables of the operator and waits until it runs with them.
async fn operator_with(scene: &Scene, variables: &[&str]) -> anyhow::Result<()> {
    let mut system = scene.clone();
    SYSTEM_NAMESPACE.clone_into(&mut system.namespace);
    let deployment = format!("deployment/{}", scene.installed.operator.deployment);
    let mut arguments = vec!["set", "env", &deployment];
    arguments.extend(variables);
    system.kubectl(&arguments, "").await?;
    scene.operator_available(1).await
}

/// Ends the operator's process with SIGKILL, and its pod, whose container would be started again
/// later and later.
async fn kill(scene: &Scene) -> anyhow::Result<bool> {
    let Some(pod) = scene.operator_pods().await?.pop() else { return Ok(false) };
    if scene.kill_operator(&pod).is_err() {
        return Ok(false);
    }
    let mut system = scene.clone();
    SYSTEM_NAMESPACE.clone_into(&mut system.namespace);
    let gone = ["delete", "pod", &pod.name_any(), "--grace-period=0", "--force", "--wait=false"];
    system.kubectl(&gone, "").await?;
    Ok(true)
}

/// Kinds of writes as the audit log has them.
fn kinds(scene: &Scene, since: lamplighter_e2e::audit::Mark) -> anyhow::Result<BTreeSet<String>> {
    let user = &scene.installed.operator.user;
    let all = scene.audit().since(since, user)?;
    let writes = all.into_iter().filter(|write| write.is_write() && !write.is_about_a_lease());
    Ok(writes
        .filter(|write| write.resource != "events")
        .map(|write| {
            let part = write.object.rsplit('/').next().unwrap_or_default();
            let part = if part == "status" { "/status" } else { "" };
            format!("{} {}{part}", write.verb, write.resource)
        })
        .collect())
}

/// Rolls back and forth between two versions while the operator is killed: once right after the
/// first write of each kind, and else at odd moments.
///
/// Guarantees: operator-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn killed_twenty_times() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        // Else each successor waits for the lease of the killed one.
        operator_with(&scene, &["LAMPLIGHTER_LEADER_ELECT=false"]).await?;
        let told = killed(&scene).await;
        let back = operator_with(&scene, &["LAMPLIGHTER_LEADER_ELECT=true"]).await;
        told.and(back)
    })
    .await
}

async fn killed(scene: &Scene) -> anyhow::Result<()> {
    let of = |variant, number: &str| {
        version(scene, variant, number, "")
            .with("/spec/replicas", json!(2))
            .with("/spec/rollout/rollbackWindowSeconds", json!(3))
    };
    let trial = Trial::begin(scene, "operator-killed", &of(Variant::SOUND, "1.0.0")).await?;
    let began = Instant::now();
    let mark = scene.audit().mark()?;
    let mut kills = 0;
    let mut seen = BTreeSet::new();
    let mut round = 0_u32;
    let mut first = None;
    while kills < KILLS && began.elapsed() < LONGEST {
        round += 1;
        // By turns one pod at a time, and a second environment.
        let (variant, number) = match round % 4 {
            1 => (Variant::SECOND, "1.0.1"),
            2 => (Variant::SOUND, "2.0.0"),
            3 => (Variant::SECOND, "2.0.1"),
            _ => (Variant::SOUND, "1.0.0"),
        };
        let applied = trial.apply(&of(variant, number)).await?;
        let mut next = Instant::now() + Duration::from_millis(700);
        loop {
            let now = kinds(scene, mark)?;
            let is_new = !now.is_subset(&seen);
            if kills < KILLS && (is_new || Instant::now() > next) && kill(scene).await? {
                kills += 1;
                // Odd, and different in each run of the loop: 1.3 s to 4.2 s.
                let pause = 1300 + (kills * 977) % 2900;
                next = Instant::now() + Duration::from_millis(u64::try_from(pause)?);
            }
            seen.extend(now);
            if finished(&trial, number, applied).await? {
                break;
            }
            ensure!(began.elapsed() < LONGEST * 2, "round {round} does not end");
            sleep(Duration::from_millis(50)).await;
        }
        first.get_or_insert((applied, trial.traffic.now()));
    }
    eprintln!("{kills} kills in {round} rollouts; kinds of writes: {seen:?}");
    ensure!(kills >= KILLS, "only {kills} kills in {:?}", began.elapsed());
    trial.until_swept(2).await?;
    let finished = trial.finish(2).await?;
    for life in &finished.pods {
        ensure!(life.restarts == 0, "a container was restarted: {life:?}");
    }
    let (applied, served) = first.context("no rollout")?;
    finished.row(applied, Some(served), None)
}

/// Whether this version serves and nothing is under way.
async fn finished(trial: &Trial, number: &str, after: Duration) -> anyhow::Result<bool> {
    let deployment = trial.scene.deployment(lamplighter_e2e::trial::NAME).await?;
    let is_seen = deployment
        .status
        .as_ref()
        .is_some_and(|status| status.observed_generation == deployment.metadata.generation);
    let status = deployment.status.unwrap_or_default();
    Ok(is_seen
        && trial.traffic.now() > after
        && phase_of(&status).is_empty()
        && serves(&status, number))
}

/// A new operator with another default image takes over in the middle; no pod is touched for it.
///
/// Guarantees: operator-03.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn upgraded_in_the_middle() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let before = &scene.settings.worker_image;
        let told = upgraded(&scene).await;
        let image = format!("LAMPLIGHTER_WORKER_IMAGE={before}");
        let back = operator_with(&scene, &[&image]).await;
        told.and(back)
    })
    .await
}

async fn upgraded(scene: &Scene) -> anyhow::Result<()> {
    // Pods of the operator's own default image: that is what an upgrade changes.
    let of = |variant, number: &str| {
        let mut manifest = version(scene, variant, number, "").with("/spec/replicas", json!(2));
        if let Some(worker) = manifest.pointer_mut("/spec/worker").and_then(|w| w.as_object_mut()) {
            worker.remove("image");
            worker.remove("env");
        }
        manifest
    };
    let trial = Trial::begin(scene, "operator-upgraded", &of(Variant::SOUND, "1.0.0")).await?;
    let applied = trial.apply(&of(Variant::SECOND, "1.0.1")).await?;
    trial.until_phase("RollingForward", applied).await?;
    let image = format!("LAMPLIGHTER_WORKER_IMAGE={}", scene.settings.worker_faults_image);
    operator_with(scene, &[&image]).await?;
    let served = trial.until_serves("1.0.1", applied).await?;
    let over = trial.until_over("Promoted", served.at).await?;
    ensure!(
        over.status.active.as_ref().is_some_and(|active| active.worker_outdated),
        "it does not say that the worker's image is not the default any more"
    );
    let lives = trial.lives();
    let revisions: BTreeSet<_> = lives.iter().map(|life| life.revision.as_str()).collect();
    ensure!(revisions.len() == 2, "the upgrade made a revision of its own: {revisions:?}");
    let finished = trial.finish(2).await?;
    finished.row(applied, Some(served.at), None)
}

/// Kills in the shortest run that has both kinds of rollout.
///
/// Guarantees: switch-13, operator-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask e2e rollouts"]
async fn ci_killed_in_the_middle() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        operator_with(&scene, &["LAMPLIGHTER_LEADER_ELECT=false"]).await?;
        let told = killed_in_the_middle(&scene).await;
        let back = operator_with(&scene, &["LAMPLIGHTER_LEADER_ELECT=true"]).await;
        told.and(back)
    })
    .await
}

async fn killed_in_the_middle(scene: &Scene) -> anyhow::Result<()> {
    let of = |variant, number: &str| {
        version(scene, variant, number, "").with("/spec/replicas", json!(2))
    };
    let trial = Trial::begin(scene, "operator-killed-once", &of(Variant::SOUND, "1.0.0")).await?;
    let applied = trial.apply(&of(Variant::SECOND, "2.0.0")).await?;
    for phase in ["Gating", "CuttingOver", "Baking"] {
        let reached = trial
            .until(phase, applied, |status| {
                let order = ["Gating", "CuttingOver", "Shedding", "Baking"];
                let at = |phase: &str| order.iter().position(|known| *known == phase);
                at(phase_of(status)) >= at(phase)
            })
            .await?;
        trial.traffic.mark(format!("killed in {}", phase_of(&reached.status)));
        ensure!(kill(scene).await?, "there was no operator to kill");
        scene.operator_available(1).await?;
    }
    let served = trial.until_serves("2.0.0", applied).await?;
    trial.until_over("Promoted", served.at).await?;
    let finished = trial.finish(2).await?;
    finished.never_mixed("2.0.0")?;
    finished.row(applied, Some(served.at), None)
}
