//! What keeps the pod from beginning that reads what models are.

use anyhow::{Context as _, ensure};
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::{With as _, tiny};
use lamplighter_e2e::{Turn, with_namespace};
use serde_json::json;

const NAME: &str = "unpulled";
const NOWHERE: &str = "localhost/lamplighter/nowhere:1";

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn an_image_that_cannot_be_pulled_is_named_while_models_should_be_read() -> anyhow::Result<()>
{
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND).with("/spec/worker/image", json!(NOWHERE))).await?;
        let reason = Some("ImagePullFailed");
        let told = scene.wait_for_condition(NAME, "Ready", "False", reason, READY_DEADLINE).await?;
        let status = told.status.context("no status")?;
        let candidate = status.candidate.and_then(|candidate| candidate.reason);
        let candidate = candidate.context("nothing is said of the candidate")?;
        for said in ["ImagePullFailed", NOWHERE, "pod "] {
            ensure!(candidate.contains(said), "{said}: {candidate}");
        }
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.settled(NAME).await?;
        Ok(())
    })
    .await
}
