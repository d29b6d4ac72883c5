//! One story's surroundings: a namespace of its own, and what a person at a terminal can do there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use lamplighter_api::{ModelDeployment, names};
use lamplighter_protocol::place::{IDENTITY_ROUTE, POD_HEADER};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::audit::AuditLog;
use crate::call::{Caller, Connections};
use crate::command::{Said, said};
use crate::deploy::{Installation, STORE_NAMESPACE};
use crate::settings::Settings;
use crate::wait::{self, Look, Recording};

/// How long one kubectl command may take.
const KUBECTL_DEADLINE: Duration = Duration::from_mins(1);
/// How long one helm command may take; `helm test` starts a pod.
const HELM_DEADLINE: Duration = Duration::from_mins(2);
/// How long a tiny model may take from apply to ready, with other stories running beside it.
pub const READY_DEADLINE: Duration = Duration::from_secs(90);

/// How long a node's proxy may take to learn of a ready pod.
const PROXY_DEADLINE: Duration = Duration::from_secs(15);

/// One story's surroundings.
#[derive(Clone)]
pub struct Scene {
    /// An administrator's client.
    pub client: Client,
    /// The story's own namespace.
    pub namespace: String,
    /// Where the tools and images are.
    pub settings: Arc<Settings>,
    /// The operator and the store that all stories share.
    pub installed: Installation,
}

impl Scene {
    /// Objects of a kind in the story's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The apiserver's audit log.
    pub fn audit(&self) -> AuditLog {
        AuditLog::at(&self.settings.audit_log)
    }

    /// Runs the real kubectl in the story's namespace, whatever comes of it.
    pub async fn kubectl_said(&self, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(arguments);
        let kubeconfig = [("KUBECONFIG", self.settings.kubeconfig.as_os_str())];
        said(&self.settings.kubectl, &all, &kubeconfig, input, KUBECTL_DEADLINE).await
    }

    /// Runs the real kubectl in the story's namespace; its output, or an error with its words.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let said = self.kubectl_said(arguments, input).await?;
        said.stdout_of_success(&format!("kubectl {}", arguments.join(" ")))
    }

    /// Runs the real helm; its output, or an error with its words.
    pub async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let kubeconfig = [("KUBECONFIG", self.settings.kubeconfig.as_os_str())];
        let said = said(&self.settings.helm, arguments, &kubeconfig, "", HELM_DEADLINE).await?;
        said.stdout_of_success(&format!("helm {}", arguments.join(" ")))
    }

    /// `kubectl apply -f -` of a manifest.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<String> {
        self.kubectl(&["apply", "-f", "-"], &manifest.to_string()).await
    }

    /// Runs the Python that has the official `OpenAI` client.
    pub async fn python(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Said> {
        let environment: Vec<_> =
            environment.iter().map(|&(name, value)| (name, OsStr::new(value))).collect();
        said(&self.settings.python, arguments, &environment, "", Duration::from_mins(2)).await
    }

    /// Watches an object until `look` finds what it is after.
    pub async fn wait_for<K, T>(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        look: impl FnMut(Option<&K>) -> Look<T>,
    ) -> anyhow::Result<T>
    where
        K: Clone
            + Debug
            + DeserializeOwned
            + Resource<Scope = NamespaceResourceScope>
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        wait::on(self.api::<K>(), name, what, deadline, look).await
    }

    /// Waits until a condition of the deployment's current generation has a state and, if one
    /// is given, a reason.
    pub async fn wait_for_condition(
        &self,
        name: &str,
        condition: &str,
        state: &str,
        reason: Option<&str>,
        deadline: Duration,
    ) -> anyhow::Result<ModelDeployment> {
        let what = format!("{name} has {condition}={state} {}", reason.unwrap_or_default());
        self.wait_for(name, &what, deadline, |found: Option<&ModelDeployment>| {
            let Some(deployment) = found else {
                return Look::NotYet("the deployment does not exist".to_owned());
            };
            let current = deployment.metadata.generation;
            let conditions = deployment.status.iter().flat_map(|status| &status.conditions);
            match conditions.into_iter().find(|known| known.type_ == condition) {
                Some(known)
                    if known.status == state
                        && known.observed_generation == current
                        && reason.is_none_or(|reason| known.reason == reason) =>
                {
                    Look::There(deployment.clone())
                }
                Some(known) => Look::NotYet(format!(
                    "{}={} {} at generation {:?} of {current:?}: {}",
                    known.type_,
                    known.status,
                    known.reason,
                    known.observed_generation,
                    known.message
                )),
                None => {
                    Look::NotYet(format!("no condition {condition} in {:?}", deployment.status))
                }
            }
        })
        .await
    }

    /// Waits until the deployment's current generation is Ready.
    pub async fn ready(&self, name: &str) -> anyhow::Result<ModelDeployment> {
        self.wait_for_condition(name, "Ready", "True", None, READY_DEADLINE).await
    }

    /// Waits until the deployment's current generation is Ready and nothing is under way.
    pub async fn settled(&self, name: &str) -> anyhow::Result<ModelDeployment> {
        self.ready(name).await?;
        self.wait_for(
            name,
            "nothing is under way",
            READY_DEADLINE,
            |found: Option<&ModelDeployment>| {
                let Some(deployment) = found.cloned() else {
                    return Look::NotYet("the deployment does not exist".to_owned());
                };
                match deployment.status.as_ref().and_then(|status| status.rollout.as_ref()) {
                    None => Look::There(deployment),
                    Some(rollout) => Look::NotYet(format!("{rollout:?}")),
                }
            },
        )
        .await
    }

    /// The deployment as it is.
    pub async fn deployment(&self, name: &str) -> anyhow::Result<ModelDeployment> {
        self.api().get(name).await.with_context(|| format!("{name} cannot be read"))
    }

    /// The pods of a deployment that serve, or are to, and are not on their way out.
    pub async fn pods(&self, name: &str) -> anyhow::Result<Vec<Pod>> {
        let (deployment, role) = (names::LABEL_DEPLOYMENT, names::LABEL_ROLE);
        self.pods_of(&format!("{deployment}={name},!{role}")).await
    }

    /// The pods that a label selector selects and that are not on their way out.
    pub async fn pods_of(&self, selector: &str) -> anyhow::Result<Vec<Pod>> {
        let selected = ListParams::default().labels(selector);
        let pods = self.api::<Pod>().list(&selected).await.context("pods cannot be listed")?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// The uids of [`Scene::pods`].
    pub async fn pod_uids(&self, name: &str) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.pods(name).await?.iter().filter_map(ResourceExt::uid).collect())
    }

    /// Takes the store that all stories share away, or brings it back. For stories that are alone.
    pub async fn scale_store(&self, replicas: u32) -> anyhow::Result<()> {
        let mut system = self.clone();
        STORE_NAMESPACE.clone_into(&mut system.namespace);
        let replicas = format!("--replicas={replicas}");
        system.kubectl(&["scale", "deployment/store", &replicas], "").await?;
        system.kubectl(&["rollout", "status", "deployment/store", "--timeout=60s"], "").await?;
        Ok(())
    }

    /// What the store said.
    pub async fn store_log(&self) -> anyhow::Result<String> {
        let mut system = self.clone();
        STORE_NAMESPACE.clone_into(&mut system.namespace);
        system.kubectl(&["logs", "deployment/store"], "").await
    }

    /// A client of the deployment's Service at its `NodePort`, once somebody answers there: the
    /// node's proxy learns of a ready pod a moment after everybody else.
    pub async fn caller(&self, name: &str, connections: Connections) -> anyhow::Result<Caller> {
        let service = names::service(name);
        let found = self.api::<Service>().get(&service).await?;
        let port = found
            .spec
            .and_then(|spec| spec.ports)
            .and_then(|ports| ports.first().and_then(|port| port.node_port))
            .with_context(|| format!("Service {service} has no NodePort"))?;
        let port = u16::try_from(port)?;
        let probe = Caller::probe(port);
        wait::eventually("the Service answers at its NodePort", PROXY_DEADLINE, || async {
            let answer = probe.get(IDENTITY_ROUTE).await?;
            Ok(Look::when(answer.status.is_success(), || format!("{answer:?}")))
        })
        .await?;
        Ok(Caller::new(port, connections))
    }

    /// Waits until each of these pods, by their uids, has answered through the Service.
    pub async fn heard_from(&self, name: &str, pods: &BTreeSet<String>) -> anyhow::Result<()> {
        let caller = self.caller(name, Connections::Fresh).await?;
        let heard = Mutex::new(BTreeSet::new());
        wait::eventually("every pod answers through the Service", PROXY_DEADLINE, || async {
            let answer = caller.get(IDENTITY_ROUTE).await?.ok()?;
            let mut heard = heard.lock().await;
            heard.insert(answer.header(POD_HEADER).to_owned());
            Ok(Look::when(heard.is_superset(pods), || format!("only {heard:?} of {pods:?}")))
        })
        .await
    }

    /// Starts to record every version of the `EndpointSlices` of a deployment's Service.
    pub fn record_endpoints(&self, name: &str) -> Recording<EndpointSlice> {
        let service = format!("kubernetes.io/service-name={}", names::service(name));
        Recording::start(self.api(), watcher::Config::default().labels(&service))
    }

    /// Starts to record every version of a deployment's pods.
    pub fn record_pods(&self, name: &str) -> Recording<Pod> {
        let (deployment, role) = (names::LABEL_DEPLOYMENT, names::LABEL_ROLE);
        let labelled = format!("{deployment}={name},!{role}");
        Recording::start(self.api(), watcher::Config::default().labels(&labelled))
    }

    /// Starts to record every version of the pods that read what a deployment's models are.
    pub fn record_readers(&self, name: &str) -> Recording<Pod> {
        let (deployment, role) = (names::LABEL_DEPLOYMENT, names::LABEL_ROLE);
        let labelled = format!("{deployment}={name},{role}");
        Recording::start(self.api(), watcher::Config::default().labels(&labelled))
    }

    /// Makes the Secret with the keys of the shared store.
    pub async fn store_secret(&self, name: &str, secret_key: &str) -> anyhow::Result<()> {
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": self.installed.store.credentials(secret_key),
        });
        let said = self.apply(&secret).await?;
        ensure!(said.contains("created"), "the Secret was there already: {said}");
        Ok(())
    }
}
