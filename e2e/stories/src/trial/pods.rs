//! The lives of a trial's pods, and the ends of their containers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use lamplighter_api::names;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::NAME;
use crate::scene::Scene;

/// The life of a pod. Times count from the beginning of the stream.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its revision.
    pub revision: String,
    /// When it was first seen.
    pub born: Duration,
    /// When it was first seen to be ready.
    pub ready: Option<Duration>,
    /// When it was gone.
    pub gone: Option<Duration>,
    /// How often its container ended.
    pub restarts: i32,
    /// When each end was seen.
    pub ends: Vec<Duration>,
}

#[derive(Debug)]
pub(super) struct Pods {
    lives: Arc<Mutex<BTreeMap<String, Life>>>,
    task: JoinHandle<()>,
}

impl Pods {
    pub(super) fn watch(scene: &Scene, began: Duration) -> Self {
        let lives = Arc::new(Mutex::new(BTreeMap::new()));
        let task = tokio::spawn(follow(scene.clone(), Arc::clone(&lives), began));
        Self { lives, task }
    }

    pub(super) fn lives(&self) -> Vec<Life> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.values().cloned().collect()
    }

    pub(super) fn finish(self) -> Vec<Life> {
        self.task.abort();
        self.lives()
    }
}

async fn follow(scene: Scene, lives: Arc<Mutex<BTreeMap<String, Life>>>, began: Duration) {
    let start = Instant::now() - began;
    let (deployment, role) = (names::LABEL_DEPLOYMENT, names::LABEL_ROLE);
    let labelled = watcher::Config::default().labels(&format!("{deployment}={NAME},!{role}"));
    let mut changes = std::pin::pin!(watcher(scene.api::<Pod>(), labelled).default_backoff());
    while let Some(change) = changes.next().await {
        let now = start.elapsed();
        let mut lives = lives.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => seen(&mut lives, &pod, now),
            Ok(Event::Delete(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                if let Some(life) = lives.get_mut(&uid) {
                    life.gone.get_or_insert(now);
                }
            }
            Ok(Event::Init | Event::InitDone) | Err(_) => {}
        }
    }
}

fn seen(lives: &mut BTreeMap<String, Life>, pod: &Pod, now: Duration) {
    let Some(uid) = pod.uid() else { return };
    let life = lives.entry(uid.clone()).or_insert_with(|| Life {
        name: pod.name_any(),
        uid,
        revision: pod.labels().get(names::LABEL_REVISION).cloned().unwrap_or_default(),
        born: now,
        ready: None,
        gone: None,
        restarts: 0,
        ends: Vec::new(),
    });
    let status = pod.status.as_ref();
    let is_ready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True")
    });
    if is_ready {
        life.ready.get_or_insert(now);
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let worker = containers.and_then(|containers| containers.first());
    let restarts = worker.map_or(0, |worker| worker.restart_count);
    let is_over = worker
        .and_then(|worker| worker.state.as_ref()?.terminated.as_ref())
        .is_some_and(|ended| ended.exit_code != 0);
    let ends = restarts + i32::from(is_over);
    if ends > life.restarts {
        life.restarts = ends;
        life.ends.push(now);
    }
}

/// Seconds of pods beyond the wanted number while the stream lasted.
pub(super) fn extra(lives: &[Life], replicas: u32, length: Duration) -> f64 {
    let summed: f64 = lives
        .iter()
        .map(|life| {
            let gone = life.gone.unwrap_or(length).min(length);
            gone.saturating_sub(life.born).as_secs_f64()
        })
        .sum();
    (summed - f64::from(replicas) * length.as_secs_f64()).max(0.0)
}
