//! Figures of the work between admission and answer, all by model.

use std::time::Duration;

use lamplighter_protocol::ModelKey;
use lamplighter_telemetry::metrics::Registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{Model, label};

/// A short text on a GPU takes a fraction of a millisecond, a long one on a processor some seconds.
const SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
const TEXTS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
const TOKENS: [f64; 9] = [16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 2_048.0, 8_192.0, 32_768.0];

type Histograms = Family<Model, Histogram, fn() -> Histogram>;

/// Handles to the figures.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    waiting: Family<Model, Gauge>,
    queue_seconds: Histograms,
    tokenize_seconds: Histograms,
    infer_seconds: Histograms,
    batch_texts: Histograms,
    batch_tokens: Histograms,
    expired: Family<Model, Counter>,
    cancelled: Family<Model, Counter>,
    suspect: Family<Model, Gauge>,
    of_all: OfAll,
}

/// Figures of all models together, which stand under the names of another server.
#[derive(Clone, Debug)]
pub(crate) struct OfAll {
    /// Seconds that requests waited for a batch.
    pub(crate) queue_seconds: Histogram,
    /// Seconds that batches took.
    pub(crate) infer_seconds: Histogram,
    /// Texts of a batch.
    pub(crate) batch_texts: Histogram,
    /// Tokens of a batch.
    pub(crate) batch_tokens: Histogram,
}

impl Default for OfAll {
    fn default() -> Self {
        Self {
            queue_seconds: seconds(),
            infer_seconds: seconds(),
            batch_texts: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            batch_tokens: Histogram::new(exponential_buckets(1.0, 2.0, 18)),
        }
    }
}

/// From 0.1 ms to a minute, each 1.5 times the one before.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 1.5, 34))
}

impl Work {
    pub(super) fn new(to: &mut Registry) -> Self {
        let seconds = || Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> _);
        let made = Self {
            waiting: Family::default(),
            queue_seconds: seconds(),
            tokenize_seconds: seconds(),
            infer_seconds: seconds(),
            batch_texts: Family::new_with_constructor(|| Histogram::new(TEXTS)),
            batch_tokens: Family::new_with_constructor(|| Histogram::new(TOKENS)),
            expired: Family::default(),
            cancelled: Family::default(),
            suspect: Family::default(),
            of_all: OfAll::default(),
        };
        to.register("queued_tokens", "Tokens that wait or run", made.waiting.clone());
        for (name, help, histogram) in [
            ("queue_seconds", "Time that a request waited for a thread", &made.queue_seconds),
            (
                "tokenize_seconds",
                "Time in which a request's texts became tokens",
                &made.tokenize_seconds,
            ),
            ("infer_seconds", "Time that a batch took", &made.infer_seconds),
            ("batch_texts", "Texts of a batch", &made.batch_texts),
            ("batch_tokens", "Tokens of a batch, without padding", &made.batch_tokens),
        ] {
            to.register(name, help, histogram.clone());
        }
        to.register(
            "expired_requests",
            "Requests whose time was over before they were computed",
            made.expired.clone(),
        );
        to.register(
            "cancelled_requests",
            "Requests whose client was gone before they were computed",
            made.cancelled.clone(),
        );
        to.register(
            "suspect",
            "1 for a model that gave several outputs that are not finite and was not right since",
            made.suspect.clone(),
        );
        made
    }

    /// The same of all models together.
    pub(crate) fn of_all(&self) -> &OfAll {
        &self.of_all
    }

    /// So many tokens of a model wait or run.
    pub(crate) fn waiting(&self, model: &ModelKey, tokens: usize) {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.waiting.get_or_create(&label(model)).set(tokens);
    }

    /// The first text of a request was taken after so long.
    pub(crate) fn queued(&self, model: &ModelKey, waited: Duration) {
        self.queue_seconds.get_or_create(&label(model)).observe(waited.as_secs_f64());
        self.of_all.queue_seconds.observe(waited.as_secs_f64());
    }

    /// A request's texts became tokens.
    pub(crate) fn tokenized(&self, model: &ModelKey, took: Duration) {
        self.tokenize_seconds.get_or_create(&label(model)).observe(took.as_secs_f64());
    }

    /// A batch was computed.
    #[expect(clippy::cast_precision_loss, reason = "a batch has far less than 2^53 tokens")]
    pub(crate) fn ran(&self, model: &ModelKey, texts: usize, tokens: usize, took: Duration) {
        let model = label(model);
        self.infer_seconds.get_or_create(&model).observe(took.as_secs_f64());
        self.batch_texts.get_or_create(&model).observe(texts as f64);
        self.batch_tokens.get_or_create(&model).observe(tokens as f64);
        self.of_all.infer_seconds.observe(took.as_secs_f64());
        self.of_all.batch_texts.observe(texts as f64);
        self.of_all.batch_tokens.observe(tokens as f64);
    }

    /// A request's time was over.
    pub(crate) fn expired(&self, model: &ModelKey) {
        self.expired.get_or_create(&label(model)).inc();
    }

    /// Nobody waited for a request any more.
    pub(crate) fn cancelled(&self, model: &ModelKey) {
        self.cancelled.get_or_create(&label(model)).inc();
    }

    /// A model is gone: so are the figures that name it.
    pub(super) fn forget(&self, model: &ModelKey) {
        let model = label(model);
        for gauges in [&self.waiting, &self.suspect] {
            gauges.remove(&model);
        }
        for histograms in [
            &self.queue_seconds,
            &self.tokenize_seconds,
            &self.infer_seconds,
            &self.batch_texts,
            &self.batch_tokens,
        ] {
            histograms.remove(&model);
        }
        for counters in [&self.expired, &self.cancelled] {
            counters.remove(&model);
        }
    }

    /// Whether a model is suspect.
    pub(crate) fn suspect(&self, model: &ModelKey, is_suspect: bool) {
        self.suspect.get_or_create(&label(model)).set(i64::from(is_suspect));
    }
}
