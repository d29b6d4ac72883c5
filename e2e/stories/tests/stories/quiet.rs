//! Where nothing changed the operator writes nothing, and its own end changes nothing.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use lamplighter_e2e::audit::{Mark, Request};
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::operator::RECONCILES;
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::{With as _, tiny};
use lamplighter_e2e::wait::{Look, eventually};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::json;

const NAME: &str = "quiet";
/// How long an idle operator is watched.
const IDLE: Duration = Duration::from_mins(1);
/// Longest lease and the time to notice that it ran out.
const TAKEOVER: Duration = Duration::from_secs(40);

/// Guarantees: api-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_second_apply_is_looked_at_and_writes_nothing() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let manifest = tiny(NAME, Variant::SOUND).with("/spec/replicas", json!(2));
        scene.apply(&manifest).await?;
        scene.settled(NAME).await?;
        quiet_for(&scene, Duration::from_secs(3)).await?;
        let children = scene.children(NAME).await?;
        ensure!(children.len() >= 5, "{:?}", children.keys());
        let (mark, looks) = (scene.audit().mark()?, reconciles(&scene).await?);

        // By another manager, so that the object itself changes and the operator is told.
        let second = ["apply", "--server-side", "--field-manager=second", "-f", "-"];
        scene.kubectl(&second, &manifest.to_string()).await?;
        let noticed = format!("more than {looks} reconciles");
        eventually(&noticed, Duration::from_secs(30), || async {
            let now = reconciles(&scene).await?;
            Ok(Look::when(now > looks, || now.to_string()))
        })
        .await?;
        quiet_for(&scene, Duration::from_secs(3)).await?;
        no_writes(&scene, mark)?;
        ensure!(scene.children(NAME).await? == children, "a child changed");
        Ok(())
    })
    .await
}

/// Guarantees: operator-07.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn in_an_idle_minute_the_operator_writes_only_its_lease() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND).with("/spec/replicas", json!(2))).await?;
        scene.apply(&tiny("asleep", Variant::SOUND).with("/spec/replicas", json!(0))).await?;
        scene.settled(NAME).await?;
        scene.ready("asleep").await?;
        quiet_for(&scene, Duration::from_secs(3)).await?;

        let mark = scene.audit().mark()?;
        tokio::time::sleep(IDLE).await;
        no_writes(&scene, mark)?;
        let renewals: Vec<Request> = scene
            .audit()
            .since(mark, &scene.installed.operator.user)?
            .into_iter()
            .filter(|request| request.is_write() && request.is_about_a_lease())
            .collect();
        ensure!(renewals.len() >= 3, "the lease was renewed {} times in {IDLE:?}", renewals.len());
        Ok(())
    })
    .await
}

/// Guarantees: operator-03.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_restarted_operator_touches_no_pod_and_writes_nothing() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let before = steady(&scene).await?;
        let old = scene.operator_pod().await?;
        let mut system = scene.clone();
        lamplighter_e2e::deploy::SYSTEM_NAMESPACE.clone_into(&mut system.namespace);
        let mark = scene.audit().mark()?;
        system.kubectl(&["delete", "pod", &old.name_any(), "--timeout=60s"], "").await?;
        scene.operator_available(1).await?;
        let new = scene.leader_other_than(&old.name_any(), TAKEOVER).await?;
        looked(&scene).await?;
        ensure!(scene.operator_callers(mark)?.contains(&new), "{new} asked nothing");
        unchanged(&scene, mark, &before).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn an_operator_killed_outright_touches_no_pod_and_writes_nothing() -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let before = steady(&scene).await?;
        let old = scene.operator_pod().await?;
        let restarts = restarts(&old);
        let mark = scene.audit().mark()?;
        scene.kill_operator(&old)?;
        eventually("the operator's container is started again", TAKEOVER, || async {
            let now = self::restarts(&scene.operator_pod().await?);
            Ok(Look::when(now == restarts + 1, || format!("{now} restarts")))
        })
        .await?;
        scene.operator_available(1).await?;
        looked(&scene).await?;
        unchanged(&scene, mark, &before).await
    })
    .await
}

struct Steady {
    pods: std::collections::BTreeSet<String>,
    children: lamplighter_e2e::children::Children,
}

/// Two ready pods and an operator that has nothing left to do.
async fn steady(scene: &Scene) -> anyhow::Result<Steady> {
    scene.apply(&tiny(NAME, Variant::SOUND).with("/spec/replicas", json!(2))).await?;
    scene.settled(NAME).await?;
    quiet_for(scene, Duration::from_secs(3)).await?;
    let steady =
        Steady { pods: scene.pod_uids(NAME).await?, children: scene.children(NAME).await? };
    ensure!(steady.pods.len() == 2 && steady.children.len() >= 5, "{:?}", steady.children);
    Ok(steady)
}

/// Nothing was written since the mark, and the operator still works: it follows a change.
async fn unchanged(scene: &Scene, mark: Mark, before: &Steady) -> anyhow::Result<()> {
    quiet_for(scene, Duration::from_secs(3)).await?;
    no_writes(scene, mark)?;
    ensure!(scene.pod_uids(NAME).await? == before.pods, "pods were replaced");
    ensure!(scene.children(NAME).await? == before.children, "a child changed");
    scene.kubectl(&["scale", "modeldeployment", NAME, "--replicas=3"], "").await?;
    scene.ready(NAME).await?;
    let after = scene.pod_uids(NAME).await?;
    ensure!(after.len() == 3 && after.is_superset(&before.pods), "{after:?}");
    Ok(())
}

fn no_writes(scene: &Scene, since: Mark) -> anyhow::Result<()> {
    let writes = scene.operator_writes(since)?;
    ensure!(writes.is_empty(), "the operator wrote {writes:#?}");
    Ok(())
}

/// Waits until the operator has written nothing but its lease for so long.
async fn quiet_for(scene: &Scene, quiet: Duration) -> anyhow::Result<()> {
    let mut mark = scene.audit().mark()?;
    let mut since = tokio::time::Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let settled = async {
        while since.elapsed() < quiet {
            pace.tick().await;
            let all = scene.audit().since(mark, &scene.installed.operator.user)?;
            if all.iter().any(|request| request.is_write() && !request.is_about_a_lease()) {
                (mark, since) = (scene.audit().mark()?, tokio::time::Instant::now());
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(READY_DEADLINE, settled).await.context("the operator keeps writing")?
}

/// How often the leading operator has looked at a deployment since it was started.
async fn reconciles(scene: &Scene) -> anyhow::Result<f64> {
    let leader = scene.leader().await?;
    scene.operator_metrics(&leader).await?.sum(RECONCILES).context("no count of reconciles")
}

/// Waits until a new operator has looked at a deployment.
async fn looked(scene: &Scene) -> anyhow::Result<()> {
    eventually("the new operator looks at a deployment", TAKEOVER, || async {
        let looks = reconciles(scene).await?;
        Ok(Look::when(looks >= 1.0, || looks.to_string()))
    })
    .await
}

fn restarts(pod: &k8s_openapi::api::core::v1::Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
