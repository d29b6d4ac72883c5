//! What scrapers get.

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use lamplighter_e2e::call::Connections;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::operator::RECONCILES;
use lamplighter_e2e::spec::{MODEL, tiny};
use lamplighter_e2e::{Turn, with_namespace};
use lamplighter_protocol::place::ADMIN_PORT;

const NAME: &str = "measured";

/// Guarantees: operator-10.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn operator_and_worker_give_valid_openmetrics_that_count_what_happened() -> anyhow::Result<()>
{
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.ready(NAME).await?;
        let pods = scene.pods(NAME).await?;
        let pod = pods.first().context("no pod")?.name_any();
        let before = scene.metrics(&scene.namespace, &pod, ADMIN_PORT).await?;
        let caller = scene.caller(NAME, Connections::Kept).await?;
        for _ in 0..3 {
            caller.embed(MODEL, &["the lamp burns"]).await?;
        }
        let after = scene.metrics(&scene.namespace, &pod, ADMIN_PORT).await?;
        let counted: Vec<&String> = after
            .samples
            .iter()
            .filter(|(name, value)| {
                let old = before.samples.get(*name).copied().unwrap_or_default();
                name.contains("_total") && (*value - old - 3.0).abs() < 0.5
            })
            .map(|(name, _)| name)
            .collect();
        ensure!(
            !counted.is_empty(),
            "no counter of the worker grew by the 3 requests: {:?}",
            after.samples
        );

        let operator = scene.operator_metrics(&scene.leader().await?).await?;
        let reconciles = operator.sum(RECONCILES).context("no count of reconciles")?;
        ensure!(reconciles >= 1.0, "{reconciles} reconciles");
        let broken =
            operator.sum("lamplighter_operator_invariant_violations_total").unwrap_or_default();
        ensure!(broken < 1.0, "{broken} plans broke an invariant");
        ensure!(operator.families.len() >= 3, "{:?}", operator.families);
        Ok(())
    })
    .await
}
