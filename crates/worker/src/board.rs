//! What the worker knows of itself, in one place: the probes, `/status` and the metrics read it,
//! the loads and the rounds of validation write it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lamplighter_protocol::{
    Device, Failure, Manifest, MemoryReport, ModelFacts, ModelKey, Phase, Report, Revalidation,
    RuntimeReport, Task, ValidationReport, WarmupReport, WorkerState,
};
use lamplighter_telemetry::probe::Readiness;

use crate::lifecycle::{self, Event, ModelProgress, PhaseEnd};
use crate::memory::{self, Usage};
use crate::metrics::Metrics;
use crate::revalidate::{Answer, Trigger};
use crate::server::Shedding;

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
    models: Vec<(ModelKey, Task, ModelProgress)>,
    /// What came of asking the cases again; none before the worker was ready.
    revalidation: Option<Revalidation>,
    /// The most that the process had in memory until it was ready.
    ready_bytes: Option<u64>,
    /// When the first of the cases was asked that all passed last.
    validated: Option<Instant>,
}

impl Board {
    /// A worker that has just started.
    pub fn new(identity: Identity, manifest: &Manifest, metrics: Metrics) -> Self {
        let models = manifest
            .models
            .iter()
            .map(|model| (model.key(), model.task, ModelProgress::default()))
            .collect();
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
                models,
                revalidation: None,
                ready_bytes: None,
                validated: None,
            }),
        };
        for (key, _, progress) in &board.lock().models {
            board.metrics.state(key, progress.state());
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

    /// A case was asked again.
    pub fn asked_again(&self, model: &ModelKey, answer: &Answer) {
        self.metrics.asked_again(model, answer);
        if let Some(counts) = &mut self.lock().revalidation {
            match answer {
                Answer::Right => {}
                Answer::Wrong { .. } => counts.wrong += 1,
                Answer::Inconclusive { .. } => counts.inconclusive += 1,
            }
        }
    }

    /// Every case was asked again. `all_right`: when the first one was asked, if every answer
    /// was right.
    pub fn round_ended(&self, all_right: Option<Instant>) {
        self.metrics.round_ended();
        let mut inner = self.lock();
        if let Some(counts) = &mut inner.revalidation {
            counts.rounds += 1;
        }
        inner.validated = all_right.or(inner.validated);
    }

    /// A model that had passed is confirmed to answer wrongly.
    pub fn turned_wrong(&self, failure: &Failure) {
        for (key, _, progress) in &mut self.lock().models {
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
        let bytes = |(_, _, progress): &(_, _, ModelProgress)| progress.bytes();
        tracing::info!(
            seconds = self.started.elapsed().as_secs_f64(),
            models = inner.models.len(),
            bytes = inner.models.iter().map(bytes).sum::<u64>(),
            memory_bytes = now,
            peak_memory_bytes = peak,
            "every model passed: ready"
        );
    }

    /// A handle for the load of one model, by its place in the manifest.
    pub fn track(self: &Arc<Self>, index: usize) -> Tracker {
        Tracker { board: Arc::clone(self), index }
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
                .models
                .iter()
                .map(|(key, task, progress)| progress.report(key.clone(), *task, now))
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
        .models
        .iter()
        .filter(|(_, _, progress)| progress.state() != lamplighter_protocol::ModelState::Ready)
        .map(|(key, _, progress)| match progress.running() {
            Some(phase) => format!("{key} is in phase {}", phase.as_str()),
            None => format!("{key} is {:?}", progress.state()),
        })
        .collect();
    waiting.join(", ")
}

/// Tells the board how one model's load goes. Clones tell of the same model.
#[derive(Clone, Debug)]
pub struct Tracker {
    board: Arc<Board>,
    index: usize,
}

impl Tracker {
    /// Of models that wait, those that the manifest names first go first.
    pub fn urgency(&self) -> u64 {
        u64::MAX - self.index as u64
    }

    /// A phase begins; the one before has ended.
    pub fn begin(&self, phase: Phase) {
        self.change(|progress, now| progress.begin(phase, now));
    }

    /// The phase that ran has ended; the next one waits for its turn.
    pub fn pause(&self) {
        self.change(ModelProgress::pause);
    }

    /// The running phase handled more bytes.
    pub fn add_bytes(&self, bytes: u64) {
        if let Some((_, _, progress)) = self.board.lock().models.get_mut(self.index) {
            progress.add_bytes(bytes);
        }
    }

    /// What the artifact turned out to be.
    pub fn facts(&self, facts: ModelFacts) {
        self.change(|progress, _| {
            progress.set_facts(facts);
            None
        });
    }

    /// What it computes with.
    pub fn runtime(&self, runtime: RuntimeReport) {
        if let Some((key, _, _)) = self.board.lock().models.get(self.index) {
            self.board.metrics.runtime(key, &runtime);
        }
        self.change(|progress, _| {
            progress.set_runtime(runtime);
            None
        });
    }

    /// What the warm-up measured.
    pub fn warmup(&self, warmup: WarmupReport) {
        self.change(|progress, _| {
            progress.set_warmup(warmup);
            None
        });
    }

    /// What the validation found.
    pub fn validation(&self, validation: ValidationReport) {
        let passed = validation.cases.iter().filter(|case| case.passed).count();
        let failed = validation.cases.len() - passed;
        {
            let mut inner = self.board.lock();
            if let Some((key, _, _)) = inner.models.get(self.index) {
                self.board.metrics.cases(key, passed, failed);
            }
            if passed > 0 && failed == 0 {
                // Models start side by side: the first to have passed was asked longest ago.
                inner.validated.get_or_insert_with(Instant::now);
            }
        }
        self.change(|progress, _| {
            progress.set_validation(validation);
            None
        });
    }

    /// Every gate is passed.
    pub fn pass(&self) {
        self.change(ModelProgress::pass);
        if let Some((key, _, progress)) = self.board.lock().models.get(self.index) {
            let runtime = progress.runtime();
            tracing::info!(
                model = %key,
                kernel = runtime.map(|runtime| &runtime.kernel),
                precision = runtime.map(|runtime| &runtime.precision),
                phases = progress.summary(),
                "passed every gate"
            );
        }
    }

    /// The model gave up.
    pub fn fail(&self, failure: Failure) {
        self.change(|progress, now| progress.fail(failure, now));
    }

    /// The phase that runs.
    pub fn running(&self) -> Option<Phase> {
        let inner = self.board.lock();
        inner.models.get(self.index)?.2.running()
    }

    fn change(&self, step: impl FnOnce(&mut ModelProgress, Duration) -> Option<PhaseEnd>) {
        let now = self.board.started.elapsed();
        let mut inner = self.board.lock();
        let Some((key, _, progress)) = inner.models.get_mut(self.index) else {
            return;
        };
        let ended = step(progress, now);
        if let Some(ended) = ended {
            tracing::info!(
                model = %key,
                phase = ended.phase.as_str(),
                seconds = ended.took.as_secs_f64(),
                bytes = (ended.bytes > 0).then_some(ended.bytes),
                bytes_per_second = ended.bytes_per_second(),
                "phase ended"
            );
            self.board.metrics.phase(key, ended);
        }
        self.board.metrics.state(key, progress.state());
        self.board.tell_readiness(&inner);
    }
}

impl lamplighter_artifact::Progress for Tracker {
    fn total(&self, _bytes: u64) {}

    fn add(&self, bytes: u64) {
        self.add_bytes(bytes);
    }
}
