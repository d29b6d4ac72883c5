//! What a load tells the board of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_protocol::{
    Failure, ModelFacts, Phase, RuntimeReport, ValidationReport, WarmupReport,
};

use super::{Board, Slot};
use crate::lifecycle::{ModelProgress, PhaseEnd};

/// Tells the board how one model's load goes. Clones tell of the same model.
#[derive(Clone, Debug)]
pub struct Tracker {
    pub(super) board: Arc<Board>,
    /// Its slot.
    pub(super) id: u64,
    pub(super) later: bool,
}

impl Tracker {
    /// Of models that wait, those that the manifest names first go first, then those that were asked
    /// for first.
    pub fn urgency(&self) -> u64 {
        u64::MAX - self.id
    }

    /// Whether others are served already, so that this one has to leave them the machine.
    pub fn comes_later(&self) -> bool {
        self.later
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
        if let Some(slot) = self.board.lock().slot(self.id) {
            slot.progress.add_bytes(bytes);
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
        if let Some(Slot { key, .. }) = self.board.lock().slot(self.id) {
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
            if let Some(Slot { key, .. }) = inner.slot(self.id) {
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
        if let Some(Slot { key, progress, .. }) = self.board.lock().slot(self.id) {
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
        self.board.lock().slot(self.id)?.progress.running()
    }

    fn change(&self, step: impl FnOnce(&mut ModelProgress, Duration) -> Option<PhaseEnd>) {
        let now = self.board.started.elapsed();
        let mut inner = self.board.lock();
        let Some(Slot { key, progress, .. }) = inner.slot(self.id) else {
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
