//! The chart, as the one who installed it sees it.

use anyhow::ensure;
use lamplighter_e2e::deploy::{RELEASE, SYSTEM_NAMESPACE};
use lamplighter_e2e::{Turn, with_namespace};

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn helm_test_finds_the_installation_sound() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let said = scene.helm(&["test", RELEASE, "--namespace", SYSTEM_NAMESPACE]).await?;
        let phases: Vec<&str> =
            said.lines().filter_map(|line| line.strip_prefix("Phase:")).map(str::trim).collect();
        ensure!(!phases.is_empty(), "the chart has no test: {said}");
        ensure!(phases.iter().all(|phase| *phase == "Succeeded"), "{said}");
        Ok(())
    })
    .await
}
