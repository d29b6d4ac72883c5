//! A user changes the spec: another number of pods, another model, a broken one.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lamplighter_api::{ModelDeployment, ModelDeploymentStatus};
use lamplighter_e2e::call::{Connections, cosine};
use lamplighter_e2e::fixtures::{TinyBert, Variant};
use lamplighter_e2e::load::{Load, first_vector};
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::{MODEL, With as _, tiny, uri};
use lamplighter_e2e::wait::{Look, Seen, eventually};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

const NAME: &str = "changing";
const TEXT: &str = "the keeper walks to the tower";
/// The engine answers in 32-bit floats or better; the two variants are far further apart.
const SAME: f64 = 0.9995;

/// Guarantees: surroundings-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn kubectl_scale_works_and_status_and_selector_follow() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.ready(NAME).await?;
        let first = scene.pod_uids(NAME).await?;
        ensure!(first.len() == 1, "{first:?}");

        for replicas in [3, 1, 0, 1] {
            let wanted = format!("--replicas={replicas}");
            scene.kubectl(&["scale", "modeldeployment", NAME, &wanted], "").await?;
            let status = scaled(&scene, replicas).await?;
            let selector = status.selector.context("no selector")?;
            let selected = scene.pods_of(&selector).await?.len();
            ensure!(selected == usize::try_from(replicas)?, "{selected} pods match {selector}");
            if replicas == 3 {
                let now = scene.pod_uids(NAME).await?;
                ensure!(now.is_superset(&first), "scaling out replaced {first:?} by {now:?}");
            }
        }
        Ok(())
    })
    .await
}

/// Waits until status and pods show exactly so many replicas.
async fn scaled(scene: &Scene, replicas: i32) -> anyhow::Result<ModelDeploymentStatus> {
    let what = format!("{replicas} replicas");
    let status = scene
        .wait_for(NAME, &what, READY_DEADLINE, |found: Option<&ModelDeployment>| {
            let generation = found.and_then(|deployment| deployment.metadata.generation);
            let status = found.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
            let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            let done = status.observed_generation == generation
                && (status.replicas, status.ready_replicas) == (replicas, replicas)
                && ready;
            if done { Look::There(status) } else { Look::NotYet(format!("{status:?}")) }
        })
        .await?;
    eventually(&what, READY_DEADLINE, || async {
        let pods = scene.pod_uids(NAME).await?;
        Ok(Look::when(pods.len() == usize::try_from(replicas)?, || format!("{pods:?}")))
    })
    .await?;
    Ok(status)
}

/// Guarantees: switch-12.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_new_model_replaces_the_old_one_without_a_lost_or_mixed_up_answer() -> anyhow::Result<()>
{
    with_namespace(Turn::Alone, async |scene| {
        let before = tiny(NAME, Variant::SOUND);
        scene.apply(&before).await?;
        let old = scene.ready(NAME).await?;
        let old_pods = scene.pod_uids(NAME).await?;
        let endpoints = scene.record_endpoints(NAME);
        let load = load(&scene, [Variant::SOUND, Variant::SECOND]).await?;

        let after = before
            .with("/spec/models/0/version", json!("2.0.0"))
            .with("/spec/models/0/source/uri", json!(uri(Variant::SECOND)));
        scene.apply(&after).await?;
        let new = scene.ready(NAME).await?;
        let settled = settled(&scene).await?;
        scene.heard_from(NAME, &settled).await?;
        let tally = load.stop().await?;

        ensure!(revision(&old)? != revision(&new)?, "the revision is the same");
        ensure!(settled.is_disjoint(&old_pods), "{settled:?} still has one of {old_pods:?}");
        ensure!(
            tally.failures.is_empty(),
            "{} of {} requests failed: {:?}",
            tally.failures.len(),
            tally.answered,
            tally.failures.first()
        );
        ensure!(tally.answered > 50, "only {} requests", tally.answered);
        let answered: BTreeSet<String> = tally.by_pod.into_keys().collect();
        ensure!(
            answered.is_superset(&old_pods) && answered.is_superset(&settled),
            "{answered:?} answered, not both {old_pods:?} and {settled:?}"
        );
        always_ready(&endpoints.finish()?)?;
        let caller = scene.caller(NAME, Connections::Fresh).await?;
        let expected = answer_of(Variant::SECOND)?;
        eventually("only the new model answers", READY_DEADLINE, || async {
            for _ in 0..20 {
                let found = cosine(&caller.embed(MODEL, &[TEXT]).await?[0], &expected);
                if found <= SAME {
                    return Ok(Look::NotYet(format!("cosine {found} to the new answer")));
                }
            }
            Ok(Look::There(()))
        })
        .await
    })
    .await
}

/// Guarantees: strategy-09, switch-12.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_broken_change_keeps_the_old_model_serving_and_its_correction_restarts_nothing()
-> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let sound = tiny(NAME, Variant::SOUND);
        scene.apply(&sound).await?;
        let old = scene.ready(NAME).await?;
        let old_pods = scene.pod_uids(NAME).await?;
        ensure!(old_pods.len() == 1, "{old_pods:?}");
        let endpoints = scene.record_endpoints(NAME);
        let load = load(&scene, [Variant::SOUND, Variant::SOUND]).await?;

        let broken = sound
            .clone()
            .with("/spec/models/0/version", json!("1.0.1"))
            .with("/spec/models/0/source/uri", json!(uri(Variant::TRUNCATED)));
        scene.apply(&broken).await?;
        let reason = Variant::TRUNCATED.flaw.reason().context("not broken")?.as_str();
        let told =
            scene.wait_for_condition(NAME, "Ready", "False", Some(reason), READY_DEADLINE).await?;
        ensure!(state(&told, "Available") == Some("True"), "{:?}", told.status);
        ensure!(revision(&told)? == revision(&old)?, "the broken revision became active");

        scene.apply(&sound).await?;
        let back = scene.ready(NAME).await?;
        ensure!(revision(&back)? == revision(&old)?, "another revision than before");
        ensure!(settled(&scene).await? == old_pods, "the serving pod was replaced");

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        ensure!(tally.answered > 50, "only {} requests", tally.answered);
        let answered: BTreeSet<String> = tally.by_pod.into_keys().collect();
        ensure!(answered == old_pods, "{answered:?} answered instead of {old_pods:?}");
        always_ready(&endpoints.finish()?)
    })
    .await
}

/// A stream of requests whose answers are those of one of two variants, never anything else.
async fn load(scene: &Scene, allowed: [Variant; 2]) -> anyhow::Result<Load> {
    let expected = [answer_of(allowed[0])?, answer_of(allowed[1])?];
    let callers = [
        scene.caller(NAME, Connections::Kept).await?,
        scene.caller(NAME, Connections::Fresh).await?,
    ];
    Ok(Load::start(callers, MODEL, TEXT, move |answer: &Value| {
        let vector = first_vector(answer)?;
        let nearest = expected.iter().map(|known| cosine(&vector, known)).fold(-1.0, f64::max);
        if nearest > SAME {
            Ok(())
        } else {
            Err(format!("nearest known answer has cosine {nearest}"))
        }
    }))
}

fn answer_of(variant: Variant) -> anyhow::Result<Vec<f64>> {
    TinyBert::seeded(variant.seed).embed(TEXT).context("the text has an unknown word")
}

/// Waits until as many pods are there as wanted and no other, and returns their uids.
async fn settled(scene: &Scene) -> anyhow::Result<BTreeSet<String>> {
    eventually("one pod is left", READY_DEADLINE, || async {
        let pods = scene.pod_uids(NAME).await?;
        Ok(if pods.len() == 1 { Look::There(pods) } else { Look::NotYet(format!("{pods:?}")) })
    })
    .await
}

/// In every version of the Service's slices, taken together, some address was ready.
fn always_ready(seen: &[Seen<EndpointSlice>]) -> anyhow::Result<()> {
    let mut latest = std::collections::BTreeMap::new();
    ensure!(!seen.is_empty(), "no EndpointSlice was seen");
    for slice in seen {
        let ready = slice
            .object
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false))
            .count();
        latest.insert(slice.object.metadata.name.clone(), ready);
        ensure!(latest.values().sum::<usize>() > 0, "no address was ready: {:?}", slice.object);
    }
    Ok(())
}

fn revision(deployment: &ModelDeployment) -> anyhow::Result<&str> {
    let active = deployment.status.as_ref().and_then(|status| status.active.as_ref());
    Ok(&active.context("no active revision")?.revision)
}

fn state<'a>(deployment: &'a ModelDeployment, condition: &str) -> Option<&'a str> {
    let conditions = &deployment.status.as_ref()?.conditions;
    conditions.iter().find(|known| known.type_ == condition).map(|known| known.status.as_str())
}
