//! The figures of Text Embeddings Inference, under its own names, so that its dashboards show this
//! worker: <https://github.com/huggingface/text-embeddings-inference/blob/v1.9.3/docs/source/en/cli_arguments.md>.
//!
//! They say what `lamplighter_worker_*` says, without models and routes. Counters have no `_total`
//! at their end there, so they are of unknown type here.

use std::fmt;
use std::time::Duration;

use lamplighter_engine::Output;
use lamplighter_telemetry::metrics::Registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::error::ApiError;
use super::family;
use crate::metrics::{Metrics, OfAll, seconds};

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Method {
    method: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Fault {
    err: &'static str,
}

/// A counter without a suffix.
#[derive(Clone, Debug, Default)]
struct Plain(Counter);

impl TypedMetric for Plain {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Plain {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Handles to the figures; clones count together.
#[derive(Clone, Debug)]
pub struct TeMetrics {
    count: Family<Method, Plain>,
    success: Family<Method, Plain>,
    failure: Family<Fault, Plain>,
    duration: Histogram,
    tokenization_duration: Histogram,
    input_length: Histogram,
    embed_count: Plain,
    embed_success: Plain,
    predict_count: Plain,
    predict_success: Plain,
}

impl Default for TeMetrics {
    fn default() -> Self {
        Self {
            count: Family::default(),
            success: Family::default(),
            failure: Family::default(),
            duration: seconds(),
            tokenization_duration: seconds(),
            input_length: Histogram::new(exponential_buckets(1.0, 2.0, 16)),
            embed_count: Plain::default(),
            embed_success: Plain::default(),
            predict_count: Plain::default(),
            predict_success: Plain::default(),
        }
    }
}

impl TeMetrics {
    /// Makes the figures and registers them.
    pub fn new(to: &mut Registry, worker: &Metrics) -> Self {
        let made = Self::default();
        made.register(to);
        register_batches(to, worker.work().of_all());
        to.register("te_queue_size", "Texts that wait or run", worker.queued_texts().clone());
        made
    }

    fn register(&self, to: &mut Registry) {
        to.register("te_request_count", "Requests that asked a model", self.count.clone());
        to.register("te_request_success", "Requests that a model answered", self.success.clone());
        to.register("te_request_failure", "Requests that failed", self.failure.clone());
        to.register("te_request_duration", "Seconds from head to answer", self.duration.clone());
        to.register(
            "te_request_tokenization_duration",
            "Seconds until a request's texts were tokens",
            self.tokenization_duration.clone(),
        );
        to.register("te_request_input_length", "Tokens of a text", self.input_length.clone());
        to.register("te_embed_count", "Texts to be embedded", self.embed_count.clone());
        to.register("te_embed_success", "Texts that were embedded", self.embed_success.clone());
        to.register("te_predict_count", "Texts to be scored", self.predict_count.clone());
        to.register("te_predict_success", "Texts that were scored", self.predict_success.clone());
    }

    /// A request with so many texts was let in.
    pub(super) fn began(&self, output: Output, texts: usize) {
        self.count.get_or_create(&Method::of(texts)).0.inc();
        self.of_texts(output).0.0.inc_by(texts as u64);
    }

    /// A request's texts, which have so many tokens, were answered.
    pub(super) fn answered(&self, output: Output, lengths: &[usize], took: &Took) {
        self.success.get_or_create(&Method::of(lengths.len())).0.inc();
        self.of_texts(output).1.0.inc_by(lengths.len() as u64);
        self.duration.observe(took.all.as_secs_f64());
        self.tokenization_duration.observe(took.tokenizing.as_secs_f64());
        for length in lengths {
            let length = u32::try_from(*length).unwrap_or(u32::MAX);
            self.input_length.observe(f64::from(length));
        }
    }

    /// A request that was to ask a model failed, there or before.
    pub(super) fn failed(&self, error: &ApiError) {
        self.failure.get_or_create(&Fault { err: family::tei_type(error) }).0.inc();
    }

    fn of_texts(&self, output: Output) -> (&Plain, &Plain) {
        match output {
            Output::Vector | Output::TokenVectors => (&self.embed_count, &self.embed_success),
            Output::Scores => (&self.predict_count, &self.predict_success),
        }
    }
}

/// What the threads that compute tell, of all models and of every batch.
fn register_batches(to: &mut Registry, batches: &OfAll) {
    for (name, help, histogram) in [
        (
            "te_request_queue_duration",
            "Seconds that a request waited for a batch",
            &batches.queue_seconds,
        ),
        (
            "te_request_inference_duration",
            "Seconds that a batch took, without the wait for it",
            &batches.infer_seconds,
        ),
        ("te_batch_next_size", "Texts of a batch", &batches.batch_texts),
        ("te_batch_next_tokens", "Tokens of a batch", &batches.batch_tokens),
    ] {
        to.register(name, help, histogram.clone());
    }
}

/// How long the parts of a request took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) tokenizing: Duration,
    pub(super) all: Duration,
}

impl Method {
    fn of(texts: usize) -> Self {
        Self { method: if texts == 1 { "single" } else { "batch" } }
    }
}
