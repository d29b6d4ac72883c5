//! Where a worker and its models stand, and what may come next: decided here, without I/O.
//!
//! ```text
//! Starting ──all passed──▶ Ready ──told to stop──▶ Draining
//!    │  └──────────told to stop───────────────────────▲
//!    │                       └──turned wrong──▶ Failed
//!    └──a model failed──────────────────────────▲
//! ```
//!
//! `Draining` and `Failed` are final: a model that passes after the worker was told to stop
//! makes nothing ready, and a signal does not hide a failure.

use std::time::Duration;

use lamplighter_protocol::{
    Failure, ModelFacts, ModelKey, ModelReport, ModelState, Phase, PhaseTiming, RuntimeReport,
    Task, ValidationReport, WarmupReport, WorkerState, bytes_in_words,
};

/// What happens to a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// Every model passed every gate.
    AllPassed,
    /// A model failed, or the start took too long.
    StartFailed,
    /// A model that had passed is confirmed to answer wrongly.
    TurnedWrong,
    /// SIGTERM or SIGINT.
    ToldToStop,
}

/// The state after an event.
pub fn next(state: WorkerState, event: Event) -> WorkerState {
    match (state, event) {
        (WorkerState::Starting, Event::AllPassed) => WorkerState::Ready,
        (WorkerState::Starting, Event::StartFailed)
        | (WorkerState::Starting | WorkerState::Ready, Event::TurnedWrong) => WorkerState::Failed,
        (WorkerState::Starting | WorkerState::Ready, Event::ToldToStop) => WorkerState::Draining,
        (
            WorkerState::Ready | WorkerState::Draining | WorkerState::Failed | WorkerState::Unknown,
            _,
        ) => state,
    }
}

/// One model's way to readiness. Times are since the process started.
#[derive(Clone, Debug)]
pub struct ModelProgress {
    state: ModelState,
    phases: Vec<Timed>,
    facts: Option<ModelFacts>,
    runtime: Option<RuntimeReport>,
    warmup: Option<WarmupReport>,
    validation: Option<ValidationReport>,
    failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    phase: Phase,
    begun: Duration,
    took: Option<Duration>,
    bytes: u64,
}

/// How a phase that ended went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PhaseEnd {
    /// Which one.
    pub phase: Phase,
    /// How long it took.
    pub took: Duration,
    /// How many bytes it handled.
    pub bytes: u64,
}

impl PhaseEnd {
    /// None for a phase that handles no bytes.
    pub fn bytes_per_second(&self) -> Option<u64> {
        per_second(self.bytes, self.took)
    }
}

/// Whole bytes a second; none without bytes, and none of a time that was too short to be seen.
fn per_second(bytes: u64, took: Duration) -> Option<u64> {
    let nanos = took.as_nanos();
    if bytes == 0 || nanos == 0 {
        return None;
    }
    Some(u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX))
}

impl Default for ModelProgress {
    fn default() -> Self {
        Self {
            state: ModelState::Pending,
            phases: Vec::new(),
            facts: None,
            runtime: None,
            warmup: None,
            validation: None,
            failure: None,
        }
    }
}

impl ModelProgress {
    /// Where the model stands.
    pub fn state(&self) -> ModelState {
        self.state
    }

    /// The phase that runs; none before the first and after the last.
    pub fn running(&self) -> Option<Phase> {
        let last = self.phases.last()?;
        last.took.is_none().then_some(last.phase)
    }

    /// Size of the artifact in bytes; 0 until it is known.
    pub fn bytes(&self) -> u64 {
        self.facts.as_ref().map_or(0, |facts| facts.bytes)
    }

    /// What it computes with; none until it is on its device.
    pub fn runtime(&self) -> Option<&RuntimeReport> {
        self.runtime.as_ref()
    }

    /// A phase begins; the one before has ended. A model that has passed or failed stays so.
    pub fn begin(&mut self, phase: Phase, at: Duration) -> Option<PhaseEnd> {
        if self.is_over() {
            return None;
        }
        let ended = self.end(at);
        self.state = match phase {
            Phase::Fetch
            | Phase::Verify
            | Phase::Read
            | Phase::Build
            | Phase::Transfer
            | Phase::Unknown => ModelState::Loading,
            Phase::WarmUp => ModelState::WarmingUp,
            Phase::Validate => ModelState::Validating,
        };
        self.phases.push(Timed { phase, begun: at, took: None, bytes: 0 });
        ended
    }

    /// The running phase handled more bytes.
    pub fn add_bytes(&mut self, bytes: u64) {
        if let Some(last) = self.phases.last_mut()
            && last.took.is_none()
        {
            last.bytes = last.bytes.saturating_add(bytes);
        }
    }

    /// What the artifact turned out to be.
    pub fn set_facts(&mut self, facts: ModelFacts) {
        self.facts = Some(facts);
    }

    /// What it turned out to compute with.
    pub fn set_runtime(&mut self, runtime: RuntimeReport) {
        self.runtime = Some(runtime);
    }

    /// What the warm-up measured.
    pub fn set_warmup(&mut self, warmup: WarmupReport) {
        self.warmup = Some(warmup);
    }

    /// What the validation found.
    pub fn set_validation(&mut self, validation: ValidationReport) {
        self.validation = Some(validation);
    }

    /// Every gate is passed.
    pub fn pass(&mut self, at: Duration) -> Option<PhaseEnd> {
        if self.is_over() {
            return None;
        }
        self.state = ModelState::Ready;
        self.end(at)
    }

    /// The model gave up.
    pub fn fail(&mut self, failure: Failure, at: Duration) -> Option<PhaseEnd> {
        if self.is_over() {
            return None;
        }
        self.state = ModelState::Failed;
        self.failure = Some(failure);
        self.end(at)
    }

    /// The phase that ran has ended; the next one waits for its turn.
    pub fn pause(&mut self, at: Duration) -> Option<PhaseEnd> {
        if self.is_over() { None } else { self.end(at) }
    }

    /// A model that had passed turned out to be wrong.
    pub fn retract(&mut self, failure: Failure) {
        if self.state == ModelState::Ready {
            self.state = ModelState::Failed;
            self.failure = Some(failure);
        }
    }

    /// All of it, as it is told to others.
    pub fn report(&self, key: ModelKey, task: Task, now: Duration) -> ModelReport {
        let timing = |timed: &Timed| {
            let took = timed.took.unwrap_or_else(|| now.saturating_sub(timed.begun));
            PhaseTiming {
                phase: timed.phase,
                seconds: took.as_secs_f64(),
                bytes: timed.bytes,
                bytes_per_second: per_second(timed.bytes, took),
                done: timed.took.is_some(),
            }
        };
        ModelReport {
            key,
            task,
            state: self.state,
            phases: self.phases.iter().map(timing).collect(),
            facts: self.facts.clone(),
            runtime: self.runtime.clone(),
            warmup: self.warmup.clone(),
            validation: self.validation.clone(),
            failure: self.failure.clone(),
            suspect: false,
        }
    }

    /// The phases that have ended, in one line.
    pub fn summary(&self) -> String {
        let ended = self.phases.iter().filter_map(|timed| {
            let took = timed.took?;
            let time = format!("{} {:.3} s", timed.phase.as_str(), took.as_secs_f64());
            Some(match per_second(timed.bytes, took) {
                Some(rate) => {
                    format!("{time} ({}, {}/s)", bytes_in_words(timed.bytes), bytes_in_words(rate))
                }
                None => time,
            })
        });
        ended.collect::<Vec<_>>().join(", ")
    }

    fn is_over(&self) -> bool {
        matches!(self.state, ModelState::Ready | ModelState::Failed)
    }

    fn end(&mut self, at: Duration) -> Option<PhaseEnd> {
        let last = self.phases.last_mut()?;
        if last.took.is_some() {
            return None;
        }
        let took = at.saturating_sub(last.begun);
        last.took = Some(took);
        Some(PhaseEnd { phase: last.phase, took, bytes: last.bytes })
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_protocol::Reason;

    use super::*;

    const EVENTS: [Event; 4] =
        [Event::AllPassed, Event::StartFailed, Event::TurnedWrong, Event::ToldToStop];

    /// Guarantees: gates-11.
    #[test]
    fn a_worker_is_ready_only_after_every_model_passed_and_only_once() {
        for first in EVENTS {
            for second in EVENTS {
                for third in EVENTS {
                    let mut state = WorkerState::Starting;
                    let mut left_ready = false;
                    for (step, event) in [first, second, third].into_iter().enumerate() {
                        let before = state;
                        state = next(state, event);
                        left_ready |= before == WorkerState::Ready && state != before;
                        let became_ready = before != state && state == WorkerState::Ready;
                        assert!(!became_ready || (step == 0 && event == Event::AllPassed));
                        assert!(!(left_ready && state == WorkerState::Ready));
                    }
                }
            }
        }
    }

    #[test]
    fn draining_and_failed_are_final() {
        for state in [WorkerState::Draining, WorkerState::Failed] {
            for event in EVENTS {
                assert_eq!(next(state, event), state);
            }
        }
    }

    #[test]
    fn a_model_passes_its_phases_in_order_and_each_is_timed_and_counted() {
        let at = Duration::from_secs;
        let mut model = ModelProgress::default();
        assert_eq!(model.state(), ModelState::Pending);
        assert_eq!(model.begin(Phase::Fetch, at(1)), None);
        model.add_bytes(70);
        model.add_bytes(30);
        let fetched = PhaseEnd { phase: Phase::Fetch, took: at(2), bytes: 100 };
        assert_eq!(model.begin(Phase::Verify, at(3)), Some(fetched));
        assert_eq!(model.state(), ModelState::Loading);
        assert_eq!(model.running(), Some(Phase::Verify));
        let verified = PhaseEnd { phase: Phase::Verify, took: at(1), bytes: 0 };
        assert_eq!(model.pause(at(4)), Some(verified));
        assert_eq!((model.pause(at(4)), model.running()), (None, None));
        assert_eq!(model.begin(Phase::WarmUp, at(5)), None, "the time between is nobody's");
        assert_eq!(model.state(), ModelState::WarmingUp);
        model.begin(Phase::Validate, at(6));
        assert_eq!(model.state(), ModelState::Validating);

        let key = ModelKey::try_from("a:1".to_owned()).unwrap();
        let running = model.report(key.clone(), Task::Embedding, at(9));
        let last = running.phases.last().unwrap();
        assert_eq!((last.seconds, last.done), (3.0, false));

        model.pass(at(10)).unwrap();
        let passed = model.report(key, Task::Embedding, at(99));
        assert_eq!(passed.state, ModelState::Ready);
        let timings: Vec<_> = passed
            .phases
            .iter()
            .map(|timing| (timing.phase, timing.seconds, timing.bytes, timing.done))
            .collect();
        assert_eq!(passed.phases[0].bytes_per_second, Some(50));
        assert_eq!(passed.phases[1].bytes_per_second, None);
        assert_eq!(
            model.summary(),
            "Fetch 2.000 s (100 B, 50 B/s), Verify 1.000 s, WarmUp 1.000 s, Validate 4.000 s"
        );
        assert_eq!(
            timings,
            [
                (Phase::Fetch, 2.0, 100, true),
                (Phase::Verify, 1.0, 0, true),
                (Phase::WarmUp, 1.0, 0, true),
                (Phase::Validate, 4.0, 0, true),
            ]
        );
    }

    #[test]
    fn a_model_that_passed_and_turned_out_to_be_wrong_has_failed() {
        let wrong = Failure::new(Reason::RevalidationFailed, "twice");
        let mut model = ModelProgress::default();
        model.begin(Phase::Validate, Duration::ZERO);
        model.retract(wrong.clone());
        assert_eq!(model.state(), ModelState::Validating, "it had not passed");
        model.pass(Duration::from_secs(1));
        model.retract(wrong.clone());
        let key = ModelKey::try_from("a:1".to_owned()).unwrap();
        let report = model.report(key, Task::Embedding, Duration::from_secs(2));
        assert_eq!((report.state, report.failure), (ModelState::Failed, Some(wrong)));
    }

    #[test]
    fn what_a_failed_model_hears_later_changes_nothing() {
        let mut model = ModelProgress::default();
        model.begin(Phase::Read, Duration::ZERO);
        model.fail(Failure::new(Reason::ReadFailed, "gone"), Duration::from_secs(1));
        assert_eq!(model.begin(Phase::Build, Duration::from_secs(2)), None);
        assert_eq!(model.pass(Duration::from_secs(2)), None);
        assert_eq!(model.state(), ModelState::Failed);
        assert_eq!(model.running(), None);
    }
}
