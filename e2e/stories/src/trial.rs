//! A rollout under load: a deployment that serves, a stream of checked requests, and a record of
//! everything that happens, from which each figure of the table is taken.

mod pods;
mod row;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use lamplighter_api::{ModelDeployment, ModelDeploymentStatus, names};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fixtures::{TinyBert, Variant};
use crate::operator::kill_process_of;
use crate::scene::Scene;
use crate::spec::{MODEL, With as _, tiny, uri};
use crate::traffic::judge::{Crash, Injected, Ledger, Poison, ledger};
use crate::traffic::record::Record;
use crate::traffic::{Questions, Stream, Traffic, Version};
pub use pods::Life;
use pods::Pods;
pub use row::Row;

/// The deployment of every trial.
pub const NAME: &str = "rolled";
/// The version that serves when a trial begins.
pub const OLD: &str = "old";
/// The version that is rolled out.
pub const NEW: &str = "new";
/// A third one.
pub const THIRD: &str = "third";
/// How long any step of a trial may take.
pub const STEP: Duration = Duration::from_secs(150);
/// How often a poisoned or sound worker asks its cases again, in seconds.
pub const REVALIDATION: u64 = 2;

/// The worker's process, as `/proc/<pid>/comm` names it (the kernel keeps 15 bytes).
const WORKER: &str = "lamplighter-wor";

/// What is asked. All words are in the tiny model's vocabulary.
const TEXTS: [&str; 3] = ["the keeper walks to the tower", "the lamp burns", "the keeper"];

/// One version of the status, and when it came.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Time since the stream began.
    pub at: Duration,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The status.
    pub status: ModelDeploymentStatus,
}

/// A rollout under load.
pub struct Trial {
    /// Where it runs.
    pub scene: Scene,
    /// The stream of requests.
    pub traffic: Traffic,
    moments: Arc<Mutex<Vec<Moment>>>,
    pods: Pods,
    watch: JoinHandle<()>,
    injected: Injected,
    name: &'static str,
}

/// What a trial came to.
#[derive(Debug)]
pub struct Finished {
    /// The sum of the requests.
    pub ledger: Ledger,
    /// Every request.
    pub stream: Stream,
    /// Every version of the status.
    pub moments: Vec<Moment>,
    /// The life of every pod.
    pub pods: Vec<Life>,
    name: &'static str,
    replicas: u32,
}

/// The manifest of a version: `variant` decides the answers, `version` the strategy, `faults` what
/// goes wrong.
pub fn version(scene: &Scene, variant: Variant, version: &str, faults: &str) -> Value {
    let faults = [faults, &format!("revalidate-every={REVALIDATION}")];
    let faults: Vec<&str> = faults.into_iter().filter(|word| !word.is_empty()).collect();
    tiny(NAME, variant)
        .with("/spec/models/0/version", json!(version))
        .with("/spec/models/0/source/uri", json!(uri(variant)))
        .with("/spec/worker/image", json!(scene.settings.worker_faults_image))
        .with("/spec/worker/env", json!([{"name": "WORKER_FAULTS", "value": faults.join(",")}]))
        .with("/spec/rollout/rollbackWindowSeconds", json!(10))
}

impl Trial {
    /// Applies the first version, waits until it is known to be good, and begins to ask.
    pub async fn begin(scene: &Scene, name: &'static str, first: &Value) -> anyhow::Result<Self> {
        // What it takes to be known as good is no part of the trial.
        let first = first.clone().with("/spec/rollout/rollbackWindowSeconds", json!(2));
        scene.apply(&first).await?;
        scene
            .wait_for(NAME, "the first version is known to be good", STEP, |found| {
                let status = found.and_then(|found: &ModelDeployment| found.status.clone());
                let status = status.unwrap_or_default();
                let is_done = status.rollout.is_none() && !status.known_good.is_empty();
                crate::wait::Look::when(is_done, || format!("{status:?}"))
            })
            .await?;
        let traffic = Traffic::start(questions(scene).await?);
        let moments = Arc::new(Mutex::new(Vec::new()));
        let watch = tokio::spawn(watch(
            scene.clone(),
            Arc::clone(&moments),
            traffic.marker(),
            traffic.now(),
        ));
        let pods = Pods::watch(scene, traffic.now());
        let trial = Self {
            scene: scene.clone(),
            traffic,
            moments,
            pods,
            watch,
            injected: Injected::default(),
            name,
        };
        // What serves is seen to serve before anything changes.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(trial)
    }

    /// Applies a manifest; when that was.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<Duration> {
        let at = self.traffic.now();
        self.traffic.mark("apply");
        self.scene.apply(manifest).await?;
        Ok(at)
    }

    /// Sets an annotation.
    pub async fn annotate(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let set = format!("{key}={value}");
        self.scene.kubectl(&["annotate", "--overwrite", "mdpl", NAME, &set], "").await?;
        Ok(())
    }

    /// Waits until a status after `after` is as it should be; when it came.
    pub async fn until(
        &self,
        what: &str,
        after: Duration,
        is: impl Fn(&ModelDeploymentStatus) -> bool,
    ) -> anyhow::Result<Moment> {
        let deadline = tokio::time::Instant::now() + STEP;
        loop {
            let found = {
                let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
                let mut later = moments.iter().filter(|moment| moment.at >= after);
                later.find(|moment| is(&moment.status)).cloned()
            };
            if let Some(found) = found {
                return Ok(found);
            }
            if tokio::time::Instant::now() > deadline {
                let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
                bail!("{what}: not within {STEP:?}; last seen: {:#?}", moments.last());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until this version serves in full.
    pub async fn until_serves(&self, version: &str, after: Duration) -> anyhow::Result<Moment> {
        self.until(&format!("{version} serves"), after, |status| serves(status, version)).await
    }

    /// Waits until a rollout to this version is in a phase.
    pub async fn until_phase(&self, phase: &str, after: Duration) -> anyhow::Result<Moment> {
        self.until(&format!("phase {phase}"), after, |status| phase_of(status) == phase).await
    }

    /// Waits until nothing is under way and the newest rollout ended so.
    pub async fn until_over(&self, outcome: &str, after: Duration) -> anyhow::Result<Moment> {
        self.until(&format!("a rollout that is over, {outcome}"), after, |status| {
            status.rollout.is_none()
                && status.history.first().is_some_and(|last| last.outcome == outcome)
        })
        .await
    }

    /// Waits until no pods are left but those of the active revision.
    pub async fn until_swept(&self, pods: usize) -> anyhow::Result<()> {
        crate::wait::eventually("only the active revision has pods", STEP, || async {
            let deployment = self.scene.deployment(NAME).await?;
            let active = deployment.status.and_then(|status| status.active).context("no active")?;
            let left = self.scene.pods(NAME).await?;
            let foreign = left
                .iter()
                .filter(|pod| pod.labels().get(names::LABEL_REVISION) != Some(&active.revision));
            let foreign = foreign.count();
            let is_done = foreign == 0 && left.len() == pods;
            Ok(crate::wait::Look::when(is_done, || format!("{foreign} of {}", left.len())))
        })
        .await
    }

    /// Ends the worker's process in a pod with SIGKILL. When that was.
    pub fn crash(&mut self, pod: &str) -> anyhow::Result<Duration> {
        let from = self.traffic.now();
        self.traffic.mark(format!("the process of pod {pod} is killed"));
        kill_process_of(pod, WORKER)?;
        self.injected.crashes.push(Crash { pod: pod.to_owned(), from });
        Ok(from)
    }

    /// Waits until a pod is ready again after so many ends of its process.
    pub async fn until_restarted(&self, pod: &str, times: i32) -> anyhow::Result<()> {
        crate::wait::eventually("the process runs again", STEP, || async {
            let pods = self.scene.pods(NAME).await?;
            let found = pods.iter().find(|found| found.uid().as_deref() == Some(pod));
            let statuses =
                found.and_then(|found| found.status.as_ref()?.container_statuses.as_ref());
            let worker = statuses.and_then(|statuses| statuses.first()).context("no container")?;
            let is_back = worker.restart_count >= times && worker.ready;
            Ok(crate::wait::Look::when(is_back, || format!("{worker:?}")))
        })
        .await
    }

    /// Pods of this revision answer wrongly from now on, on purpose, for so long.
    pub fn poisons(
        &mut self,
        pods: impl IntoIterator<Item = String>,
        from: Duration,
        until: Duration,
    ) {
        self.injected.poisons.extend(pods.into_iter().map(|pod| Poison { pod, from, until }));
    }

    /// Uids of the pods that there are now.
    pub async fn uids(&self) -> anyhow::Result<std::collections::BTreeSet<String>> {
        self.scene.pod_uids(NAME).await
    }

    /// Every pod so far.
    pub fn lives(&self) -> Vec<Life> {
        self.pods.lives()
    }

    /// Ends the stream and adds up. Fails if a request was lost by routing, or too few were made.
    pub async fn finish(self, replicas: u32) -> anyhow::Result<Finished> {
        let Self { scene, traffic, moments, pods, watch, injected, name } = self;
        // What was confirmed is seen for a while.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let stream = traffic.finish().await?;
        watch.abort();
        clear(&scene).await?;
        let lives = pods.finish();
        let ledger = ledger(&stream, &injected);
        eprintln!("{name}: {ledger}");
        let moments = std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(ledger.by_routing.is_empty(), "{name}: {ledger}");
        ledger.check_rate(100)?;
        Ok(Finished { ledger, stream, moments, pods: lives, name, replicas })
    }
}

impl Finished {
    /// No new connection got another version once the new one had answered after the switch.
    pub fn never_mixed(&self, new: &str) -> anyhow::Result<()> {
        let confirmed =
            self.moments.iter().find(|moment| {
                matches!(phase_of(&moment.status), "Shedding" | "Baking")
                    && moment.status.active.as_ref().is_some_and(|active| {
                        active.models.iter().any(|model| model.version == new)
                    })
            });
        let confirmed = confirmed.context("the switch was never confirmed")?.at;
        let mixed: Vec<&Record> =
            crate::traffic::judge::mixed(&self.stream.records, NEW, confirmed);
        ensure!(
            mixed.is_empty(),
            "{} answers of another version: {:?}",
            mixed.len(),
            mixed.first()
        );
        Ok(())
    }

    /// Writes the row of the table.
    pub fn row(
        &self,
        applied: Duration,
        served: Option<Duration>,
        unsafe_for: Option<Duration>,
    ) -> anyhow::Result<()> {
        let row = Row {
            scenario: self.name.to_owned(),
            to_serving: served.map(|served| (served.saturating_sub(applied)).as_secs_f64()),
            to_safety: unsafe_for.map(|time| time.as_secs_f64()),
            extra_pod_seconds: pods::extra(&self.pods, self.replicas, self.stream.length),
            requests: self.ledger.requests,
            rate: self.ledger.rate,
            by_routing: self.ledger.by_routing.len(),
            to_crashes: self.ledger.to_crashes,
            by_poison: self.ledger.by_poison,
        };
        row.write()
    }
}

/// The phase of what is under way; empty when nothing is.
pub fn phase_of(status: &ModelDeploymentStatus) -> &str {
    status.rollout.as_ref().map(|rollout| rollout.phase.as_str()).unwrap_or_default()
}

/// This version serves in full, and the operator says so.
pub fn serves(status: &ModelDeploymentStatus, version: &str) -> bool {
    let is_ready =
        status.conditions.iter().any(|known| known.type_ == "Ready" && known.status == "True");
    let active = status.active.as_ref();
    is_ready
        && active.is_some_and(|active| active.models.iter().any(|model| model.version == version))
}

/// The failed revision's reason, if one failed.
pub fn failure_of(status: &ModelDeploymentStatus) -> Option<&str> {
    status.failed_revisions.first().map(|failed| failed.reason.as_str())
}

async fn questions(scene: &Scene) -> anyhow::Result<Questions> {
    let service = scene.api::<Service>().get(&names::service(NAME)).await?;
    let ports = service.spec.and_then(|spec| spec.ports).context("the Service has no port")?;
    let port = ports.first().and_then(|port| port.node_port).context("no NodePort")?;
    let vectors = |variant: Variant| -> anyhow::Result<Vec<Vec<f64>>> {
        let model = TinyBert::seeded(variant.seed);
        TEXTS.iter().map(|text| model.embed(text).context("an unknown word")).collect()
    };
    // The node's proxy learns of the pods a moment after everybody else.
    scene.caller(NAME, crate::call::Connections::Fresh).await?;
    Ok(Questions {
        port: u16::try_from(port)?,
        model: MODEL,
        texts: TEXTS.to_vec(),
        versions: vec![
            Version { name: OLD, vectors: vectors(Variant::SOUND)? },
            Version { name: NEW, vectors: vectors(Variant::SECOND)? },
            Version { name: THIRD, vectors: vectors(Variant::THIRD)? },
        ],
    })
}

async fn watch(
    scene: Scene,
    moments: Arc<Mutex<Vec<Moment>>>,
    mark: impl Fn(String) + Send + Sync + 'static,
    began: Duration,
) {
    let start = tokio::time::Instant::now() - began;
    let named = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut changes = std::pin::pin!(
        watcher(scene.api::<ModelDeployment>(), named).default_backoff().touched_objects()
    );
    let mut phase = String::new();
    while let Some(change) = changes.next().await {
        let Ok(deployment) = change else { continue };
        let status = deployment.status.unwrap_or_default();
        let now = phase_of(&status).to_owned();
        if now != phase {
            mark(format!("phase {}", if now.is_empty() { "Stable" } else { &now }));
            phase = now;
        }
        let moment =
            Moment { at: start.elapsed(), generation: deployment.metadata.generation, status };
        moments.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
    }
}

/// Nobody asks any more, so nobody has to be waited for.
async fn clear(scene: &Scene) -> anyhow::Result<()> {
    scene.kubectl(&["delete", "mdpl", NAME, "--wait=false"], "").await?;
    let pods = ["delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false"];
    scene.kubectl(&pods, "").await?;
    Ok(())
}

/// Deletes a pod of the deployment; its uid.
pub async fn delete_pod(scene: &Scene, pod: &Pod) -> anyhow::Result<String> {
    let uid = pod.uid().context("a pod without uid")?;
    scene.kubectl(&["delete", "pod", &pod.name_any(), "--wait=false"], "").await?;
    Ok(uid)
}
