//! What fails to load, to warm up or to answer rightly never gets traffic and says why.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lamplighter_api::ModelDeployment;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::scene::READY_DEADLINE;
use lamplighter_e2e::spec::{MODEL, With as _, tiny};
use lamplighter_e2e::wait::{Look, Seen};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use lamplighter_protocol::{Failure, Reason};
use serde_json::{Value, json};
use tokio::time::Instant;

const NAME: &str = "dark";
/// From a container's end to its reason in the condition.
const TELLING: Duration = Duration::from_secs(10);

/// A deployment that ends with a typed reason of the worker: the reason is in the condition
/// soon after the container's end, and from its creation to its deletion no address was ready.
/// What can be known without a device is found out before there is any pod that could serve.
async fn gives_up(scene: &Scene, manifest: &Value, reason: Reason) -> anyhow::Result<()> {
    let endpoints = scene.record_endpoints(NAME);
    let readers = scene.record_readers(NAME);
    let pods = scene.record_pods(NAME);
    scene.apply(manifest).await?;
    let told = scene
        .wait_for_condition(NAME, "Ready", "False", Some(reason.as_str()), READY_DEADLINE)
        .await?;
    let told_at = Instant::now();
    let message = ready_message(&told)?;
    ensure!(message.contains(MODEL), "the message does not name the model: {message}");

    let (readers, pods) = (readers.finish()?, pods.finish()?);
    let read = readers.iter().find_map(end_of);
    let was_read = read.is_some();
    ensure!(!was_read || pods.is_empty(), "a pod was made for what could not be read");
    let (ended_at, failure) =
        read.or_else(|| pods.iter().find_map(end_of)).context("no container was seen to end")?;
    ensure!(failure.reason == reason, "the container ended with {failure}");
    let took = told_at.saturating_duration_since(ended_at);
    ensure!(took <= TELLING, "the reason was shown {took:?} after the container's end");

    scene.kubectl(&["delete", "modeldeployment", NAME, "--timeout=60s"], "").await?;
    gone(scene).await?;
    never_ready(&endpoints.finish()?, was_read)
}

/// The first end of a container with a failure in its termination message.
fn end_of(seen: &Seen<Pod>) -> Option<(Instant, Failure)> {
    let statuses = seen.object.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().flat_map(|status| [&status.state, &status.last_state]).flatten().find_map(
        |state| {
            let message = state.terminated.as_ref()?.message.as_deref()?;
            Some((seen.at, Failure::from_termination_message(message)?))
        },
    )
}

fn ready_message(deployment: &ModelDeployment) -> anyhow::Result<String> {
    let status = deployment.status.as_ref().context("no status")?;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    Ok(ready.context("no condition Ready")?.message.clone())
}

async fn gone(scene: &Scene) -> anyhow::Result<()> {
    lamplighter_e2e::wait::eventually("the pods are gone", Duration::from_mins(1), || async {
        let left = scene.descendants(NAME).await?;
        Ok(Look::when(left.is_empty(), || format!("{:?}", left.keys())))
    })
    .await
}

/// No version of a slice had a ready or serving address. Versions without any address do not
/// count as a look: at least one must have had an address that was not ready, unless no pod that
/// could serve was ever made.
fn never_ready(seen: &[Seen<EndpointSlice>], was_read: bool) -> anyhow::Result<()> {
    let mut dark = 0;
    for slice in seen {
        for endpoint in &slice.object.endpoints {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            // An absent value means ready (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/).
            let ready = conditions.ready != Some(false) || conditions.serving != Some(false);
            ensure!(!ready, "{:?} got traffic: {conditions:?}", endpoint.addresses);
            dark += 1;
        }
    }
    ensure!(
        was_read || dark > 0,
        "{} versions of EndpointSlices, none with an address",
        seen.len()
    );
    Ok(())
}

async fn variant_gives_up(variant: Variant) -> anyhow::Result<()> {
    let reason = variant.flaw.reason().context("the variant is sound")?;
    with_namespace(Turn::Shared, async |scene| gives_up(&scene, &tiny(NAME, variant), reason).await)
        .await
}

/// Guarantees: always-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_garbled_header_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    variant_gives_up(Variant::HEADER).await
}

/// Guarantees: always-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn truncated_weights_never_get_traffic_and_say_so() -> anyhow::Result<()> {
    variant_gives_up(Variant::TRUNCATED).await
}

/// Guarantees: always-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_missing_tokenizer_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    variant_gives_up(Variant::NO_TOKENIZER).await
}

/// Guarantees: always-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_foreign_architecture_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    variant_gives_up(Variant::FOREIGN).await
}

/// Guarantees: always-02, gates-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_weight_that_is_not_a_number_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    variant_gives_up(Variant::NOT_FINITE).await
}

/// Guarantees: always-02, gates-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_wrong_golden_answer_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    variant_gives_up(Variant::WRONG_GOLDEN).await
}

/// Guarantees: always-02, gates-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_wrong_case_of_the_users_own_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let wrong = json!([{
            "name": "never-far",
            "similarity": {"texts": ["the lamp burns", "the lamp burns"], "atMost": "0.5"},
        }]);
        let manifest = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/validation", json!({}))
            .with("/spec/models/0/validation/cases", wrong);
        gives_up(&scene, &manifest, Reason::ValidationFailed).await
    })
    .await
}

/// Guarantees: always-02, gates-06.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_model_without_any_case_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        gives_up(&scene, &tiny(NAME, Variant::NO_GOLDEN), Reason::NoValidationCases).await
    })
    .await
}

/// Guarantees: always-02.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn an_object_that_is_not_there_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let manifest = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/source/uri", json!("s3://models/tiny/no-such-variant"));
        gives_up(&scene, &manifest, Reason::ArtifactNotFound).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn wrong_credentials_never_get_traffic_and_say_so() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        scene.store_secret("wrong", "not-the-key").await?;
        let manifest =
            tiny(NAME, Variant::SOUND).with("/spec/models/0/source/secretRef/name", json!("wrong"));
        gives_up(&scene, &manifest, Reason::AuthDenied).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_missing_secret_never_gets_traffic_and_says_so() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let manifest = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/source/secretRef/name", json!("nobody-made-it"));
        gives_up(&scene, &manifest, Reason::AuthDenied).await
    })
    .await
}

/// Guarantees: strategy-06, retry-03.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn a_secret_that_arrives_late_is_noticed_without_a_change_of_the_spec() -> anyhow::Result<()>
{
    with_namespace(Turn::Shared, async |scene| {
        let manifest = tiny(NAME, Variant::SOUND)
            .with("/spec/models/0/source/secretRef/name", json!("late"))
            .with("/spec/rollout/retry", json!({"backoffSeconds": 2}));
        scene.apply(&manifest).await?;
        let reason = Reason::AuthDenied.as_str();
        scene.wait_for_condition(NAME, "Stalled", "True", Some(reason), READY_DEADLINE).await?;
        ensure!(scene.pod_uids(NAME).await?.is_empty(), "a pod was made without a model to load");

        scene.store_secret("late", lamplighter_e2e::deploy::STORE_SECRET_KEY).await?;
        scene.wait_for_condition(NAME, "Ready", "True", None, READY_DEADLINE).await?;
        Ok(())
    })
    .await
}
