//! Step 1: everything that is known about one deployment, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Resource, ResourceExt};
use lamplighter_api::{ModelDeployment, names};

use super::ownership::is_controlled_by;
use super::validate::ENVIRONMENT;
use crate::context::Context;
use crate::polls::{self, Answer};

/// How many pods are asked for a report in one reconcile, all at the same time. Their reports
/// explain a start; with hundreds of pods the first few explain it as well.
const MOST_REPORTS: usize = 16;

/// What is known about one deployment. Lists are sorted by name.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Its workloads.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// The records of its revisions.
    pub records: Vec<Arc<ControllerRevision>>,
    /// The manifests of its revisions, without their contents.
    pub manifests: Vec<Arc<PartialObjectMeta<ConfigMap>>>,
    /// The object that has the name of its Service, whosever it is.
    pub service: Option<Arc<Service>>,
    /// The object that has the name of its disruption budget, whosever it is.
    pub disruption_budget: Option<Arc<PodDisruptionBudget>>,
    /// The pods of its workloads.
    pub pods: Vec<Arc<Pod>>,
    /// What pods said about themselves, by the pod's name; only for pods that have something to
    /// tell.
    pub reports: BTreeMap<String, Answer>,
    /// In how long to ask pods again; None when none is to be asked.
    pub ask_again: Option<Duration>,
}

/// Reads the caches, and asks the pods that have something to tell. Cannot fail: what cannot be
/// read from a pod is a fact about the pod.
pub async fn fetch(context: &Context, deployment: &ModelDeployment) -> Fetched {
    let mut fetched = from_caches(context, deployment);
    let asked = with_news(deployment, &fetched.pods);
    fetched.reports = ask(context, &asked).await;
    let now = context.now();
    fetched.ask_again = asked.iter().filter_map(|pod| context.polls.again(pod, now)).min();
    fetched
}

fn from_caches(context: &Context, deployment: &ModelDeployment) -> Fetched {
    let caches = &context.caches;
    let replica_sets = children(&caches.replica_sets, deployment);
    let workloads: BTreeSet<String> = replica_sets.iter().filter_map(|set| set.uid()).collect();
    let is_worker = |pod: &Pod| workloads.iter().any(|uid| is_controlled_by(pod.meta(), uid));
    let name = deployment.name_any();
    Fetched {
        records: children(&caches.records, deployment),
        manifests: children(&caches.manifests, deployment),
        service: named(&caches.services, deployment, &names::service(&name)),
        disruption_budget: named(
            &caches.disruption_budgets,
            deployment,
            &names::disruption_budget(&name, ENVIRONMENT),
        ),
        pods: labelled(&caches.pods, deployment, is_worker),
        reports: BTreeMap::new(),
        ask_again: None,
        replica_sets,
    }
}

/// The cached objects that the deployment controls.
fn children<K>(store: &Store<K>, deployment: &ModelDeployment) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + reflector::Lookup<DynamicType = ()> + Clone + 'static,
{
    let uid = deployment.uid().unwrap_or_default();
    labelled(store, deployment, |child| is_controlled_by(child.meta(), &uid))
}

fn labelled<K>(
    store: &Store<K>,
    deployment: &ModelDeployment,
    is_ours: impl Fn(&K) -> bool,
) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + reflector::Lookup<DynamicType = ()> + Clone + 'static,
{
    let namespace = deployment.namespace();
    let name = deployment.name_any();
    let mut found = store.state_filter(|child| {
        child.meta().namespace == namespace
            && child.labels().get(names::LABEL_DEPLOYMENT) == Some(&name)
            && is_ours(child)
    });
    found.sort_by_key(|child| child.name_any());
    found
}

fn named<K>(store: &Store<K>, deployment: &ModelDeployment, name: &str) -> Option<Arc<K>>
where
    K: reflector::Lookup<DynamicType = ()> + Clone + 'static,
{
    let namespace = deployment.namespace().unwrap_or_default();
    store.get(&ObjectRef::new(name).within(&namespace))
}

/// The pods that are on their way, and those whose models are not in the status yet. A pod that
/// serves and whose models are known has nothing new to tell, so an idle deployment costs no
/// request.
fn with_news(deployment: &ModelDeployment, pods: &[Arc<Pod>]) -> Vec<polls::Pod> {
    let known = deployment
        .status
        .as_ref()
        .and_then(|status| status.active.as_ref())
        .filter(|active| !active.models.is_empty())
        .map(|active| active.revision.as_str());
    pods.iter()
        .filter(|pod| has_news(pod, known))
        .filter_map(|pod| {
            Some(polls::Pod {
                name: pod.name_any(),
                uid: pod.uid()?,
                version: pod.resource_version()?,
                address: pod.status.as_ref()?.pod_ip.clone()?,
                is_ready: super::observe::is_ready(pod),
            })
        })
        .take(MOST_REPORTS)
        .collect()
}

/// What the pods say, or said when it is too early to ask them again.
async fn ask(context: &Context, pods: &[polls::Pod]) -> BTreeMap<String, Answer> {
    let answers = pods.iter().map(|pod| async move {
        let answer = if let Some(answer) = context.polls.remembered(pod, context.now()) {
            answer
        } else {
            let answer = context.reporter.ask(&pod.address, &pod.uid).await;
            context.polls.answered(pod, answer, context.now())
        };
        (pod.name.clone(), answer)
    });
    join_all(answers).await.into_iter().collect()
}

fn has_news(pod: &Pod, known: Option<&str>) -> bool {
    let is_leaving = pod.metadata.deletion_timestamp.is_some();
    let is_running = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    let is_known =
        known.is_some() && pod.labels().get(names::LABEL_REVISION).map(String::as_str) == known;
    !is_leaving && is_running && (!super::observe::is_ready(pod) || !is_known)
}
