//! A user applies the sample and calls it.

use anyhow::{Context as _, ensure};
use lamplighter_e2e::call::{Connections, cosine};
use lamplighter_e2e::{Turn, with_namespace};
use lamplighter_protocol::place::{IDENTITY_ROUTE, POD_HEADER};
use serde_json::{Value, json};

use crate::samples::sample;

const SAMPLE: &str = "embedder";
/// What sentence-transformers answers for the real model; see the recipe beside it.
const REFERENCE: &str = "crates/engine/tests/golden/all-minilm-l6-v2.json";

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn the_sample_applied_verbatim_becomes_ready_and_gives_the_reference_vectors()
-> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let deployment = sample(&scene, SAMPLE).await?;
        let name = deployment.metadata.name.clone().context("no name")?;
        let status = deployment.status.context("no status")?;
        let active = status.active.context("ready, but no active revision")?;
        ensure!(active.models.len() == 1, "{:?}", active.models);
        let served = &active.models[0];
        ensure!(served.architecture == "BertModel", "{served:?}");
        ensure!(served.parameters > 20_000_000 && served.bytes > 80_000_000, "{served:?}");

        let caller = scene.caller(&name, Connections::Kept).await?;
        let reference = std::fs::read_to_string(scene.settings.repo.join(REFERENCE))?;
        let reference: Value = serde_json::from_str(&reference)?;
        let mut checked = 0;
        for case in reference["cases"].as_array().context("no cases")? {
            let text = case["text"].as_str().context("no text")?;
            if text.trim().is_empty() {
                continue;
            }
            let expected: Vec<f64> = serde_json::from_value(case["vector"].clone())?;
            let vectors = caller.embed(&served.name, &[text]).await?;
            let found = cosine(&vectors[0], &expected);
            ensure!(found > 0.9995, "{text:?} has cosine {found} to the reference");
            checked += 1;
        }
        ensure!(checked >= 5, "only {checked} reference texts");

        let pods = scene.pod_uids(&name).await?;
        let identity = caller.get(IDENTITY_ROUTE).await?.ok()?;
        ensure!(pods.contains(identity.header(POD_HEADER)), "{:?}", identity.headers);
        let said = identity.json()?;
        ensure!(said["revision"] == json!(active.revision), "{said}");
        ensure!(said["podUid"] == json!(identity.header(POD_HEADER)), "{said}");
        ensure!(said["models"][0]["digest"] == json!(served.digest), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn the_official_openai_client_works_against_the_sample() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let deployment = sample(&scene, SAMPLE).await?;
        let name = deployment.metadata.name.context("no name")?;
        let model = deployment.spec.models[0].name.clone();
        let base = format!("{}/v1", scene.caller(&name, Connections::Kept).await?.base());
        let script = scene.settings.repo.join("crates/worker/tests/openai_client/test_client.py");
        let script = script.to_str().context("the path is not UTF-8")?;
        let said = scene
            .python(&[script], &[("LAMPLIGHTER_BASE_URL", &base), ("LAMPLIGHTER_MODEL", &model)])
            .await?;
        let output = said.stdout_of_success("the OpenAI client")?;
        let checks = output
            .lines()
            .find_map(|line| line.strip_prefix("openai client: ")?.strip_suffix(" checks passed"))
            .with_context(|| format!("no count of checks in {output}"))?;
        ensure!(checks.parse::<u32>()? >= 5, "only {checks} checks");
        Ok(())
    })
    .await
}
