//! From tokens to vectors: admission, batches, and the threads that they run on.
//!
//! Requests do not share batches yet; whoever forms batches across requests replaces
//! [`Runner::run`] and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use lamplighter_engine::{EngineError, Limits, Output, Text, Tokens, TooLong};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;
use crate::registry::Model;

/// Retry-After says at most this many seconds.
const LONGEST_WAIT: u64 = 60;
/// How long work in the background waits for a thread that no request wants. After that it
/// queues like a request: a worker that is never idle is checked as well.
const GIVE_WAY: Duration = Duration::from_secs(5);
/// How often it looks for one meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// Why texts were not answered.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// As many texts wait as may wait.
    #[error("the queue is full: {limit} texts wait or run; try again in {retry_after} s")]
    QueueFull {
        /// How many may wait.
        limit: usize,
        /// When the texts that wait now will probably be done, in seconds.
        retry_after: u64,
    },
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An output was NaN or infinite.
    #[error("the model answered with a number that is not finite")]
    NonFinite,
    /// The request's time was over before it was computed.
    #[error("there was no answer in the request's time")]
    Expired,
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

/// How urgent work is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Somebody waits for it.
    Interactive,
    /// A lot of work, of which nobody waits for a part.
    Bulk,
    /// The worker's own, for when nothing else is to be done.
    Idle,
}

/// What is wanted of texts, and how soon.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// What is to come out for each text.
    pub output: Output,
    /// How urgent it is.
    pub class: Class,
    /// What is not computed by then is not computed at all.
    pub deadline: Option<tokio::time::Instant>,
}

/// What a model reads, as [`Text`], to be taken to another thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnedText {
    /// A text.
    One(String),
    /// Two that it looks at together.
    Pair(String, String),
}

impl OwnedText {
    fn as_text(&self) -> Text<'_> {
        match self {
            Self::One(text) => Text::One(text),
            Self::Pair(first, second) => Text::Pair(first, second),
        }
    }
}

/// Runs models on a bounded number of threads, for a bounded number of texts.
#[derive(Debug)]
pub struct Runner {
    threads: usize,
    compute: Arc<Semaphore>,
    limit: usize,
    admission: Arc<Semaphore>,
    pace: Pace,
    metrics: Metrics,
}

/// The right to have a number of texts waiting or running; given back when dropped.
#[derive(Debug)]
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
    texts: i64,
    metrics: Metrics,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.metrics.queued_texts().dec_by(self.texts);
    }
}

impl Runner {
    /// Runs `threads` batches at once and admits up to `limit` texts.
    pub fn new(threads: usize, limit: usize, metrics: Metrics) -> Self {
        Self {
            threads,
            compute: Arc::new(Semaphore::new(threads)),
            limit,
            admission: Arc::new(Semaphore::new(limit)),
            pace: Pace::default(),
            metrics,
        }
    }

    /// How many texts may wait or run at once, and so the most that one request may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a request could be admitted at all, before it is known how many texts it has.
    pub fn check_room(&self) -> Result<(), RunError> {
        if self.admission.available_permits() == 0 { Err(self.full(1)) } else { Ok(()) }
    }

    fn full(&self, texts: usize) -> RunError {
        self.metrics.refused(texts);
        let waiting = self.limit - self.admission.available_permits();
        RunError::QueueFull {
            limit: self.limit,
            retry_after: self.pace.seconds_for(waiting, self.threads),
        }
    }

    /// Admits all texts of a request or none of them.
    pub fn admit(&self, texts: usize) -> Result<Admitted, RunError> {
        let full = || self.full(texts);
        let count = u32::try_from(texts).map_err(|_| full())?;
        let permit =
            Arc::clone(&self.admission).try_acquire_many_owned(count).map_err(|_| full())?;
        let texts = i64::from(count);
        self.metrics.queued_texts().inc_by(texts);
        Ok(Admitted { _permit: permit, texts, metrics: self.metrics.clone() })
    }

    /// Splits each text into tokens.
    pub async fn split(
        &self,
        model: &Arc<Model>,
        texts: Vec<OwnedText>,
        too_long: TooLong,
    ) -> Result<Vec<Tokens>, RunError> {
        let engine = Arc::clone(&model.engine);
        self.compute(move || {
            let texts: Vec<Text<'_>> = texts.iter().map(OwnedText::as_text).collect();
            engine.split(&texts, too_long)
        })
        .await
        .and_then(|tokens| tokens.map_err(RunError::from))
    }

    /// The output of each text, in order.
    ///
    /// At most as many batches of one request are in the queue for a thread as there are
    /// threads, so that a large request does not stand in front of all others.
    pub async fn run(
        &self,
        model: &Arc<Model>,
        mut texts: Vec<Tokens>,
        order: Order,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let batches = split(&lengths, model.engine.limits());
        let runs = batches.into_iter().map(|places| {
            let batch = places.iter().map(|&at| std::mem::take(&mut texts[at])).collect();
            async move {
                let thread = self.thread().await?;
                Ok((places, self.run_batch(model, batch, order.output, thread).await?))
            }
        });
        let answered: Vec<(Vec<usize>, Vec<Vec<f32>>)> = stream::iter(runs.collect::<Vec<_>>())
            .buffer_unordered(self.threads)
            .map(|answered: Result<_, RunError>| answered)
            .try_collect()
            .await?;
        self.metrics.ran(&model.key, lengths.len(), lengths.iter().sum());
        let mut vectors = vec![Vec::new(); lengths.len()];
        for (places, answers) in answered {
            for (at, vector) in places.into_iter().zip(answers) {
                vectors[at] = vector;
            }
        }
        Ok(vectors)
    }

    /// One vector for each text, in order, for callers that are in no hurry: one batch at a time,
    /// each on a thread that no request wants, if there is one before long.
    pub async fn embed_giving_way(
        &self,
        model: &Arc<Model>,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let engine = Arc::clone(&model.engine);
        let tokenize = move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            engine.tokenize(&texts)
        };
        let mut texts = on(self.idle_thread().await?, tokenize).await??;
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let mut vectors = vec![Vec::new(); texts.len()];
        for places in split(&lengths, model.engine.limits()) {
            let batch = places.iter().map(|&at| std::mem::take(&mut texts[at])).collect();
            let thread = self.idle_thread().await?;
            let answers = self.run_batch(model, batch, Output::Vector, thread).await?;
            for (at, vector) in places.into_iter().zip(answers) {
                vectors[at] = vector;
            }
        }
        Ok(vectors)
    }

    async fn run_batch(
        &self,
        model: &Arc<Model>,
        batch: Vec<Tokens>,
        output: Output,
        thread: OwnedSemaphorePermit,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let texts = batch.len();
        let engine = Arc::clone(&model.engine);
        let embed = move || {
            let started = Instant::now();
            engine.run(&batch, output).map(|vectors| (vectors, started.elapsed()))
        };
        let ran = on(thread, embed)
            .await
            .and_then(|answer| answer.map_err(RunError::from))
            .and_then(|(vectors, took)| Ok((check(vectors, texts)?, took)));
        match &ran {
            Ok((_, took)) => self.pace.observe(texts, *took),
            Err(error) => {
                self.metrics.failed(&model.key);
                if is_non_finite(error) {
                    self.metrics.non_finite(&model.key);
                }
            }
        }
        ran.map(|(vectors, _)| vectors)
    }

    /// The next thread that is free.
    async fn thread(&self) -> Result<OwnedSemaphorePermit, RunError> {
        Arc::clone(&self.compute).acquire_owned().await.map_err(|closed| lost(&closed))
    }

    /// A thread that no request waits for: one that is free is handed to those who queue first.
    async fn idle_thread(&self) -> Result<OwnedSemaphorePermit, RunError> {
        let begun = Instant::now();
        while begun.elapsed() < GIVE_WAY {
            if let Ok(thread) = Arc::clone(&self.compute).try_acquire_owned() {
                return Ok(thread);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.thread().await
    }

    /// Waits for a thread, then works on it.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RunError> {
        on(self.thread().await?, work).await
    }
}

/// Works on a thread. Work that has begun goes on when the caller is gone, and holds its thread
/// until it is done.
async fn on<T: Send + 'static>(
    thread: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunError> {
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(thread);
        done
    })
    .await
    .map_err(|panicked| lost(&panicked))
}

fn lost(error: &dyn std::fmt::Display) -> RunError {
    RunError::Lost(error.to_string())
}

/// Whether the model's output was at fault rather than the request or the machine.
pub fn is_non_finite(error: &RunError) -> bool {
    matches!(error, RunError::NonFinite | RunError::Engine(EngineError::OutputNonFinite { .. }))
}

fn check(vectors: Vec<Vec<f32>>, texts: usize) -> Result<Vec<Vec<f32>>, RunError> {
    if vectors.len() != texts {
        return Err(RunError::Miscounted { texts, vectors: vectors.len() });
    }
    if vectors.iter().flatten().all(|value| value.is_finite()) {
        Ok(vectors)
    } else {
        Err(RunError::NonFinite)
    }
}

/// Places of texts, in batches within the limits. Texts of like length come together, because
/// a batch may be computed as a rectangle.
fn split(lengths: &[usize], limits: Limits) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|&at| std::cmp::Reverse(lengths[at]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut of_last = Vec::new();
    for at in places {
        of_last.push(lengths[at]);
        match batches.last_mut() {
            Some(batch) if limits.hold(&of_last) => batch.push(at),
            _ => {
                of_last = vec![lengths[at]];
                batches.push(vec![at]);
            }
        }
    }
    batches
}

/// How long a text has taken lately, for Retry-After.
#[derive(Debug, Default)]
struct Pace {
    nanos_per_text: AtomicU64,
}

impl Pace {
    /// An eighth of the new on seven eighths of the old.
    fn observe(&self, texts: usize, took: Duration) {
        let now = u64::try_from(took.as_nanos() / texts.max(1) as u128).unwrap_or(u64::MAX);
        let old = self.nanos_per_text.load(Ordering::Relaxed);
        let mixed = if old == 0 { now } else { old / 8 * 7 + now / 8 };
        self.nanos_per_text.store(mixed, Ordering::Relaxed);
    }

    /// At least one second: a client that comes back at once finds the queue as it left it.
    fn seconds_for(&self, texts: usize, threads: usize) -> u64 {
        let nanos = self.nanos_per_text.load(Ordering::Relaxed);
        let total = u128::from(nanos) * texts as u128 / threads.max(1) as u128;
        let seconds = total.div_ceil(1_000_000_000);
        u64::try_from(seconds).unwrap_or(LONGEST_WAIT).clamp(1, LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_engine::Shape;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_and_every_batch_is_within_the_limits(
            lengths in prop::collection::vec(1..=64_usize, 0..200),
            max_batch_texts in 1..20_usize,
            max_batch_tokens in 64..1_000_usize,
            shape in prop_oneof![Just(Shape::Packed), Just(Shape::Padded)],
        ) {
            let limits = Limits { max_batch_tokens, max_batch_texts, shape };
            let batches = split(&lengths, limits);
            let mut places: Vec<usize> = batches.iter().flatten().copied().collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let of_batch: Vec<usize> = batch.iter().map(|&at| lengths[at]).collect();
                prop_assert!(limits.hold(&of_batch));
            }
        }
    }

    #[test]
    fn the_wait_is_what_the_queue_takes_in_whole_seconds() {
        let pace = Pace::default();
        assert_eq!(pace.seconds_for(1_000, 2), 1, "nothing has been measured yet");
        pace.observe(10, Duration::from_secs(1));
        assert_eq!(pace.seconds_for(45, 2), 3);
        assert_eq!(pace.seconds_for(1_000_000, 2), LONGEST_WAIT);
    }
}
