//! Installs what all stories share, once a run: the chart, by the real helm, and the store.

use std::fs::{File, TryLockError};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::command::said;
use crate::settings::{Settings, repository_and_tag};
use crate::wait::{self, Look};

/// Where the operator runs.
pub const SYSTEM_NAMESPACE: &str = "lamplighter-system";
/// Where the store runs.
pub const STORE_NAMESPACE: &str = "lamplighter-store";
/// Name of the helm release.
pub const RELEASE: &str = "lamplighter";
/// The store's secret key. A test key for a store inside a test cluster.
pub const STORE_SECRET_KEY: &str = "only-for-tests";

const STORE: &str = "store";
const STORE_ACCESS_KEY: &str = "stories";
const STORE_PORT: u16 = 9000;
const FIELD_MANAGER: &str = "lamplighter-stories";
/// How long a whole run of the stories may take.
const OTHER_RUN_DEADLINE: Duration = Duration::from_mins(15);
const HELM_DEADLINE: Duration = Duration::from_mins(4);
const STORE_DEADLINE: Duration = Duration::from_mins(2);

/// What was installed.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The operator.
    pub operator: Operator,
    /// The model store.
    pub store: StoreAddress,
    /// Held while this run lasts.
    _cluster: Arc<File>,
}

/// The operator as the cluster knows it.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The name of its Deployment.
    pub deployment: String,
    /// Its user name, as in the audit log.
    pub user: String,
}

/// Where the store answers inside the cluster.
#[derive(Clone, Debug)]
pub struct StoreAddress {
    endpoint: String,
}

impl StoreAddress {
    /// The entries of a Secret for a worker: named like the environment variables of S3's tools.
    pub fn credentials(&self, secret_key: &str) -> Value {
        json!({
            "AWS_ACCESS_KEY_ID": STORE_ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        })
    }
}

/// Installs or upgrades chart and store, and waits until both are there.
///
/// Waits for the end of another run of the stories that uses the cluster: they would take each
/// other's operator away, and count each other's writes.
pub async fn install(settings: &Settings, client: &Client) -> anyhow::Result<Installation> {
    let cluster = only_run(settings).await?;
    for namespace in [SYSTEM_NAMESPACE, STORE_NAMESPACE] {
        restricted(client, namespace).await?;
    }
    let (operator, store) =
        futures::try_join!(install_chart(settings, client), install_store(settings, client))?;
    Ok(Installation { operator, store, _cluster: Arc::new(cluster) })
}

/// Locks the cluster's kubeconfig for as long as the file is open.
async fn only_run(settings: &Settings) -> anyhow::Result<File> {
    let path = settings.kubeconfig.display();
    let file =
        File::open(&settings.kubeconfig).with_context(|| format!("{path} cannot be read"))?;
    let what = format!("no other run of the stories uses the cluster of {path}");
    wait::eventually(&what, OTHER_RUN_DEADLINE, || async {
        match file.try_lock() {
            Ok(()) => Ok(Look::There(())),
            Err(TryLockError::WouldBlock) => Ok(Look::NotYet("another one does".to_owned())),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    })
    .await?;
    Ok(file)
}

async fn restricted(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    apply(Api::<Namespace>::all(client.clone()), name, &namespace).await
}

async fn apply<K>(api: Api<K>, name: &str, object: &Value) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &parameters, &Patch::Apply(object))
        .await
        .with_context(|| format!("{name} cannot be applied"))?;
    Ok(())
}

async fn install_chart(settings: &Settings, client: &Client) -> anyhow::Result<Operator> {
    let chart = settings.repo.join("charts/lamplighter");
    let (repository, tag) = repository_and_tag(&settings.operator_image)?;
    let (worker_repository, worker_tag) = repository_and_tag(&settings.worker_image)?;
    let values = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("worker.image.repository={worker_repository}"),
        format!("worker.image.tag={worker_tag}"),
    ];
    let chart = chart.to_str().context("the checkout's path is not UTF-8")?;
    let mut arguments = vec!["upgrade", "--install", RELEASE, chart];
    arguments.extend(["--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout", "200s"]);
    for value in &values {
        arguments.extend(["--set-string", value]);
    }
    let kubeconfig = [("KUBECONFIG", settings.kubeconfig.as_os_str())];
    said(&settings.helm, &arguments, &kubeconfig, "", HELM_DEADLINE)
        .await?
        .stdout_of_success("helm upgrade --install")?;
    find_operator(client).await
}

async fn find_operator(client: &Client) -> anyhow::Result<Operator> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let deployments = api.list(&ListParams::default()).await?.items;
    ensure!(
        deployments.len() == 1,
        "{SYSTEM_NAMESPACE} should have one Deployment, the operator's, and has {}",
        deployments.len()
    );
    let found = &deployments[0];
    let account = found
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .and_then(|pod| pod.service_account_name.clone())
        .context("the operator has no service account of its own")?;
    Ok(Operator {
        deployment: found.name_any(),
        user: format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{account}"),
    })
}

async fn install_store(settings: &Settings, client: &Client) -> anyhow::Result<StoreAddress> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), STORE_NAMESPACE);
    apply(deployments.clone(), STORE, &store_deployment(&settings.store_image)).await?;
    let services: Api<Service> = Api::namespaced(client.clone(), STORE_NAMESPACE);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": STORE},
        "spec": {"selector": {"app": STORE}, "ports": [{"port": STORE_PORT, "targetPort": "s3"}]},
    });
    apply(services.clone(), STORE, &service).await?;
    wait::on(deployments, STORE, "the store is available", STORE_DEADLINE, |found| {
        let status = found.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
        let generation = found.and_then(|deployment| deployment.metadata.generation);
        let done = status.observed_generation == generation
            && status.updated_replicas == Some(1)
            && status.available_replicas == Some(1)
            && status.replicas == Some(1);
        Look::when(done, || format!("{status:?}"))
    })
    .await?;
    // The address, not the name: the store works before the cluster's DNS does.
    let address = services
        .get(STORE)
        .await?
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("the store's Service has no address")?;
    Ok(StoreAddress { endpoint: format!("http://{address}:{STORE_PORT}") })
}

fn store_deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": STORE},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": STORE}},
            "template": {
                "metadata": {"labels": {"app": STORE}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "s3",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["--root", "/models", "--listen", format!("0.0.0.0:{STORE_PORT}")],
                        "env": [
                            {"name": "AWS_ACCESS_KEY_ID", "value": STORE_ACCESS_KEY},
                            {"name": "AWS_SECRET_ACCESS_KEY", "value": STORE_SECRET_KEY},
                        ],
                        "ports": [{"name": "s3", "containerPort": STORE_PORT}],
                        "readinessProbe": {
                            "httpGet": {"path": crate::s3::HEALTH_ROUTE, "port": "s3"},
                            "periodSeconds": 1,
                        },
                        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"},
                            "limits": {"memory": "256Mi"}},
                        "securityContext": {"allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
        },
    })
}
