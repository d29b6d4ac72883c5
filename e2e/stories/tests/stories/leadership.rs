//! Two operators, one leader.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use lamplighter_e2e::audit::Request;
use lamplighter_e2e::deploy::SYSTEM_NAMESPACE;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::tiny;
use lamplighter_e2e::{Scene, Turn, with_namespace};

const NAME: &str = "led";
/// How long after the lease ran out the other operator may take to notice.
const RETRY: Duration = Duration::from_secs(5);

/// Guarantees: operator-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn when_the_leader_is_killed_the_other_takes_over_and_only_one_ever_writes()
-> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        scene.scale_operator(2).await?;
        let told = handed_over(&scene).await;
        let back = scene.scale_operator(1).await;
        told.and(back)
    })
    .await
}

async fn handed_over(scene: &Scene) -> anyhow::Result<()> {
    let mark = scene.audit().mark()?;
    scene.apply(&tiny(NAME, Variant::SOUND)).await?;
    scene.ready(NAME).await?;
    let old = scene.leader().await?;
    let pods = scene.operator_pods().await?;
    ensure!(pods.len() == 2, "{} operators", pods.len());
    let leading = pods.iter().find(|pod| pod.name_any() == old).context("no leader")?;
    let lease = scene.lease().await?.spec.and_then(|spec| spec.lease_duration_seconds);
    let lease = Duration::from_secs(u64::try_from(lease.context("the lease has no duration")?)?);
    ensure!(
        lease <= Duration::from_secs(30),
        "a lease of {lease:?} is a long time without a leader"
    );

    let killed = Instant::now();
    scene.kill_operator(leading)?;
    let mut system = scene.clone();
    SYSTEM_NAMESPACE.clone_into(&mut system.namespace);
    // Its container would be started again and could take its own lease back.
    system.kubectl(&["delete", "pod", &old, "--grace-period=0", "--force"], "").await?;
    let new = scene.leader_other_than(&old, lease + RETRY).await?;
    let took = killed.elapsed();
    ensure!(took <= lease + RETRY, "the takeover took {took:?} with a lease of {lease:?}");

    scene.kubectl(&["scale", "modeldeployment", NAME, "--replicas=2"], "").await?;
    scene.ready(NAME).await?;
    one_after_the_other(&scene.audit().since(mark, &scene.installed.operator.user)?, &old, &new)
}

/// In the order of the audit log, the old leader's writes end before the new one's begin.
/// A claim of the lease that the apiserver refused is no write.
fn one_after_the_other(requests: &[Request], old: &str, new: &str) -> anyhow::Result<()> {
    let writers: Vec<&str> = requests
        .iter()
        .filter(|request| request.is_write() && request.code < 300)
        .map(|request| request.pod.as_deref().unwrap_or("unknown"))
        .collect();
    let first_new =
        writers.iter().position(|&pod| pod == new).context("the new leader wrote nothing")?;
    let last_old =
        writers.iter().rposition(|&pod| pod == old).context("the old leader wrote nothing")?;
    ensure!(last_old < first_new, "{old} wrote after {new} had begun to: {writers:?}");
    ensure!(writers.iter().all(|&pod| pod == old || pod == new), "others wrote, too: {writers:?}");
    Ok(())
}
