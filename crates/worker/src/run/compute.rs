//! The threads that compute, and the requests whose texts they take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lamplighter_engine::Tokens;
use lamplighter_protocol::ModelKey;
use tokio::sync::oneshot;

use super::engine::{error, run};
use super::ticket::Ticket;
use super::{NoThread, Order, RunError, spawn};
use crate::batching::{
    Arrival, Batch, Class, Fault, Prospect, Queue, Suspicion, WorkId, judge, most_in_time,
    retry_after,
};
use crate::board::Board;
use crate::metrics::Metrics;
use crate::registry::Model;

pub(super) type Outputs = Vec<Vec<f32>>;
type Reply = oneshot::Sender<Result<Outputs, RunError>>;

/// Ends its threads when dropped. Clones of what it hands out keep the state, not the threads.
#[derive(Debug)]
pub(super) struct Compute(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// What [`Shared::check_room`] needs, which takes no lock: texts that are admitted, and nanoseconds until
    /// an interactive request would begin, and until all that waits is done.
    admitted: AtomicUsize,
    wait: AtomicU64,
    wait_of_all: AtomicU64,
    limit: usize,
    /// How many texts there may be for one more interactive text.
    interactive: usize,
    /// From which times are counted.
    began: tokio::time::Instant,
    metrics: Metrics,
    pub(super) served_under: OnceLock<(Arc<Board>, Duration)>,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    jobs: HashMap<WorkId, Job>,
    /// Every model that was asked so far, by its number.
    models: Vec<Option<(ModelKey, Suspicion)>>,
    closing: bool,
}

/// A request's texts, and what is answered so far.
struct Job {
    model: Arc<Model>,
    texts: Vec<Tokens>,
    answers: Outputs,
    left: usize,
    tokens: usize,
    /// When it came, until its first text is taken.
    waiting: Option<Duration>,
    reply: Reply,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Job").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A batch that a thread has taken, with its texts.
struct Taken {
    batch: Batch,
    model: Arc<Model>,
    texts: Vec<Tokens>,
}

impl Compute {
    /// Runs `threads` batches at once, with room for `limit` texts.
    pub(super) fn start(threads: usize, limit: usize, metrics: Metrics) -> Result<Self, NoThread> {
        let threads = threads.max(1);
        let queue = Queue::new(threads, limit);
        let interactive = queue.places(Class::Interactive);
        let inner = Inner { queue, jobs: HashMap::new(), models: Vec::new(), closing: false };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            admitted: AtomicUsize::new(0),
            wait: AtomicU64::new(0),
            wait_of_all: AtomicU64::new(0),
            limit,
            interactive,
            began: tokio::time::Instant::now(),
            metrics,
            served_under: OnceLock::new(),
        });
        // Dropped on an error, so that the threads that were started end.
        let this = Self(shared);
        for number in 0..threads {
            let shared = Arc::clone(&this.0);
            spawn(format!("compute-{number}"), move || shared.work())?;
        }
        Ok(this)
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.closing = true;
        inner.jobs.clear();
        drop(inner);
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// Whether a request could be admitted, by what is known without waiting for anybody.
    pub(super) fn check_room(&self, class: Option<Class>) -> Result<(), RunError> {
        let read = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        let is_bulk = class == Some(Class::Bulk);
        let places = if is_bulk { self.limit } else { self.interactive };
        let wait = read(if is_bulk { &self.wait_of_all } else { &self.wait });
        if self.admitted.load(Ordering::Relaxed) >= places {
            // A place is free when a request is done that has one.
            Err(self.full(1, read(&self.wait_of_all)))
        } else if wait > self.time() {
            Err(self.too_long(1, wait))
        } else {
            Ok(())
        }
    }

    /// The most that any request has.
    fn time(&self) -> Duration {
        self.served_under.get().map_or(Duration::MAX, |(_, time)| *time)
    }

    fn too_much(&self, texts: usize, takes: Duration, has: Duration) -> RunError {
        self.metrics.refused(texts);
        RunError::TooMuch { texts, takes, has, most: most_in_time(texts, takes, has) }
    }

    fn full(&self, texts: usize, wait: Duration) -> RunError {
        self.metrics.refused(texts);
        RunError::QueueFull { limit: self.limit, retry_after: retry_after(wait, self.time()) }
    }

    fn too_long(&self, texts: usize, wait: Duration) -> RunError {
        self.metrics.refused(texts);
        RunError::QueueTooLong { retry_after: retry_after(wait, self.time()) }
    }

    /// Admits all texts of a request or none of them.
    pub(super) fn admit(&self, texts: usize, class: Class) -> Result<(), RunError> {
        let mut inner = self.lock();
        if !inner.queue.admit(texts, class) {
            let wait = inner.queue.wait(Class::Bulk);
            drop(inner);
            return Err(self.full(texts, wait));
        }
        self.publish(&inner);
        Ok(())
    }

    /// Gives back the places of texts that were admitted.
    pub(super) fn release(&self, texts: usize) {
        let mut inner = self.lock();
        inner.queue.release(texts);
        self.publish(&inner);
    }

    /// Puts texts into the queue, unless their time would be over before they are done.
    pub(super) fn submit(
        self: &Arc<Self>,
        model: &Arc<Model>,
        texts: Vec<Tokens>,
        order: Order,
    ) -> Result<Ticket, RunError> {
        let Order { output, class, deadline } = order;
        let deadline = deadline.map(|at| at.saturating_duration_since(self.began));
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let limits = model.engine.limits();
        let (reply, answer) = oneshot::channel();
        let now = self.now();
        let mut inner = self.lock();
        if inner.closing {
            return Err(RunError::Lost("the worker is ending".to_owned()));
        }
        let number = inner.number(&model.key);
        if let Some(deadline) = deadline {
            let has = deadline.saturating_sub(now);
            if has.is_zero() {
                self.metrics.work().expired(&model.key);
                return Err(RunError::Expired);
            }
            let wait = inner.queue.wait(class);
            let takes = inner.queue.takes(number, lengths.iter().sum());
            match Prospect::of(has, wait, takes) {
                Prospect::Good => {}
                Prospect::TooLong => return Err(self.too_long(texts.len(), wait)),
                Prospect::TooMuch => return Err(self.too_much(texts.len(), takes, has)),
            }
        }
        let arrival = Arrival { model: number, output, limits, class, deadline, lengths: &lengths };
        let id = inner.queue.submit(&arrival, now);
        let job = Job {
            model: Arc::clone(model),
            answers: vec![Vec::new(); texts.len()],
            left: texts.len(),
            tokens: lengths.iter().sum(),
            texts,
            waiting: Some(now),
            reply,
        };
        inner.jobs.insert(id, job);
        self.publish_model(&inner, number);
        drop(inner);
        self.changed.notify_all();
        Ok(Ticket::new(Arc::clone(self), id, answer))
    }

    fn work(&self) {
        while let Some(taken) = self.take() {
            let begun = Instant::now();
            let mut runs = 0;
            let outcomes = judge(taken.texts.len(), |group| {
                runs += 1;
                run(taken.model.engine.as_ref(), &taken.texts, taken.batch.output, group)
            });
            let took = begun.elapsed();
            let is_clean = runs == 1 && outcomes.iter().all(Result::is_ok);
            if !is_clean {
                self.metrics.failed(&taken.model.key);
            }
            if let Some(words) = outcomes.iter().find_map(panicked) {
                let model = &taken.model.key;
                tracing::error!(%model, words, "the engine panicked: its batch is lost");
                self.metrics.panicked(model);
            }
            self.metrics.work().ran(&taken.model.key, taken.texts.len(), taken.batch.tokens, took);
            self.give(&taken, outcomes, is_clean.then_some(took));
        }
    }

    /// The next batch. Waits for one as long as the worker lives; a request that waits longer than
    /// its time is told so by its own clock.
    fn take(&self) -> Option<Taken> {
        let mut inner = self.lock();
        loop {
            if inner.closing {
                return None;
            }
            let now = self.now();
            for id in inner.queue.expire(now) {
                if let Some(job) = inner.jobs.remove(&id) {
                    self.metrics.work().expired(&job.model.key);
                    drop(job.reply.send(Err(RunError::Expired)));
                }
            }
            if let Some(batch) = inner.queue.next(now)
                && let Some(taken) = self.collect(&mut inner, batch, now)
            {
                self.publish_model(&inner, taken.batch.model);
                return Some(taken);
            }
            self.publish(&inner);
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn collect(&self, inner: &mut Inner, batch: Batch, now: Duration) -> Option<Taken> {
        let mut model = None;
        let mut texts = Vec::with_capacity(batch.texts.len());
        for (id, place) in &batch.texts {
            let Some(job) = inner.jobs.get_mut(id) else { continue };
            if let Some(since) = job.waiting.take() {
                self.metrics.work().queued(&job.model.key, now.saturating_sub(since));
            }
            texts.push(job.texts.get_mut(*place).map(std::mem::take).unwrap_or_default());
            model = Some(Arc::clone(&job.model));
        }
        // A work and its job come and go together, under one lock.
        debug_assert_eq!(texts.len(), batch.texts.len(), "every text of a batch is somebody's");
        model.map(|model| Taken { batch, model, texts })
    }

    /// Hands out what a batch came to.
    fn give(&self, taken: &Taken, outcomes: Vec<Result<Vec<f32>, Fault>>, pace: Option<Duration>) {
        let now = self.now();
        let mut done: Vec<(Job, Result<(), RunError>)> = Vec::new();
        let mut is_suspect = false;
        let mut inner = self.lock();
        inner.queue.finish(taken.batch.id, pace);
        for (&(id, place), outcome) in taken.batch.texts.iter().zip(outcomes) {
            // Nobody waits for it any more.
            let Some(job) = inner.jobs.get_mut(&id) else { continue };
            let ended = match outcome {
                Ok(output) => {
                    job.left -= 1;
                    if let Some(answer) = job.answers.get_mut(place) {
                        *answer = output;
                    }
                    (job.left == 0).then_some(Ok(()))
                }
                Err(fault) => {
                    if matches!(fault, Fault::NonFinite) {
                        self.metrics.non_finite(&job.model.key);
                    }
                    if fault.is_the_models() {
                        // A round of the cases is judged by itself and starts no other one.
                        let is_asked = taken.batch.class != Class::Idle;
                        let known = inner.models.get_mut(taken.batch.model);
                        let known = known.and_then(Option::as_mut).filter(|_| is_asked);
                        is_suspect |= known.is_some_and(|(_, suspicion)| suspicion.blamed(now));
                    }
                    Some(Err(error(fault, place, taken.batch.output)))
                }
            };
            if let Some(ended) = ended {
                inner.queue.cancel(id);
                done.extend(inner.jobs.remove(&id).map(|job| (job, ended)));
            }
        }
        self.publish_model(&inner, taken.batch.model);
        drop(inner);
        for (job, ended) in done {
            if ended.is_ok() {
                self.metrics.ran(&job.model.key, job.answers.len(), job.tokens);
            }
            // A client that is gone by now misses nothing.
            drop(job.reply.send(ended.map(|()| job.answers)));
        }
        if is_suspect && let Some((board, _)) = self.served_under.get() {
            board.suspect(&taken.model.key);
        }
        // What could not be taken beside this batch can be taken now.
        self.changed.notify_one();
    }

    /// A model is gone. Its number is free for another one.
    pub(super) fn forget_model(&self, key: &ModelKey) {
        let mut inner = self.lock();
        let number = inner.number(key);
        inner.queue.forget(number);
        inner.models[number] = None;
    }

    /// Nobody waits for this work any more; `count` counts why, unless it was answered.
    pub(super) fn forget(&self, id: WorkId, count: impl FnOnce(&Metrics, &ModelKey)) {
        let mut inner = self.lock();
        inner.queue.cancel(id);
        if let Some(job) = inner.jobs.remove(&id) {
            count(&self.metrics, &job.model.key);
            let number = inner.number(&job.model.key);
            self.publish_model(&inner, number);
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn publish_model(&self, inner: &Inner, number: usize) {
        if let Some(Some((key, _))) = inner.models.get(number) {
            self.metrics.work().waiting(key, inner.queue.tokens(number));
        }
        self.publish(inner);
    }

    fn publish(&self, inner: &Inner) {
        for (class, to) in [(Class::Interactive, &self.wait), (Class::Bulk, &self.wait_of_all)] {
            let wait = inner.queue.wait(class).as_nanos();
            to.store(u64::try_from(wait).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.admitted.store(inner.queue.admitted(), Ordering::Relaxed);
    }

    /// No engine runs while it is held, so that nothing panics and nobody waits long.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine said when it panicked.
fn panicked(outcome: &Result<Vec<f32>, Fault>) -> Option<&str> {
    match outcome {
        Err(Fault::Panicked(words)) => Some(words),
        _ => None,
    }
}

impl Inner {
    fn number(&mut self, key: &ModelKey) -> usize {
        let is_known = |known: &Option<(ModelKey, Suspicion)>| {
            known.as_ref().is_some_and(|(known, _)| known == key)
        };
        self.models.iter().position(is_known).unwrap_or_else(|| {
            let new = Some((key.clone(), Suspicion::default()));
            if let Some(free) = self.models.iter().position(Option::is_none) {
                self.models[free] = new;
                return free;
            }
            self.models.push(new);
            self.models.len() - 1
        })
    }
}
