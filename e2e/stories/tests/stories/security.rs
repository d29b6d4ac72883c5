//! What the operator and the workers may not do.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use lamplighter_e2e::deploy::SYSTEM_NAMESPACE;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::tiny;
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::json;

const NAME: &str = "guarded";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn operator_and_workers_run_where_the_restricted_standard_is_enforced() -> anyhow::Result<()>
{
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.ready(NAME).await?;
        let workers = scene.pods(NAME).await?;
        let operators = scene.operator_pods().await?;
        ensure!(!workers.is_empty() && !operators.is_empty(), "no pods");

        let namespaces: Api<Namespace> = Api::all(scene.client.clone());
        for name in [scene.namespace.as_str(), SYSTEM_NAMESPACE] {
            let labels = namespaces.get(name).await?.metadata.labels.unwrap_or_default();
            ensure!(
                labels.get(ENFORCE).map(String::as_str) == Some("restricted"),
                "{name}: {labels:?}"
            );
        }
        for pod in &workers {
            let spec = pod.spec.as_ref().context("no spec")?;
            ensure!(spec.automount_service_account_token == Some(false), "a worker has a token");
            for container in &spec.containers {
                let security = container.security_context.as_ref();
                let read_only = security.and_then(|security| security.read_only_root_filesystem);
                ensure!(read_only == Some(true), "{} may write its image", container.name);
            }
        }
        // The standard is in force: a pod without its settings is refused.
        let lax = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lax"},
            "spec": {"containers": [{"name": "c", "image": "none"}]}});
        let said = scene
            .kubectl_said(&["create", "--dry-run=server", "-f", "-"], &lax.to_string())
            .await?;
        ensure!(
            !said.success && said.stderr.contains("PodSecurity"),
            "not refused: {}{}",
            said.stdout,
            said.stderr
        );
        Ok(())
    })
    .await
}

/// Guarantees: api-01.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn the_operator_may_not_read_secrets_nor_change_specs() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
            ensure!(!may(&scene, verb, "secrets").await?, "the operator may {verb} secrets");
        }
        for (verb, resource) in [
            ("update", "modeldeployments.lamplighter.dev"),
            ("patch", "modeldeployments.lamplighter.dev"),
            ("delete", "modeldeployments.lamplighter.dev"),
            ("create", "pods/exec"),
            ("escalate", "clusterroles.rbac.authorization.k8s.io"),
            ("impersonate", "users"),
        ] {
            ensure!(!may(&scene, verb, resource).await?, "the operator may {verb} {resource}");
        }
        // The question works: what it needs, it may.
        for (verb, resource) in [
            ("watch", "modeldeployments.lamplighter.dev"),
            ("patch", "modeldeployments.lamplighter.dev/status"),
            ("patch", "replicasets.apps"),
            ("patch", "services"),
        ] {
            ensure!(may(&scene, verb, resource).await?, "the operator may not {verb} {resource}");
        }
        Ok(())
    })
    .await
}

/// Whether the operator's user may do something in the story's namespace, as the apiserver sees it.
async fn may(scene: &Scene, verb: &str, resource: &str) -> anyhow::Result<bool> {
    let user = format!("--as={}", scene.installed.operator.user);
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let subresource = format!("--subresource={subresource}");
    let said =
        scene.kubectl_said(&["auth", "can-i", verb, resource, &subresource, &user], "").await?;
    match said.stdout.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => {
            anyhow::bail!("kubectl auth can-i {verb} {resource} said {other:?}{}", said.stderr)
        }
    }
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn workers_have_no_token_to_steal() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        scene.apply(&tiny(NAME, Variant::SOUND)).await?;
        scene.ready(NAME).await?;
        let pods: Vec<Pod> = scene.pods(NAME).await?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        let spec = pods[0].spec.as_ref().context("no spec")?;
        let mounts: Vec<&str> = spec
            .containers
            .iter()
            .flat_map(|container| container.volume_mounts.iter().flatten())
            .map(|mount| mount.mount_path.as_str())
            .collect();
        ensure!(!mounts.is_empty(), "a worker mounts at least its manifest");
        ensure!(!mounts.iter().any(|path| path.contains("serviceaccount")), "{mounts:?}");
        Ok(())
    })
    .await
}
