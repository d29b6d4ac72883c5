//! From texts to their outputs: admission, tokens, batches, and the threads that they run on.
//!
//! ```text
//! admit ──▶ split ─────────▶ run ───────────────▶ outputs
//! texts     run/tokenizing   run/compute
//!                            crate::batching: what is computed next, and together
//! ```
//!
//! Threads of the worker's own tokenise and compute, a fixed number of them, and none of the async
//! runtime's does: a request can be refused while all of them are busy. What is decided is decided
//! in [`crate::batching`]; here are the locks, the clock and the channels around it.

mod compute;
mod engine;
mod ticket;
mod tokenizing;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_engine::{Engine, EngineError, Output, Piece, Text, Tokens, TooLong};
use lamplighter_protocol::ModelKey;

pub use crate::batching::{Class, UnknownClass};
use crate::board::Board;
use crate::metrics::Metrics;
use crate::registry::Model;
use compute::Compute;
use tokenizing::Tokenizing;

/// Why texts were not answered.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// As many texts wait as may wait.
    #[error("the queue is full: {limit} texts wait or run; try again in {} s", whole_seconds(*.retry_after))]
    QueueFull {
        /// How many may wait.
        limit: usize,
        /// When the texts that wait now will probably be done.
        retry_after: Duration,
    },
    /// So much waits that a request would be over before its turn comes.
    #[error(
        "the queue is longer than the request's time; try again in {} s",
        whole_seconds(*.retry_after)
    )]
    QueueTooLong {
        /// When the texts that wait now will probably be done.
        retry_after: Duration,
    },
    /// However little there is to do besides, the texts would take far longer than the request's time.
    #[error(
        "{texts} texts would take about {} s here, and a request has {} s; send at most {most} texts \
         like these at once",
        whole_seconds(*.takes),
        .has.as_secs()
    )]
    TooMuch {
        /// How many texts there are.
        texts: usize,
        /// How long they would take.
        takes: Duration,
        /// How much of the request's time is left.
        has: Duration,
        /// How many such texts that is enough for.
        most: usize,
    },
    /// The request's time was over before it was answered.
    #[error("there was no answer in the request's time")]
    Expired,
    /// The engine refused the request's texts, or has no such output. An index counts the texts
    /// that were given.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An output was NaN or infinite.
    #[error("the model answered with a number that is not finite")]
    NonFinite,
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine gave another number of vectors than there were texts.
    #[error("a bug: the engine answered {texts} texts with {vectors} vectors")]
    Miscounted {
        /// Texts in the batch.
        texts: usize,
        /// Vectors in the answer.
        vectors: usize,
    },
    /// The engine panicked, or the process is ending.
    #[error("a bug: the run was lost ({0})")]
    Lost(String),
}

impl RunError {
    /// When to try again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } | Self::QueueTooLong { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

/// The system starts no more threads.
#[derive(Debug, thiserror::Error)]
#[error("the thread {name} could not be started: {source}")]
pub struct NoThread {
    name: String,
    source: io::Error,
}

/// What is wanted of texts, and how soon.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// What is to come out for each text.
    pub output: Output,
    /// How urgent it is.
    pub class: Class,
    /// What is not begun by then is not computed at all.
    pub deadline: Option<tokio::time::Instant>,
}

/// What a model reads, as [`Text`], to be taken to another thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnedText {
    /// A text.
    One(Arc<str>),
    /// Two that it looks at together; many pairs may share one of them.
    Pair(Arc<str>, Arc<str>),
}

impl OwnedText {
    fn as_text(&self) -> Text<'_> {
        match self {
            Self::One(text) => Text::One(text),
            Self::Pair(first, second) => Text::Pair(first, second),
        }
    }

    /// How long it is, or both of them together are.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::One(text) => text.len(),
            Self::Pair(first, second) => first.len() + second.len(),
        }
    }
}

/// Runs models on a bounded number of threads, for a bounded number of texts.
#[derive(Debug)]
pub struct Runner {
    limit: usize,
    compute: Compute,
    tokenizing: Tokenizing,
    metrics: Metrics,
}

/// The right to have a number of texts waiting or running; given back when dropped.
#[derive(Debug)]
pub struct Admitted {
    shared: Arc<compute::Shared>,
    texts: usize,
    metrics: Metrics,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.release(self.texts);
        self.metrics.queued_texts().dec_by(signed(self.texts));
    }
}

impl Runner {
    /// Runs `threads` batches at once and admits up to `limit` texts. With fewer threads than that it
    /// would be another worker, so there is none then.
    pub fn new(threads: usize, limit: usize, metrics: Metrics) -> Result<Self, NoThread> {
        Ok(Self {
            limit,
            compute: Compute::start(threads, limit, metrics.clone())?,
            tokenizing: Tokenizing::start(threads)?,
            metrics,
        })
    }

    /// Tells this board of models whose answers are suspect, and refuses requests at the door as long
    /// as they would wait longer than `time`, which is the most that any request has.
    pub fn serve_under(&self, board: &Arc<Board>, time: Duration) {
        let board = Arc::clone(board);
        if self.compute.0.served_under.set((board, time)).is_err() {
            tracing::error!("a bug: a runner was to serve twice");
        }
    }

    /// A model was unloaded: nothing of it is remembered.
    pub fn forget(&self, model: &ModelKey) {
        self.compute.0.forget_model(model);
    }

    /// How many texts may wait or run at once, and so the most that one request may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a request could be admitted at all, before it is known how many texts it has. Waits
    /// for nothing and nobody. `class`: what the request says of itself.
    pub fn check_room(&self, class: Option<Class>) -> Result<(), RunError> {
        self.compute.0.check_room(class)
    }

    /// Admits all texts of a request or none of them. `class`: what the request says of itself.
    pub fn admit(&self, texts: usize, class: Option<Class>) -> Result<Admitted, RunError> {
        self.compute.0.admit(texts, Class::choose(class, texts, 0))?;
        self.metrics.queued_texts().inc_by(signed(texts));
        let (shared, metrics) = (Arc::clone(&self.compute.0), self.metrics.clone());
        Ok(Admitted { shared, texts, metrics })
    }

    /// Splits each text into tokens. What is not begun when the future is dropped is not done.
    pub async fn split(
        &self,
        model: &Arc<Model>,
        texts: Vec<OwnedText>,
        too_long: TooLong,
    ) -> Result<Vec<Tokens>, RunError> {
        let begun = Instant::now();
        let tokens = self.tokenizing.split(Arc::clone(&model.engine), texts, too_long).await;
        self.metrics.work().tokenized(&model.key, begun.elapsed());
        if let Err(RunError::Lost(words)) = &tokens {
            tracing::error!(model = %model.key, words, "texts could not be split: a bug");
        }
        tokens
    }

    /// The tokens of each single text, for people to look at. What is not begun when the future is
    /// dropped is not done.
    pub async fn pieces(
        &self,
        model: &Arc<Model>,
        texts: Vec<OwnedText>,
        special: bool,
    ) -> Result<Vec<Vec<Piece>>, RunError> {
        let show = move |engine: &dyn Engine, texts: &[Text<'_>]| {
            let pieces = texts.iter().enumerate().map(|(place, text)| {
                let (Text::One(text) | Text::Pair(text, _)) = text;
                engine.pieces(text, special).map_err(|error| tokenizing::after(error, place))
            });
            pieces.collect()
        };
        self.tokenizing.each(Arc::clone(&model.engine), texts, Box::new(show)).await
    }

    /// The output of each text, in order. What is not begun when the future is dropped, or by the
    /// order's deadline, is not computed.
    pub async fn run(
        &self,
        model: &Arc<Model>,
        texts: Vec<Tokens>,
        order: Order,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        self.compute.0.submit(model, texts, order)?.answer(order.deadline).await
    }

    /// One vector for each text, in order, for callers that are in no hurry: in batches one after the
    /// other, when no request wants a thread, or now and then if there is always one that does.
    pub async fn embed_giving_way(
        &self,
        model: &Arc<Model>,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let texts = texts.into_iter().map(|text| OwnedText::One(text.into())).collect();
        let tokens = self.split(model, texts, TooLong::Refuse).await?;
        let order = Order { output: Output::Vector, class: Class::Idle, deadline: None };
        self.run(model, tokens, order).await
    }
}

/// Whether the model's output was at fault rather than the request or the machine.
pub fn is_non_finite(error: &RunError) -> bool {
    matches!(error, RunError::NonFinite | RunError::Engine(EngineError::OutputNonFinite { .. }))
}

/// Seconds that are over when the time is.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn lost(error: &dyn std::fmt::Display) -> RunError {
    RunError::Lost(error.to_string())
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A thread that lives as long as there is work for it.
fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), NoThread> {
    match std::thread::Builder::new().name(name.clone()).spawn(work) {
        Ok(_) => Ok(()),
        Err(source) => Err(NoThread { name, source }),
    }
}
