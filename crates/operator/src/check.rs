//! `check`: is the resource served, and would a minimal one be accepted? Nothing is created.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use lamplighter_api::{
    Model, ModelDeployment, ModelDeploymentSpec, RolloutSpec, ServiceSpec, Source, Task,
    Validation, ValidationMode, WorkerSpec, names,
};
use tokio::time::timeout;

/// Checks the installation that `client` reaches and says so in one line on standard output.
pub(crate) async fn check(
    client: Client,
    namespace: Option<&str>,
    deadline: Duration,
) -> anyhow::Result<()> {
    let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
    let line = timeout(deadline, verdict(client, &namespace))
        .await
        .with_context(|| format!("the cluster did not answer within {} s", deadline.as_secs()))??;
    writeln!(std::io::stdout(), "{line}").context("standard output cannot be written")
}

async fn verdict(client: Client, namespace: &str) -> anyhow::Result<String> {
    let version = ModelDeployment::api_version(&());
    let served = client
        .list_api_group_resources(&version)
        .await
        .with_context(|| format!("{version} is not served; are the CRDs installed?"))?;
    let plural = ModelDeployment::plural(&());
    if !served.resources.iter().any(|resource| resource.name == plural) {
        bail!("{version} is served, but without {plural}; are the CRDs of this release installed?");
    }
    let dry_run =
        PostParams { dry_run: true, field_manager: Some(names::FIELD_MANAGER.to_owned()) };
    Api::<ModelDeployment>::namespaced(client, namespace)
        .create(&dry_run, &minimal())
        .await
        .with_context(|| format!("a minimal ModelDeployment is not accepted in {namespace}"))?;
    Ok(format!("ok: {plural}.{version} is served and accepted in namespace {namespace}"))
}

/// The smallest resource that every rule allows.
fn minimal() -> ModelDeployment {
    ModelDeployment {
        metadata: ObjectMeta {
            name: Some("lamplighter-check".to_owned()),
            ..ObjectMeta::default()
        },
        spec: ModelDeploymentSpec {
            paused: false,
            replicas: 0,
            models: vec![Model {
                name: "model".to_owned(),
                version: "1".to_owned(),
                task: Task::Embedding,
                default: false,
                source: Source { uri: "image:///model".to_owned(), secret_ref: None },
                expected_digest: None,
                validation: Validation { mode: ValidationMode::Disabled, cases: Vec::new() },
            }],
            service: ServiceSpec::default(),
            worker: WorkerSpec::default(),
            rollout: RolloutSpec::default(),
        },
        status: None,
    }
}
