//! Somebody deletes what the operator made, or the deployment itself.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use lamplighter_e2e::children::{Children, KINDS};
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::tiny;
use lamplighter_e2e::wait::{Look, eventually};
use lamplighter_e2e::{Turn, with_namespace};

const NAME: &str = "mended";

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn each_deleted_child_comes_back_under_its_name() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.ready(NAME).await?;
        let before = scene.children(NAME).await?;
        ensure!(kinds(&before) == BTreeSet::from(KINDS), "children are {:?}", before.keys());

        for (child, deleted) in &before {
            scene.delete_child(child).await?;
            eventually(&format!("{child} comes back"), READY_DEADLINE, || async {
                let now = scene.children(NAME).await?;
                let back = now.get(child).is_some_and(|found| found.uid != deleted.uid);
                Ok(Look::when(back, || format!("{now:?}")))
            })
            .await?;
            scene.ready(NAME).await?;
        }
        eventually("the same children as before, and no other", READY_DEADLINE, || async {
            let after = scene.children(NAME).await?;
            Ok(Look::when(before.keys().eq(after.keys()), || format!("{:?}", after.keys())))
        })
        .await
    })
    .await
}

/// Guarantees: api-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_deleted_deployment_leaves_nothing() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.ready(NAME).await?;
        let before = scene.descendants(NAME).await?;
        for kind in KINDS.iter().chain(&["Pod", "EndpointSlice"]) {
            ensure!(kinds(&before).contains(kind), "there is no {kind} among {:?}", before.keys());
        }
        scene.kubectl(&["delete", "modeldeployment", NAME, "--timeout=60s"], "").await?;
        eventually("everything is gone", Duration::from_secs(90), || async {
            let left = scene.descendants(NAME).await?;
            Ok(Look::when(left.is_empty(), || format!("{:?}", left.keys())))
        })
        .await
    })
    .await
}

fn kinds(children: &Children) -> BTreeSet<&str> {
    children.keys().filter_map(|child| child.split_once('/')).map(|(kind, _)| kind).collect()
}
