//! Step 1: everything that is known about one deployment, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Resource, ResourceExt};
use lamplighter_api::{Device, ModelDeployment, names};
use lamplighter_plan::rollout::{CommandKind, Environment};

use super::fitting::Measured;
use super::ownership::is_controlled_by;
use super::revision::Snapshot;
use crate::caches::Caches;
use crate::context::Context;
use crate::polls::{self, Answer};

/// How many pods are asked for a report in one reconcile, all at the same time. Their reports
/// explain a start; with hundreds of pods the first few explain it as well.
const MOST_REPORTS: usize = 16;

/// How often pods are asked in phases that wait for what they say.
const WAITED_FOR: Duration = Duration::from_secs(2);
/// How often they are asked while a person is waited for, which may take days.
const IN_REACH: Duration = Duration::from_secs(20);

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
    /// The object that has the name of its preview Service, whosever it is.
    pub preview: Option<Arc<Service>>,
    /// Who is reached through its Service.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// The objects that have the names of its disruption budgets, whosever they are.
    pub disruption_budgets: Vec<Arc<PodDisruptionBudget>>,
    /// The pods of its workloads.
    pub pods: Vec<Arc<Pod>>,
    /// The pods that read what its models are.
    pub resolvers: Vec<Arc<Pod>>,
    /// The Jobs that clean up the cache that it shares.
    pub collectors: Vec<Arc<PartialObjectMeta<Job>>>,
    /// The deployments that share its cache, itself included, or did with a revision of which there
    /// is a record.
    pub sharers: Vec<Arc<ModelDeployment>>,
    /// The nodes that there are, where it is to run on GPUs; none where the operator may not see them.
    pub nodes: Vec<Arc<Node>>,
    /// What pods said about themselves, by the pod's name; only for pods that have something to
    /// tell.
    pub reports: BTreeMap<String, Answer>,
    /// What the pods that serve had in memory until they were ready.
    pub measured: Option<Measured>,
    /// Uids of the pods that were told to shed their connections since the last switch.
    pub told_to_shed: BTreeSet<String>,
    /// Uid of the pod that answered a request through the Service, if one was made.
    pub answered: Option<String>,
    /// In how long to ask pods again; None when none is to be asked.
    pub ask_again: Option<Duration>,
}

/// Reads the caches, and asks the pods that have something to tell. Cannot fail: what cannot be
/// read from a pod is a fact about the pod.
pub async fn fetch(context: &Context, deployment: &ModelDeployment) -> Fetched {
    let mut fetched = from_caches(context, deployment);
    let now = context.now();
    let asks = Asks::of(deployment);
    let asked = with_news(deployment, &fetched.pods, asks);
    fetched.reports = ask(context, &asked, asks).await;
    fetched.ask_again = asked.iter().filter_map(|pod| context.polls.again(pod, now)).min();
    if let Some(pace) = asks.pace() {
        fetched.ask_again = Some(fetched.ask_again.map_or(pace, |again| again.min(pace)));
    }
    if asks == Asks::Switch {
        fetched.answered = identify(context, &fetched).await;
    }
    let epoch = deployment.status.as_ref().and_then(|status| status.epoch).unwrap_or_default();
    let uids = fetched.pods.iter().filter_map(|pod| pod.metadata.uid.as_deref());
    fetched.told_to_shed = context.sheds.told_in(u64::try_from(epoch).unwrap_or_default(), uids);
    fetched
}

impl Fetched {
    /// Uids of the pods that requests reach: by the endpoints, and because one of them answered.
    pub fn routed(&self) -> BTreeSet<&str> {
        let slices = self.endpoint_slices.iter().map(AsRef::as_ref);
        let mut routed = super::observe::routed(slices);
        routed.extend(self.answered.as_deref());
        routed
    }
}

/// What pods are asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asks {
    /// How far they are.
    Progress,
    /// Whether they have what a switch waits for: closed connections, fresh proofs.
    Waited,
    /// How old their proofs are, for a person who may promote them.
    Proofs,
    /// Nothing; but somebody at the Service, who it is.
    Switch,
}

impl Asks {
    fn of(deployment: &ModelDeployment) -> Self {
        let rollout = deployment.status.as_ref().and_then(|status| status.rollout.as_ref());
        match rollout.map(|rollout| rollout.phase.as_str()) {
            Some("Shedding" | "Clearing") => Self::Waited,
            Some("AwaitingPromotion") if is_promoted(deployment) => Self::Waited,
            Some("AwaitingPromotion") => Self::Proofs,
            Some("CuttingOver" | "Reverting") => Self::Switch,
            Some(_) | None => Self::Progress,
        }
    }

    /// How often they are asked at least.
    fn pace(self) -> Option<Duration> {
        match self {
            Self::Progress => None,
            Self::Waited | Self::Switch => Some(WAITED_FOR),
            Self::Proofs => Some(IN_REACH),
        }
    }
}

/// Somebody has asked for a promotion, and it was not acknowledged.
fn is_promoted(deployment: &ModelDeployment) -> bool {
    let commands = super::memory::commands(deployment.annotations());
    let token = commands.get(&CommandKind::Promote).map(|command| command.token.as_str());
    let heard = deployment.status.iter().flat_map(|status| &status.acknowledged);
    let is_heard = heard
        .into_iter()
        .any(|heard| heard.command == "promote" && Some(heard.token.as_str()) == token);
    token.is_some() && !is_heard
}

/// Who answers at the Service. Endpoints say who should be reached, an answer who is. Where the
/// Service cannot be reached from here, the endpoints have to do.
async fn identify(context: &Context, fetched: &Fetched) -> Option<String> {
    let spec = fetched.service.as_ref()?.spec.as_ref()?;
    let address = spec.cluster_ip.as_deref().filter(|address| *address != "None")?;
    let port = u16::try_from(spec.ports.as_ref()?.first()?.port).ok()?;
    match context.reporter.identify(address, port).await {
        Ok(uid) => Some(uid),
        Err(error) => {
            tracing::debug!(address, port, %error, "nobody answers at the Service");
            None
        }
    }
}

fn from_caches(context: &Context, deployment: &ModelDeployment) -> Fetched {
    let caches = &context.caches;
    let replica_sets = children(&caches.replica_sets, deployment);
    let workloads: BTreeSet<String> = replica_sets.iter().filter_map(|set| set.uid()).collect();
    let is_worker = |pod: &Pod| workloads.iter().any(|uid| is_controlled_by(pod.meta(), uid));
    let name = deployment.name_any();
    let service = names::service(&name);
    let of_service =
        |slice: &EndpointSlice| slice.labels().get("kubernetes.io/service-name") == Some(&service);
    let budgets = Environment::ALL.map(|environment| {
        let name = names::disruption_budget(&name, environment.as_str());
        named(&caches.disruption_budgets, deployment, &name)
    });
    Fetched {
        records: children(&caches.records, deployment),
        manifests: children(&caches.manifests, deployment),
        preview: named(&caches.services, deployment, &names::preview_service(&name)),
        endpoint_slices: labelled(&caches.endpoint_slices, deployment, of_service),
        disruption_budgets: budgets.into_iter().flatten().collect(),
        pods: labelled(&caches.pods, deployment, is_worker),
        resolvers: resolvers(context, deployment),
        collectors: children(&caches.collectors, deployment),
        sharers: sharers(caches, deployment),
        nodes: nodes(&caches.nodes, deployment),
        measured: Measured::of(deployment),
        service: named(&caches.services, deployment, &service),
        replica_sets,
        ..Fetched::default()
    }
}

fn resolvers(context: &Context, deployment: &ModelDeployment) -> Vec<Arc<Pod>> {
    let mut pods = children(&context.caches.pods, deployment);
    pods.retain(|pod| {
        pod.labels().get(names::LABEL_ROLE).map(String::as_str) == Some(names::RESOLVER)
    });
    pods
}

/// The deployments whose pods mount the same claim as their cache, or those of a revision that may
/// have to come back.
fn sharers(caches: &Caches, deployment: &ModelDeployment) -> Vec<Arc<ModelDeployment>> {
    let Some(cache) = &deployment.spec.worker.cache else { return Vec::new() };
    let claim = cache.persistent_volume_claim.claim_name.as_str();
    let namespace = deployment.namespace();
    let records = caches.records.state_filter(|record| {
        record.namespace() == namespace && Snapshot::cache_claim(record) == Some(claim)
    });
    caches.deployments.state_filter(|other| {
        let uid = other.metadata.uid.as_deref().unwrap_or_default();
        other.namespace() == namespace
            && (other.spec.worker.cache.as_ref() == Some(cache)
                || records.iter().any(|record| is_controlled_by(record.meta(), uid)))
    })
}

/// They say how large GPUs are, which concerns nobody else.
fn nodes(nodes: &Store<Node>, deployment: &ModelDeployment) -> Vec<Arc<Node>> {
    match deployment.spec.worker.effective_device() {
        Device::Cuda => nodes.state(),
        Device::Cpu => Vec::new(),
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
fn with_news(deployment: &ModelDeployment, pods: &[Arc<Pod>], asks: Asks) -> Vec<polls::Pod> {
    let known = deployment
        .status
        .as_ref()
        .and_then(|status| status.active.as_ref())
        .filter(|active| !active.models.is_empty())
        .map(|active| active.revision.as_str());
    let all = matches!(asks, Asks::Waited | Asks::Proofs);
    let most = if all { pods.len() } else { MOST_REPORTS };
    pods.iter()
        .filter(|pod| all && is_running(pod) || has_news(pod, known))
        .filter_map(|pod| {
            Some(polls::Pod {
                name: pod.name_any(),
                uid: pod.uid()?,
                version: pod.resource_version()?,
                address: pod.status.as_ref()?.pod_ip.clone()?,
                is_ready: super::observe::is_ready(pod),
            })
        })
        .take(most)
        .collect()
}

/// What the pods say, or said when it is too early to ask them again.
async fn ask(context: &Context, pods: &[polls::Pod], asks: Asks) -> BTreeMap<String, Answer> {
    let answers = pods.iter().map(|pod| async move {
        let remembered = context.polls.remembered(pod, context.now());
        let is_taken = !matches!(asks, Asks::Waited | Asks::Proofs);
        let answer = if let Some(answer) = remembered.filter(|_| is_taken) {
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
    let is_known =
        known.is_some() && pod.labels().get(names::LABEL_REVISION).map(String::as_str) == known;
    !is_leaving && is_running(pod) && (!super::observe::is_ready(pod) || !is_known)
}

fn is_running(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}
