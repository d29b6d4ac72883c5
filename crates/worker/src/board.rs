//! What the worker knows of itself, in one place: the probes, `/status` and the metrics read it,
//! the loads and the rounds of validation write it.

mod tracker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lamplighter_protocol::{
    Device, Failure, Manifest, MemoryReport, ModelEntry, ModelKey, ModelReport, ModelState, Report,
    Revalidation, Task, WorkerState,
};
use lamplighter_telemetry::probe::Readiness;

use crate::lifecycle::{self, Event, ModelProgress};
use crate::memory::{self, Usage};
use crate::metrics::Metrics;
use crate::revalidate::{Answer, Round, Trigger};
use crate::server::Shedding;
pub use tracker::Tracker;

/// So many failed loads of a running worker are remembered; then the oldest is forgotten.
const FAILED_LOADS: usize = 16;

/// Which pod this is and what it serves.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The pod's uid; empty outside Kubernetes.
    pub pod_uid: String,
    /// The pod's name; empty outside Kubernetes.
    pub pod_name: String,
    /// The revision that the manifest names.
    pub revision: String,
    /// Where the models run.
    pub device: Device,
}

/// The state of the worker and of each of its models.
#[derive(Debug)]
pub struct Board {
    identity: Identity,
    started: Instant,
    readiness: Readiness,
    metrics: Metrics,
    /// What the process may have in memory.
    memory_limit: Option<u64>,
    shedding: Shedding,
    trigger: Trigger,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: WorkerState,
    /// The models of the manifest in its order, then those that were loaded later.
    slots: Vec<Slot>,
    /// The next slot's.
    next_id: u64,
    /// What came of asking the cases again; none before the worker was ready.
    revalidation: Option<Revalidation>,
    /// The most that the process had in memory until it was ready.
    ready_bytes: Option<u64>,
    /// When the first of the cases was asked that all passed last.
    validated: Option<Instant>,
    /// Models that gave several outputs that are not finite, since when.
    suspects: BTreeMap<ModelKey, Instant>,
}

#[derive(Debug)]
struct Slot {
    /// What its tracker knows it by.
    id: u64,
    key: ModelKey,
    task: Task,
    progress: ModelProgress,
    /// No request reaches it any more, and some that began before still run.
    unloading: bool,
}

impl Slot {
    fn new(id: u64, entry: &ModelEntry) -> Self {
        let progress = ModelProgress::default();
        Self { id, key: entry.key(), task: entry.task, progress, unloading: false }
    }

    fn has_failed(&self) -> bool {
        self.progress.state() == ModelState::Failed
    }
}

impl Inner {
    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }
}

impl Board {
    /// A worker that has just started.
    pub fn new(identity: Identity, manifest: &Manifest, metrics: Metrics) -> Self {
        let slots: Vec<Slot> =
            (0..).zip(&manifest.models).map(|(id, entry)| Slot::new(id, entry)).collect();
        let board = Self {
            identity,
            started: Instant::now(),
            readiness: Readiness::not_ready_yet("Starting", "no model has begun to load"),
            metrics,
            memory_limit: memory::limit(),
            shedding: Shedding::default(),
            trigger: Trigger::default(),
            inner: Mutex::new(Inner {
                state: WorkerState::Starting,
                next_id: slots.len() as u64,
                slots,
                revalidation: None,
                ready_bytes: None,
                validated: None,
                suspects: BTreeMap::new(),
            }),
        };
        for slot in &board.lock().slots {
            board.metrics.state(&slot.key, slot.progress.state());
        }
        board
    }

    /// Which pod this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The handle behind `/readyz`.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The figures.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The open connections to the serving port, to be shed.
    pub fn shedding(&self) -> &Shedding {
        &self.shedding
    }

    /// Starts a round of the validation cases.
    pub fn revalidation_trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// The process as a whole.
    pub fn state(&self) -> WorkerState {
        self.lock().state
    }

    /// Something happened to the worker; returns the state after it.
    pub fn happened(&self, event: Event) -> WorkerState {
        let mut inner = self.lock();
        inner.state = lifecycle::next(inner.state, event);
        if inner.state == WorkerState::Ready {
            inner.revalidation.get_or_insert_default();
            self.note_memory(&mut inner);
        }
        self.tell_readiness(&inner);
        inner.state
    }

    fn note_memory(&self, inner: &mut Inner) {
        match memory::usage() {
            Ok(Usage { peak, .. }) => {
                let bytes = *inner.ready_bytes.get_or_insert(peak);
                self.metrics.memory_ready(bytes);
            }
            Err(error) => tracing::warn!(%error, "how much memory is used is not known"),
        }
    }

    /// Several requests to a model failed by its engine, or got numbers that are not finite: its cases
    /// are asked at once. It is suspect until all of them were right; without any, until it is unloaded.
    pub fn suspect(&self, model: &ModelKey) {
        tracing::warn!(%model, "several requests failed, or got numbers that are not finite");
        self.metrics.work().suspect(model, true);
        self.lock().suspects.insert(model.clone(), Instant::now());
        self.trigger.pull();
    }

    /// A case was asked again.
    pub fn asked_again(&self, model: &ModelKey, answer: &Answer) {
        self.metrics.asked_again(model, answer);
        if let Some(counts) = &mut self.lock().revalidation {
            match answer {
                Answer::Right => {}
                Answer::Wrong { .. } => counts.wrong += 1,
                Answer::Failed { .. } | Answer::Inconclusive { .. } => counts.inconclusive += 1,
            }
        }
    }

    /// Every case was asked again, the first one at `begun`.
    pub fn round_ended(&self, begun: Instant, round: &Round) {
        self.metrics.round_ended();
        let mut inner = self.lock();
        if let Some(counts) = &mut inner.revalidation {
            counts.rounds += 1;
        }
        inner.validated = round.all_right.then_some(begun).or(inner.validated);
        inner.suspects.retain(|model, since| {
            let stays = *since > begun || !round.right.contains(model);
            self.metrics.work().suspect(model, stays);
            stays
        });
    }

    /// A model that had passed is confirmed to answer wrongly.
    pub fn turned_wrong(&self, failure: &Failure) {
        for Slot { key, progress, .. } in &mut self.lock().slots {
            if failure.model.as_ref() == Some(key) {
                progress.retract(failure.clone());
                self.metrics.state(key, progress.state());
            }
        }
        self.happened(Event::TurnedWrong);
    }

    /// How the start went, once it is over: seconds, bytes of all artifacts, and memory.
    pub fn tell_start(&self) {
        let Usage { now, peak } = memory::usage().unwrap_or_default();
        let inner = self.lock();
        tracing::info!(
            seconds = self.started.elapsed().as_secs_f64(),
            models = inner.slots.len(),
            bytes = inner.slots.iter().map(|slot| slot.progress.bytes()).sum::<u64>(),
            memory_bytes = now,
            peak_memory_bytes = peak,
            "every model passed: ready"
        );
    }

    /// A handle for the load of one model, by its place in the manifest.
    pub fn track(self: &Arc<Self>, index: usize) -> Tracker {
        Tracker { board: Arc::clone(self), id: index as u64, later: false }
    }

    /// A handle for the load of a model while others are served. What was remembered of an earlier
    /// load of this key is forgotten.
    pub fn track_later(self: &Arc<Self>, entry: &ModelEntry) -> Tracker {
        let key = entry.key();
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        self.forget(&mut inner, &key);
        inner.slots.push(Slot::new(id, entry));
        let failed = inner.slots.iter().filter(|slot| slot.has_failed()).count();
        if failed > FAILED_LOADS
            && let Some(oldest) = inner.slots.iter().position(Slot::has_failed)
        {
            let oldest = inner.slots[oldest].key.clone();
            self.forget(&mut inner, &oldest);
        }
        self.metrics.state(&key, ModelState::Pending);
        Tracker { board: Arc::clone(self), id, later: true }
    }

    /// A model left the registry; it is told no more among those that answer.
    pub fn unloading(&self, key: &ModelKey) {
        for slot in self.lock().slots.iter_mut().filter(|slot| slot.key == *key) {
            slot.unloading = true;
        }
    }

    /// A model and its memory are gone, and its figures with them.
    pub fn unloaded(&self, key: &ModelKey) {
        self.forget(&mut self.lock(), key);
    }

    fn forget(&self, inner: &mut Inner, key: &ModelKey) {
        inner.suspects.remove(key);
        for slot in inner.slots.extract_if(.., |slot| slot.key == *key) {
            self.metrics.forget(&slot.key, slot.progress.runtime());
        }
    }

    /// Each model, and whether it is on its way out.
    pub fn models(&self) -> Vec<(ModelReport, bool)> {
        let now = self.started.elapsed();
        let report =
            |slot: &Slot| (slot.progress.report(slot.key.clone(), slot.task, now), slot.unloading);
        self.lock().slots.iter().map(report).collect()
    }

    /// Which models have not passed yet and what each is doing, in words.
    pub fn waiting_for(&self) -> String {
        waiting_for(&self.lock())
    }

    /// All of it, as it is told to the operator.
    pub fn report(&self) -> Report {
        let now = self.started.elapsed();
        // Before the lock, which every piece of a load waits for.
        let usage = memory::usage().ok();
        let inner = self.lock();
        let was_ready = inner.revalidation.is_some();
        let validated = inner.validated.filter(|_| was_ready);
        Report {
            pod_uid: self.identity.pod_uid.clone(),
            pod_name: self.identity.pod_name.clone(),
            revision: self.identity.revision.clone(),
            worker_version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.identity.device,
            state: inner.state,
            uptime_seconds: now.as_secs_f64(),
            in_flight: u64::try_from(self.metrics.in_flight().get()).unwrap_or_default(),
            models: inner
                .slots
                .iter()
                .filter(|slot| !slot.unloading)
                .map(|slot| ModelReport {
                    suspect: inner.suspects.contains_key(&slot.key),
                    ..slot.progress.report(slot.key.clone(), slot.task, now)
                })
                .collect(),
            validated_seconds_ago: validated.map(|at| at.elapsed().as_secs_f64()),
            revalidation: inner.revalidation,
            memory: usage.map(|usage| MemoryReport {
                limit_bytes: self.memory_limit,
                used_bytes: usage.now,
                peak_bytes: usage.peak,
                ready_bytes: inner.ready_bytes,
            }),
            connections_before_shed: self.shedding.before(),
        }
    }

    fn tell_readiness(&self, inner: &Inner) {
        match inner.state {
            WorkerState::Starting => {
                self.readiness.set_not_ready("Loading", waiting_for(inner));
            }
            WorkerState::Ready => self.readiness.set_ready(),
            WorkerState::Draining => {
                self.readiness.set_not_ready("Draining", "the worker was told to stop");
            }
            WorkerState::Failed | WorkerState::Unknown => {
                self.readiness
                    .set_not_ready("Failed", "a model failed; the worker is about to end");
            }
        }
    }

    /// A thread that panicked while it held the lock has left plain data behind.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting_for(inner: &Inner) -> String {
    let waiting: Vec<String> = inner
        .slots
        .iter()
        .filter(|slot| slot.progress.state() != ModelState::Ready)
        .map(|Slot { key, progress, .. }| match progress.running() {
            Some(phase) => format!("{key} is in phase {}", phase.as_str()),
            None => format!("{key} is {:?}", progress.state()),
        })
        .collect();
    waiting.join(", ")
}
