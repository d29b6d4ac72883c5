//! The worker's own figures, all with the prefix `lamplighter_worker_`.
//!
//! Labels are bounded: routes are the patterns that the router knows, models are those of the
//! manifest and those that were loaded later, until they are unloaded.

mod work;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use lamplighter_protocol::{ModelKey, ModelState, Phase, RuntimeReport};
use lamplighter_telemetry::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::lifecycle::PhaseEnd;
use crate::revalidate::Answer;
pub(crate) use work::{OfAll, Work, seconds};

/// Seconds of a request: a short query takes about a millisecond, a full batch some seconds.
const REQUEST_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds to a refusal, which waits for nothing.
const REFUSAL_BUCKETS: [f64; 9] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1];
const TOO_MANY: u16 = 429;

const STATES: [(ModelState, &str); 6] = [
    (ModelState::Pending, "Pending"),
    (ModelState::Loading, "Loading"),
    (ModelState::WarmingUp, "WarmingUp"),
    (ModelState::Validating, "Validating"),
    (ModelState::Ready, "Ready"),
    (ModelState::Failed, "Failed"),
];

/// What a case that was asked again may get.
const ANSWERS: [&str; 4] = ["Right", "Wrong", "Failed", "Inconclusive"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RouteCode {
    route: String,
    code: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Model {
    model: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ModelInState {
    model: String,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ModelPhase {
    model: String,
    phase: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ModelCases {
    model: String,
    passed: bool,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ModelAnswer {
    model: String,
    answer: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ModelRuntime {
    model: String,
    kernel: String,
    precision: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Handles to every figure; what they count is shared with the registry they stand in.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RouteCode, Counter>,
    request_seconds: Family<Route, Histogram, fn() -> Histogram>,
    refusal_seconds: Histogram,
    in_flight: Gauge,
    connections: Gauge,
    queued_texts: Gauge,
    refused_texts: Counter,
    texts: Family<Model, Counter>,
    tokens: Family<Model, Counter>,
    failed_batches: Family<Model, Counter>,
    panicked_batches: Family<Model, Counter>,
    non_finite: Family<Model, Counter>,
    model_state: Family<ModelInState, Gauge>,
    model_info: Family<ModelRuntime, Gauge>,
    load_seconds: Family<ModelPhase, Seconds>,
    load_bytes: Family<ModelPhase, Counter>,
    memory_ready: Gauge,
    validation_cases: Family<ModelCases, Gauge>,
    revalidation_rounds: Counter,
    revalidation_answers: Family<ModelAnswer, Counter>,
    work: Work,
}

impl Metrics {
    /// Makes the figures and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("lamplighter_worker");
        let buckets: fn() -> Histogram = || Histogram::new(REQUEST_BUCKETS);
        let made = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(buckets),
            refusal_seconds: Histogram::new(REFUSAL_BUCKETS),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            queued_texts: Gauge::default(),
            refused_texts: Counter::default(),
            texts: Family::default(),
            tokens: Family::default(),
            failed_batches: Family::default(),
            panicked_batches: Family::default(),
            non_finite: Family::default(),
            model_state: Family::default(),
            model_info: Family::default(),
            load_seconds: Family::default(),
            load_bytes: Family::default(),
            memory_ready: Gauge::default(),
            validation_cases: Family::default(),
            revalidation_rounds: Counter::default(),
            revalidation_answers: Family::default(),
            work: Work::new(registry),
        };
        made.register(registry);
        made
    }

    fn register(&self, to: &mut Registry) {
        to.register("requests", "Answered requests", self.requests.clone());
        to.register("request_seconds", "Time from head to answer", self.request_seconds.clone());
        to.register(
            "refusal_seconds",
            "Time from head to answer of requests that were refused as too many",
            self.refusal_seconds.clone(),
        );
        to.register(
            "in_flight",
            "Requests whose answer is not written yet",
            self.in_flight.clone(),
        );
        to.register(
            "connections",
            "Open connections to the serving port",
            self.connections.clone(),
        );
        to.register("queued_texts", "Texts that wait or run", self.queued_texts.clone());
        to.register(
            "refused_texts",
            "Texts refused as the queue was full",
            self.refused_texts.clone(),
        );
        to.register("texts", "Texts that were answered", self.texts.clone());
        to.register("tokens", "Tokens of the texts that were answered", self.tokens.clone());
        to.register(
            "failed_batches",
            "Batches that the engine failed",
            self.failed_batches.clone(),
        );
        to.register(
            "panicked_batches",
            "Batches in which the engine panicked",
            self.panicked_batches.clone(),
        );
        to.register("non_finite", "Outputs that were NaN or infinite", self.non_finite.clone());
        to.register("model_state", "1 for the state that a model is in", self.model_state.clone());
        to.register("model_info", "1 for what a model computes with", self.model_info.clone());
        to.register("load_seconds", "Time of each phase of a start", self.load_seconds.clone());
        to.register(
            "load_bytes",
            "Bytes handled by each phase of a start",
            self.load_bytes.clone(),
        );
        to.register(
            "memory_ready_bytes",
            "Most memory of the process until every model had passed; 0 before",
            self.memory_ready.clone(),
        );
        to.register(
            "validation_cases",
            "Validation cases by outcome",
            self.validation_cases.clone(),
        );
        to.register(
            "revalidation_rounds",
            "Rounds in which every case was asked again",
            self.revalidation_rounds.clone(),
        );
        to.register(
            "revalidation_answers",
            "Answers to cases that were asked again",
            self.revalidation_answers.clone(),
        );
    }

    /// A request was answered.
    pub fn answered(&self, route: &str, code: u16, took: Duration) {
        if code == TOO_MANY {
            self.refusal_seconds.observe(took.as_secs_f64());
        }
        let route = route.to_owned();
        let labels = RouteCode { route: route.clone(), code };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    /// What becomes of requests between admission and answer.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// Requests from their parsed head until their answer was written.
    pub fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// Open connections to the serving port.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// Texts that wait or run.
    pub fn queued_texts(&self) -> &Gauge {
        &self.queued_texts
    }

    /// Texts were refused because the queue was full.
    pub fn refused(&self, texts: usize) {
        self.refused_texts.inc_by(texts as u64);
    }

    /// Texts were answered.
    pub fn ran(&self, model: &ModelKey, texts: usize, tokens: usize) {
        let labels = label(model);
        self.texts.get_or_create(&labels).inc_by(texts as u64);
        self.tokens.get_or_create(&labels).inc_by(tokens as u64);
    }

    /// A batch failed in the engine.
    pub fn failed(&self, model: &ModelKey) {
        self.failed_batches.get_or_create(&label(model)).inc();
    }

    /// The engine panicked in a batch, which counts as failed, too.
    pub fn panicked(&self, model: &ModelKey) {
        self.panicked_batches.get_or_create(&label(model)).inc();
    }

    /// An output was NaN or infinite.
    pub fn non_finite(&self, model: &ModelKey) {
        self.non_finite.get_or_create(&label(model)).inc();
    }

    /// A model is in this state and in no other.
    pub fn state(&self, model: &ModelKey, state: ModelState) {
        for (candidate, name) in STATES {
            let labels = ModelInState { model: model.to_string(), state: name };
            self.model_state.get_or_create(&labels).set(i64::from(candidate == state));
        }
    }

    /// What a model computes with.
    pub fn runtime(&self, model: &ModelKey, runtime: &RuntimeReport) {
        let RuntimeReport { kernel, precision, .. } = runtime.clone();
        let labels = ModelRuntime { model: model.to_string(), kernel, precision };
        self.model_info.get_or_create(&labels).set(1);
    }

    /// A phase of a model's start has ended.
    pub fn phase(&self, model: &ModelKey, ended: PhaseEnd) {
        let labels = ModelPhase { model: model.to_string(), phase: ended.phase.as_str() };
        self.load_seconds.get_or_create(&labels).set(ended.took.as_secs_f64());
        self.load_bytes.get_or_create(&labels).inc_by(ended.bytes);
    }

    /// The process had at most so many bytes in memory until every model had passed.
    pub fn memory_ready(&self, bytes: u64) {
        self.memory_ready.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A model's validation cases have run.
    pub fn cases(&self, model: &ModelKey, passed: usize, failed: usize) {
        for (outcome, count) in [(true, passed), (false, failed)] {
            let labels = ModelCases { model: model.to_string(), passed: outcome };
            self.validation_cases
                .get_or_create(&labels)
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A case was asked again.
    pub fn asked_again(&self, model: &ModelKey, answer: &Answer) {
        let answer = match answer {
            Answer::Right => "Right",
            Answer::Wrong { .. } => "Wrong",
            Answer::Failed { .. } => "Failed",
            Answer::Inconclusive { .. } => "Inconclusive",
        };
        let labels = ModelAnswer { model: model.to_string(), answer };
        self.revalidation_answers.get_or_create(&labels).inc();
    }

    /// A model is gone: so are the figures that name it.
    pub fn forget(&self, key: &ModelKey, runtime: Option<&RuntimeReport>) {
        let (model, labels) = (key.to_string(), label(key));
        self.work().forget(key);
        if let Some(RuntimeReport { kernel, precision, .. }) = runtime.cloned() {
            self.model_info.remove(&ModelRuntime { model: model.clone(), kernel, precision });
        }
        let of_answers = [&self.texts, &self.tokens, &self.non_finite];
        for figures in of_answers.into_iter().chain([&self.failed_batches, &self.panicked_batches])
        {
            figures.remove(&labels);
        }
        for (_, state) in STATES {
            self.model_state.remove(&ModelInState { model: model.clone(), state });
        }
        for phase in Phase::ALL {
            let labels = ModelPhase { model: model.clone(), phase: phase.as_str() };
            self.load_seconds.remove(&labels);
            self.load_bytes.remove(&labels);
        }
        for passed in [true, false] {
            self.validation_cases.remove(&ModelCases { model: model.clone(), passed });
        }
        for answer in ANSWERS {
            self.revalidation_answers.remove(&ModelAnswer { model: model.clone(), answer });
        }
    }

    /// Every case was asked again.
    pub fn round_ended(&self) {
        self.revalidation_rounds.inc();
    }
}

fn label(model: &ModelKey) -> Model {
    Model { model: model.to_string() }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
