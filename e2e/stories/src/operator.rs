//! The operator as a story handles it: its pods, its lease, its metrics, and its sudden death.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};

use crate::audit::{Mark, Request as Audited};
use crate::deploy::SYSTEM_NAMESPACE;
use crate::openmetrics::Metrics;
use crate::scene::Scene;
use crate::wait::{self, Look};

/// The operator's counter of how often it looked at a deployment.
pub const RECONCILES: &str = "lamplighter_operator_reconciles_total";
/// How long a started operator may take to be available.
const AVAILABLE_DEADLINE: Duration = Duration::from_mins(1);
/// The name of the operator's container port with `/metrics`.
const METRICS_PORT: &str = "metrics";
/// The operator's process, as `/proc/<pid>/comm` names it (the kernel keeps 15 bytes).
const PROCESS: &str = "lamplighter-ope";

impl Scene {
    /// The operator's pods that are not on their way out.
    pub async fn operator_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let selector =
            self.operator_deployment().await?.spec.and_then(|spec| spec.selector.match_labels);
        let terms: Vec<String> = selector
            .context("the operator's Deployment selects by no label")?
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let pods = api.list(&ListParams::default().labels(&terms.join(","))).await?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// The operator's one pod; an error when there are none or several.
    pub async fn operator_pod(&self) -> anyhow::Result<Pod> {
        let mut pods = self.operator_pods().await?;
        ensure!(pods.len() == 1, "the operator has {} pods instead of one", pods.len());
        pods.pop().context("no pod")
    }

    async fn operator_deployment(&self) -> anyhow::Result<Deployment> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        Ok(api.get(&self.installed.operator.deployment).await?)
    }

    /// Scales the operator and waits until exactly so many pods are there and available.
    pub async fn scale_operator(&self, replicas: i32) -> anyhow::Result<()> {
        let mut system = self.clone();
        SYSTEM_NAMESPACE.clone_into(&mut system.namespace);
        let deployment = format!("deployment/{}", self.installed.operator.deployment);
        system.kubectl(&["scale", &deployment, &format!("--replicas={replicas}")], "").await?;
        self.operator_available(replicas).await
    }

    /// Waits until the operator has exactly so many pods, all of them available.
    pub async fn operator_available(&self, replicas: i32) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let name = &self.installed.operator.deployment;
        let what = format!("the operator has {replicas} available pods");
        wait::on(api, name, &what, AVAILABLE_DEADLINE, |found| {
            let status = found.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
            let done = status.available_replicas == Some(replicas)
                && status.replicas == Some(replicas)
                && status.observed_generation == found.and_then(|d| d.metadata.generation);
            Look::when(done, || format!("{status:?}"))
        })
        .await
    }

    /// The lease of the leading operator.
    pub async fn lease(&self) -> anyhow::Result<Lease> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let mut leases = api.list(&ListParams::default()).await?.items;
        ensure!(leases.len() == 1, "{SYSTEM_NAMESPACE} has {} leases instead of one", leases.len());
        leases.pop().context("no lease")
    }

    /// The name of the operator pod that holds the lease.
    ///
    /// A holder's identity begins with the pod's name; that is how people find it, too.
    pub async fn leader(&self) -> anyhow::Result<String> {
        let holder = self
            .lease()
            .await?
            .spec
            .and_then(|spec| spec.holder_identity)
            .filter(|holder| !holder.is_empty())
            .context("nobody holds the lease")?;
        let pods = self.operator_pods().await?;
        pods.iter()
            .map(ResourceExt::name_any)
            .find(|pod| holder.starts_with(pod.as_str()))
            .with_context(|| format!("the holder {holder} is not one of the operator's pods"))
    }

    /// Waits until a pod other than this one leads.
    pub async fn leader_other_than(&self, old: &str, deadline: Duration) -> anyhow::Result<String> {
        wait::eventually(&format!("another operator than {old} leads"), deadline, || async {
            let leader = self.leader().await?;
            Ok(if leader == old {
                Look::NotYet(format!("{old} leads"))
            } else {
                Look::There(leader)
            })
        })
        .await
    }

    /// Kills the operator's process in a pod with SIGKILL, as the kernel would when memory runs
    /// out: nothing is released or said. The pods' processes are this machine's own.
    pub fn kill_operator(&self, pod: &Pod) -> anyhow::Result<()> {
        kill_process_of(&pod.uid().context("the pod has no uid")?, PROCESS)
    }

    /// What a pod says at `/metrics` of a port, fetched through the apiserver.
    pub async fn metrics(&self, namespace: &str, pod: &str, port: u16) -> anyhow::Result<Metrics> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
        let request = Request::get(path).body(Vec::new())?;
        let text = self.client.request_text(request).await.context("metrics cannot be fetched")?;
        Metrics::parse(&text)
    }

    /// What one of the operator's pods says at `/metrics`.
    pub async fn operator_metrics(&self, pod: &str) -> anyhow::Result<Metrics> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let spec = api.get(pod).await?.spec.context("no spec")?;
        let port = spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .find(|port| port.name.as_deref() == Some(METRICS_PORT))
            .with_context(|| format!("{pod} has no port named {METRICS_PORT}"))?;
        self.metrics(SYSTEM_NAMESPACE, pod, u16::try_from(port.container_port)?).await
    }

    /// The operator's writes since a mark, those to its lease left out.
    ///
    /// Fails when the log has no request of the operator at all: it would say nothing.
    pub fn operator_writes(&self, since: Mark) -> anyhow::Result<Vec<Audited>> {
        let all = self.audit().since(since, &self.installed.operator.user)?;
        if all.is_empty() {
            bail!("the audit log has no request of {} at all", self.installed.operator.user);
        }
        Ok(all
            .into_iter()
            .filter(|request| request.is_write() && !request.is_about_a_lease())
            .collect())
    }

    /// The names of the operator's pods that wrote since a mark, be it their lease alone.
    pub fn operator_callers(&self, since: Mark) -> anyhow::Result<BTreeSet<String>> {
        let all = self.audit().since(since, &self.installed.operator.user)?;
        Ok(all.into_iter().filter_map(|request| request.pod).collect())
    }
}

/// Kills the one process of a pod that has this name with SIGKILL.
pub(crate) fn kill_process_of(pod_uid: &str, name: &str) -> anyhow::Result<()> {
    let mut killed = 0;
    for pid in processes_of(pod_uid)? {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim() == name {
            let pid = Pid::from_raw(pid).context("not a process id")?;
            kill_process(pid, Signal::KILL).with_context(|| format!("{name} cannot be killed"))?;
            killed += 1;
        }
    }
    ensure!(killed == 1, "{killed} processes {name} of pod {pod_uid} instead of one");
    Ok(())
}

/// The processes of a pod, by the cgroup that the kubelet put them into.
fn processes_of(pod_uid: &str) -> anyhow::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc cannot be listed")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that ends meanwhile has no cgroup and is not the one.
        let cgroups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroups.contains(&format!("pod{pod_uid}")) {
            found.push(pid);
        }
    }
    Ok(found)
}
