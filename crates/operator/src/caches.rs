//! What the cluster looks like, kept by watches: one watch per kind feeds both the cache and the
//! queue, so a reconcile reads no object from the apiserver that it has seen before.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, NodeStatus, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{ReconcileRequest, trigger_owners, trigger_self, trigger_with};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use lamplighter_api::{ModelDeployment, names};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::watches::{Watched, Watches};

/// How long a reconcile waits for the caches. Filling them takes seconds even for thousands of
/// objects; longer means that a watch is refused.
pub const SYNC_DEADLINE: Duration = Duration::from_secs(30);

/// Names of objects to reconcile.
pub type Queue =
    SelectAll<BoxStream<'static, Result<ReconcileRequest<ModelDeployment>, watcher::Error>>>;

/// The caches. Children are those with our label only; a foreign object of a name that we need
/// is not among them.
#[derive(Clone)]
pub struct Caches {
    /// What users ask for.
    pub deployments: Store<ModelDeployment>,
    /// Workloads, without their pod templates.
    pub replica_sets: Store<ReplicaSet>,
    /// Records of revisions.
    pub records: Store<ControllerRevision>,
    /// Manifests; their contents never change and are not kept.
    pub manifests: Store<PartialObjectMeta<ConfigMap>>,
    /// Services.
    pub services: Store<Service>,
    /// Disruption budgets.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// Who is reached through the Services. Kubernetes gives them the labels of their Service:
    /// <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#management>.
    pub endpoint_slices: Store<EndpointSlice>,
    /// Worker pods.
    pub pods: Store<Pod>,
    /// Jobs that clean up shared caches; how they go is for the Job controller.
    pub collectors: Store<PartialObjectMeta<Job>>,
    /// Nodes: name, labels, and what pods can ask for. Empty where only one namespace is watched.
    pub nodes: Store<Node>,
}

/// The writing ends of [`Caches`].
#[derive(Default)]
pub struct Writers {
    /// What users ask for.
    pub deployments: Writer<ModelDeployment>,
    /// Workloads.
    pub replica_sets: Writer<ReplicaSet>,
    /// Records of revisions.
    pub records: Writer<ControllerRevision>,
    /// Manifests.
    pub manifests: Writer<PartialObjectMeta<ConfigMap>>,
    /// Services.
    pub services: Writer<Service>,
    /// Disruption budgets.
    pub disruption_budgets: Writer<PodDisruptionBudget>,
    /// Who is reached through the Services.
    pub endpoint_slices: Writer<EndpointSlice>,
    /// Worker pods.
    pub pods: Writer<Pod>,
    /// Jobs that clean up shared caches.
    pub collectors: Writer<PartialObjectMeta<Job>>,
    /// Nodes.
    pub nodes: Writer<Node>,
}

impl Caches {
    /// Empty caches, and what fills them.
    pub fn new() -> (Self, Writers) {
        let writers = Writers::default();
        let caches = Self {
            deployments: writers.deployments.as_reader(),
            replica_sets: writers.replica_sets.as_reader(),
            records: writers.records.as_reader(),
            manifests: writers.manifests.as_reader(),
            services: writers.services.as_reader(),
            disruption_budgets: writers.disruption_budgets.as_reader(),
            endpoint_slices: writers.endpoint_slices.as_reader(),
            pods: writers.pods.as_reader(),
            collectors: writers.collectors.as_reader(),
            nodes: writers.nodes.as_reader(),
        };
        (caches, writers)
    }

    /// Returns when every cache has been filled once: deciding on a half-filled view could
    /// create what is already there.
    pub async fn synced(&self) -> Result<(), Error> {
        let children = async {
            tokio::try_join!(
                self.replica_sets.wait_until_ready(),
                self.records.wait_until_ready(),
                self.manifests.wait_until_ready(),
                self.services.wait_until_ready(),
                self.disruption_budgets.wait_until_ready(),
                self.endpoint_slices.wait_until_ready(),
                self.pods.wait_until_ready(),
                self.collectors.wait_until_ready(),
                self.nodes.wait_until_ready(),
            )
        };
        match timeout(SYNC_DEADLINE, children).await {
            Ok(Ok(_)) => Ok(()),
            // A writer that is gone will never fill its cache: the same to whoever waits.
            Ok(Err(_)) | Err(_) => Err(Error::CachesNotSynced(SYNC_DEADLINE)),
        }
    }
}

/// Starts the watches, and tells `watches` how they stand. The queue must be polled for the caches
/// to fill.
pub fn watch(
    client: &Client,
    namespace: Option<&str>,
    writers: Writers,
    watches: &Watches,
) -> Queue {
    let Writers {
        deployments,
        replica_sets,
        records,
        manifests,
        services,
        disruption_budgets,
        endpoint_slices,
        pods,
        collectors,
        nodes,
    } = writers;
    let source = Source { client, namespace, watches };
    let mut queue = Queue::new();
    queue.push(own(&source, deployments));
    queue.push(owned(&source, replica_sets, |set: &mut ReplicaSet| {
        if let Some(spec) = &mut set.spec {
            spec.template = None;
        }
    }));
    queue.push(owned(&source, records, without_managers));
    queue.push(owned(&source, manifests, without_managers));
    // Managers are kept where we compare what we own.
    queue.push(owned(&source, services, |_| {}));
    queue.push(owned(&source, disruption_budgets, |_| {}));
    queue.push(labelled(&source, endpoint_slices, without_managers));
    queue.push(labelled(&source, pods, without_managers));
    queue.push(owned(&source, collectors, without_managers));
    if namespace.is_none() {
        queue.push(looked_at(&source, nodes));
    } else {
        none(nodes);
    }
    queue
}

/// Where watches read.
struct Source<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    watches: &'a Watches,
}

impl Source<'_> {
    fn api<K: Child>(&self) -> Api<K> {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn watched<K: Child>(&self) -> Watched {
        self.watches.add::<K>(self.namespace)
    }
}

type Requests = BoxStream<'static, Result<ReconcileRequest<ModelDeployment>, watcher::Error>>;

/// The resource itself: a change of its spec, of annotations (they carry commands), its deletion,
/// or a memory that was written and is to be acted on. All else in the status wakes nobody.
fn own(source: &Source<'_>, writer: Writer<ModelDeployment>) -> Requests {
    let watched = source.watched::<ModelDeployment>();
    let changes = watcher(source.api::<ModelDeployment>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| watched.delivered(event, Instant::now()))
        .applied_objects()
        .predicate_filter(news, kube::runtime::PredicateConfig::default());
    trigger_self(changes, ()).boxed()
}

/// What a change of the resource has to change to be one. The signature is kube's.
#[expect(clippy::unnecessary_wraps, reason = "None would mean that every event is news")]
fn news(deployment: &ModelDeployment) -> Option<u64> {
    let epoch = deployment.status.as_ref().and_then(|status| status.epoch);
    let mut hasher = DefaultHasher::new();
    (deployment.metadata.generation, deployment.annotations(), epoch).hash(&mut hasher);
    Some(hasher.finish())
}

/// Children wake their owner whenever they change or go.
fn owned<K: Child>(
    source: &Source<'_>,
    writer: Writer<K>,
    shrink: impl Fn(&mut K) + Send + 'static,
) -> Requests {
    trigger_owners(touched(source, writer, shrink), (), ()).boxed()
}

/// Pods belong to a ReplicaSet and slices to a Service; the label says to which deployment.
fn labelled<K: Child>(
    source: &Source<'_>,
    writer: Writer<K>,
    shrink: impl Fn(&mut K) + Send + 'static,
) -> Requests {
    let to_deployment = |object: K| {
        let name = object.labels().get(names::LABEL_DEPLOYMENT)?;
        let namespace = object.namespace()?;
        Some(ObjectRef::<ModelDeployment>::new(name).within(&namespace))
    };
    let touched = touched(source, writer, shrink);
    trigger_with(touched.map_ok(to_deployment), |deployment| deployment).boxed()
}

fn touched<K: Child, F: Fn(&mut K) + Send + 'static>(
    source: &Source<'_>,
    writer: Writer<K>,
    shrink: F,
) -> impl Stream<Item = watcher::Result<K>> + Send + use<K, F> {
    let labelled = watcher::Config::default().labels(names::LABEL_DEPLOYMENT);
    let watched = source.watched::<K>();
    watcher(source.api::<K>(), labelled)
        .default_backoff()
        .modify(shrink)
        .reflect(writer)
        .inspect(move |event| watched.delivered(event, Instant::now()))
        .touched_objects()
}

/// Nodes wake nobody: whoever waits for a larger one looks again by itself.
fn looked_at(source: &Source<'_>, writer: Writer<Node>) -> Requests {
    let watched = source.watches.add::<Node>(None);
    watcher(Api::<Node>::all(source.client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(shrink)
        .reflect(writer)
        .inspect(move |event| watched.delivered(event, Instant::now()))
        .touched_objects()
        .filter_map(async |touched| touched.err().map(Err))
        .boxed()
}

/// A whole node takes tens of kilobytes, most of them names of images.
fn shrink(node: &mut Node) {
    let ObjectMeta { name, labels, resource_version, uid, .. } = std::mem::take(&mut node.metadata);
    node.metadata = ObjectMeta { name, labels, resource_version, uid, ..ObjectMeta::default() };
    node.spec = None;
    let allocatable = node.status.take().and_then(|status| status.allocatable);
    node.status = Some(NodeStatus { allocatable, ..NodeStatus::default() });
}

/// A `Role` cannot grant a look at what is in no namespace, so nothing is known, and nobody waits.
fn none(mut writer: Writer<Node>) {
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

/// What a child's type must be able to do.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

fn without_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}
