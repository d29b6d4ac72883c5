//! A cluster around the pipeline: the apiserver, what the watches deliver, and a context.

use std::sync::Arc;

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
use lamplighter_telemetry::metrics::Registry;
use prometheus_client::encoding::text::encode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Asked};
use crate::fixtures::{IMAGE, NAME, NAMESPACE, deployment, from, now, pod, ready, valid};

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
            metrics: Metrics::new(&mut registry),
            attempts: Attempts::default(),
            worker_image: IMAGE.to_owned(),
            clock: Clock::stopped_at(now()),
        };
        server.put(DEPLOYMENT, serde_json::to_value(deployment()).unwrap());
        Self { server, writers, context: Arc::new(context), registry }
    }

    /// A cluster in which the deployment is complete and reported.
    pub(crate) async fn complete() -> Self {
        let mut cluster = Self::new();
        cluster.reconcile().await.unwrap();
        cluster.pods(valid().revision.as_str(), 2);
        cluster.reconcile().await.unwrap();
        cluster.server.take_asked();
        cluster
    }

    /// The kubelet and the ReplicaSet's controller, in an instant.
    pub(crate) fn pods(&self, revision: &str, count: usize) {
        for number in 0..count {
            let name = format!("{NAME}-{revision}-{number}");
            let object = pod(&name, revision, &ready());
            self.server.put(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}"), object);
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
        fill(&mut self.writers.pods, server, "pods");
    }

    pub(crate) async fn reconcile(&mut self) -> Result<Action, Error> {
        self.sync();
        self.reconcile_unsynced().await
    }

    /// With what the caches happen to hold.
    pub(crate) async fn reconcile_unsynced(&mut self) -> Result<Action, Error> {
        let deployment = self.context.caches.deployments.state().pop().unwrap();
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

pub(crate) fn fill<K>(writer: &mut Writer<K>, server: &ApiServer, plural: &str)
where
    K: Lookup<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    writer.apply_watcher_event(&Event::Init);
    for object in server.all(plural) {
        // Only what has our label is watched; the resource itself is always.
        let labels = &object["metadata"]["labels"];
        if plural == "modeldeployments" || !labels["lamplighter.dev/deployment"].is_null() {
            writer.apply_watcher_event(&Event::InitApply(from(object)));
        }
    }
    writer.apply_watcher_event(&Event::InitDone);
}
