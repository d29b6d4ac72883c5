//! A cluster around the pipeline: the apiserver, what the watches deliver, and a context.

use std::sync::Arc;

use k8s_openapi::jiff::ToSpan;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{Lookup, store::Writer};
use kube::runtime::watcher::Event;
use lamplighter_operator::backoff::Attempts;
use lamplighter_operator::caches::{Caches, Writers};
use lamplighter_operator::context::{Clock, Context};
use lamplighter_operator::error::Error;
use lamplighter_operator::metrics::Metrics;
use lamplighter_operator::polls::Polls;
use lamplighter_operator::reconcile::reconcile;
use lamplighter_operator::reports::Reporter;
use lamplighter_operator::sheds::Sheds;
use lamplighter_telemetry::metrics::Registry;
use prometheus_client::encoding::text::encode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Asked};
use crate::fixtures::{
    IMAGE, NAME, NAMESPACE, deployment, found, from, images, now, pod, ready, serving, wanted,
};

pub(crate) const SERVICE: &str = "/api/v1/namespaces/library/services/scripture-search";
pub(crate) const DEPLOYMENT: &str =
    "/apis/lamplighter.dev/v1alpha1/namespaces/library/modeldeployments/scripture-search";

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) writers: Writers,
    pub(crate) context: Arc<Context>,
    registry: Registry,
}

impl Cluster {
    /// A cluster in which only the deployment is.
    pub(crate) fn new() -> Self {
        let (server, client) = ApiServer::start();
        let (caches, writers) = Caches::new();
        let mut registry = Registry::default();
        let context = Context {
            recorder: Recorder::new(client.clone(), "lamplighter-operator".into()),
            client,
            caches,
            reporter: Reporter::new(),
            polls: Polls::default(),
            sheds: Sheds::default(),
            metrics: Metrics::new(&mut registry),
            attempts: Attempts::default(),
            images: images(),
            clock: Clock::stopped_at(now()),
        };
        server.put(DEPLOYMENT, serde_json::to_value(deployment()).unwrap());
        Self { server, writers, context: Arc::new(context), registry }
    }

    /// A cluster in which the deployment is complete, known to be good, and reported.
    pub(crate) async fn complete() -> Self {
        let mut cluster = Self::new();
        cluster.settle().await;
        // The rollback window is over.
        let status = serving(&wanted());
        cluster.server.edit(DEPLOYMENT, |deployment| {
            deployment["status"]["rollout"] = Value::Null;
            deployment["status"]["epoch"] = json!(9);
            deployment["status"]["knownGood"] = json!(status.known_good);
        });
        cluster.settle().await;
        cluster.server.take_asked();
        cluster
    }

    /// Lets everybody else do their part and reconciles, until there is nothing to do. What was
    /// asked on the way.
    pub(crate) async fn settle(&mut self) -> Vec<Asked> {
        let mut all = Vec::new();
        for _ in 0..40 {
            self.others();
            self.reconcile().await.unwrap();
            let asked = self.asked();
            if asked.is_empty() {
                return all;
            }
            all.extend(asked);
        }
        panic!("it does not settle: {all:?}");
    }

    /// So much time passes.
    pub(crate) fn wait(&mut self, seconds: i64) {
        let context = Arc::get_mut(&mut self.context).unwrap();
        let later = context.now().checked_add(seconds.seconds()).unwrap();
        context.clock = Clock::stopped_at(later);
    }

    /// What the rest of Kubernetes does, in an instant: readers find out, workloads get their pods,
    /// and the Service its endpoints.
    pub(crate) fn others(&self) {
        self.read();
        for set in self.server.all("replicasets") {
            let labels = &set["metadata"]["labels"];
            let revision = labels["lamplighter.dev/revision"].as_str().unwrap().to_owned();
            let environment = labels["lamplighter.dev/environment"].as_str().unwrap().to_owned();
            let wanted = set["spec"]["replicas"].as_u64().unwrap();
            self.pods_in(&revision, &environment, wanted);
        }
        self.endpoints();
    }

    /// The pods that read models have read them.
    fn read(&self) {
        for reader in self.server.all("pods") {
            if reader["metadata"]["labels"]["lamplighter.dev/role"].is_null() {
                continue;
            }
            let name = reader["metadata"]["name"].as_str().unwrap().to_owned();
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
            let deployment: lamplighter_api::ModelDeployment =
                from(self.server.get(DEPLOYMENT).unwrap());
            let ended: Vec<Value> = deployment
                .spec
                .models
                .iter()
                .enumerate()
                .map(|(number, model)| {
                    json!({
                        "name": format!("model-{number}"), "image": IMAGE, "imageID": "",
                        "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": 0, "message": found(model).to_string()}},
                    })
                })
                .collect();
            self.server.edit(&path, |pod| {
                pod["status"] = json!({"phase": "Succeeded", "containerStatuses": ended});
            });
        }
    }

    /// The Service's endpoints are the ready pods that it selects.
    fn endpoints(&self) {
        let Some(service) = self.server.get(SERVICE) else { return };
        let selector = service["spec"]["selector"].as_object().unwrap().clone();
        let selected = |pod: &Value| {
            selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        };
        let pods: Vec<Value> = self.server.all("pods").into_iter().filter(selected).collect();
        let pods: Vec<_> = pods.into_iter().map(|pod| Arc::new(from(pod))).collect();
        let mut slice = serde_json::to_value(crate::fixtures::slice_of(&pods)).unwrap();
        slice["metadata"] = json!({
            "name": "slice", "namespace": NAMESPACE,
            "labels": {
                "lamplighter.dev/deployment": NAME, "kubernetes.io/service-name": NAME,
            },
        });
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/slice");
        let same = self.server.get(&path).is_some_and(|old| old["endpoints"] == slice["endpoints"]);
        if !same {
            self.server.put(&path, slice);
        }
    }

    fn pods_in(&self, revision: &str, environment: &str, count: u64) {
        for number in 0..10 {
            let name = format!("{NAME}-{revision}-{number}");
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
            match (number < count, self.server.get(&path).is_some()) {
                (true, false) => {
                    let object =
                        crate::fixtures::moved(pod(&name, revision, &ready()), environment);
                    self.server.put(&path, object);
                }
                (false, true) => self.server.remove(&path),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// What the watches deliver.
    pub(crate) fn sync(&mut self) {
        let server = &self.server;
        fill(&mut self.writers.deployments, server, "modeldeployments");
        fill(&mut self.writers.replica_sets, server, "replicasets");
        fill(&mut self.writers.records, server, "controllerrevisions");
        fill(&mut self.writers.manifests, server, "configmaps");
        fill(&mut self.writers.services, server, "services");
        fill(&mut self.writers.disruption_budgets, server, "poddisruptionbudgets");
        fill(&mut self.writers.endpoint_slices, server, "endpointslices");
        fill(&mut self.writers.pods, server, "pods");
        fill(&mut self.writers.collectors, server, "jobs");
        fill(&mut self.writers.nodes, server, "nodes");
    }

    pub(crate) async fn reconcile(&mut self) -> Result<Action, Error> {
        self.sync();
        self.reconcile_unsynced().await
    }

    /// With what the caches happen to hold.
    pub(crate) async fn reconcile_unsynced(&mut self) -> Result<Action, Error> {
        let all = self.context.caches.deployments.state();
        let deployment = all.into_iter().find(|found| found.name_any() == NAME).unwrap();
        reconcile(deployment, Arc::clone(&self.context)).await
    }

    /// The requests since the last time, one a line; events left out.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = self.server.take_asked();
        asked.into_iter().filter(|asked| !asked.path.contains("/events")).collect()
    }

    /// What the counter of writes says.
    pub(crate) fn written(&self) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("lamplighter_operator_writes_total"))
            .map(str::to_owned)
            .collect();
        assert!(!lines.is_empty(), "{text}");
        lines.sort_unstable();
        lines
    }

    pub(crate) fn condition(&self, kind: &str) -> Value {
        let deployment = self.server.get(DEPLOYMENT).unwrap();
        let conditions = deployment["status"]["conditions"].as_array().unwrap();
        conditions.iter().find(|condition| condition["type"] == kind).unwrap().clone()
    }

    pub(crate) fn change_model(&self) {
        self.server.edit(DEPLOYMENT, |deployment| {
            deployment["spec"]["models"][0]["version"] = json!("2.2.0");
            deployment["metadata"]["generation"] = json!(4);
        });
    }
}

fn fill<K>(writer: &mut Writer<K>, server: &ApiServer, plural: &str)
where
    K: Lookup<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    writer.apply_watcher_event(&Event::Init);
    for object in server.all(plural) {
        // Of children only what has our label is watched.
        let labels = &object["metadata"]["labels"];
        let is_child = !["modeldeployments", "nodes"].contains(&plural);
        if !is_child || !labels["lamplighter.dev/deployment"].is_null() {
            writer.apply_watcher_event(&Event::InitApply(from(object)));
        }
    }
    writer.apply_watcher_event(&Event::InitDone);
}
