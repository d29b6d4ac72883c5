//! Threads that split texts into tokens, beside those that compute.
//!
//! There are as many of them as compute, so that a large request is tokenised on all cores while
//! nothing else is to be done; when something is, the system shares the cores among all threads. They
//! take a piece of each request in turn: a large one does not stand in front of the others.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lamplighter_engine::{Engine, EngineError, Text, Tokens, TooLong};
use tokio::sync::oneshot;

use super::{NoThread, OwnedText, RunError, lost, panic_words, spawn};
use crate::batching::pieces;

/// One text of megabytes does not stop all others.
const LEAST_THREADS: usize = 2;

/// What is made of texts: one thing of each.
type Ask<T> = Box<dyn Fn(&dyn Engine, &[Text<'_>]) -> Result<Vec<T>, EngineError> + Send + Sync>;
type Reply<T> = oneshot::Sender<Result<Vec<T>, RunError>>;
/// Of a piece of a request; none where it is of no use.
type Made<T> = Option<Result<Vec<T>, RunError>>;

/// Ends its threads when dropped.
#[derive(Debug)]
pub(super) struct Tokenizing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    requests: VecDeque<Waiting>,
    closing: bool,
}

#[derive(Debug)]
struct Waiting {
    request: Arc<dyn Job>,
    /// Each with its place among all of the request.
    pieces: VecDeque<(usize, Range<usize>)>,
}

/// A request, whatever is made of its texts.
trait Job: Send + Sync + std::fmt::Debug {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;

    /// Does a piece of it.
    fn work(&self, place: usize, range: Range<usize>);
}

struct Request<T> {
    engine: Arc<dyn Engine>,
    texts: Vec<OwnedText>,
    ask: Ask<T>,
    /// What comes after a piece that failed is of no use.
    failed: AtomicBool,
    collected: Mutex<Collected<T>>,
}

impl<T> std::fmt::Debug for Request<T> {
    /// Texts are the clients' own.
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Request").field("texts", &self.texts.len()).finish_non_exhaustive()
    }
}

struct Collected<T> {
    pieces: Vec<Made<T>>,
    left: usize,
    reply: Option<Reply<T>>,
}

impl Tokenizing {
    /// For a worker that computes on so many threads.
    pub(super) fn start(threads: usize) -> Result<Self, NoThread> {
        // Dropped on an error, so that the threads that were started end.
        let this = Self(Arc::new(Shared::default()));
        for number in 0..threads.max(LEAST_THREADS) {
            let shared = Arc::clone(&this.0);
            spawn(format!("tokenize-{number}"), move || shared.work())?;
        }
        Ok(this)
    }

    /// Splits texts; what is not begun when the future is dropped is not done.
    pub(super) async fn split(
        &self,
        engine: Arc<dyn Engine>,
        texts: Vec<OwnedText>,
        too_long: TooLong,
    ) -> Result<Vec<Tokens>, RunError> {
        let split = move |engine: &dyn Engine, texts: &[Text<'_>]| engine.split(texts, too_long);
        self.each(engine, texts, Box::new(split)).await
    }

    /// What `ask` makes of texts, which is one thing of each; what is not begun when the future is
    /// dropped is not done.
    pub(super) async fn each<T: Send + 'static>(
        &self,
        engine: Arc<dyn Engine>,
        texts: Vec<OwnedText>,
        ask: Ask<T>,
    ) -> Result<Vec<T>, RunError> {
        let ranges = pieces(texts.iter().map(OwnedText::bytes));
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let collected = Collected {
            pieces: ranges.iter().map(|_| None).collect(),
            left: ranges.len(),
            reply: Some(reply),
        };
        let request = Arc::new(Request {
            engine,
            texts,
            ask,
            failed: AtomicBool::new(false),
            collected: Mutex::new(collected),
        });
        let pieces = ranges.into_iter().enumerate().collect();
        self.0.lock().requests.push_back(Waiting { request, pieces });
        self.0.changed.notify_all();
        answer.await.map_err(|gone| lost(&gone))?
    }
}

impl Drop for Tokenizing {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.closing = true;
        inner.requests.clear();
        drop(inner);
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some((request, place, range)) = self.take() {
            request.work(place, range);
        }
    }

    /// The next piece, of the request that was served longest ago. Waits for one as long as the
    /// worker lives.
    fn take(&self) -> Option<(Arc<dyn Job>, usize, Range<usize>)> {
        let mut inner = self.lock();
        loop {
            if inner.closing {
                return None;
            }
            while let Some(mut waiting) = inner.requests.pop_front() {
                if waiting.request.is_abandoned() {
                    continue;
                }
                let Some((place, range)) = waiting.pieces.pop_front() else { continue };
                let request = Arc::clone(&waiting.request);
                if !waiting.pieces.is_empty() {
                    inner.requests.push_back(waiting);
                }
                return Some((request, place, range));
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send> Job for Request<T> {
    fn is_abandoned(&self) -> bool {
        self.lock().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn work(&self, place: usize, range: Range<usize>) {
        let made = if self.failed.load(Ordering::Relaxed) { None } else { Some(self.ask(range)) };
        if matches!(made, Some(Err(_))) {
            self.failed.store(true, Ordering::Relaxed);
        }
        let mut collected = self.lock();
        if let Some(piece) = collected.pieces.get_mut(place) {
            *piece = made;
        }
        collected.left -= 1;
        if collected.left == 0 {
            let pieces = std::mem::take(&mut collected.pieces);
            if let Some(reply) = collected.reply.take() {
                // A client that is gone by now misses nothing.
                drop(reply.send(together(pieces)));
            }
        }
    }
}

impl<T> Request<T> {
    fn lock(&self) -> MutexGuard<'_, Collected<T>> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, range: Range<usize>) -> Result<Vec<T>, RunError> {
        let texts = self.texts.get(range.clone()).unwrap_or_default();
        let texts: Vec<Text<'_>> = texts.iter().map(OwnedText::as_text).collect();
        let ask = || (self.ask)(self.engine.as_ref(), &texts);
        match catch_unwind(AssertUnwindSafe(ask)) {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => Err(RunError::Engine(after(error, range.start))),
            Err(panic) => Err(RunError::Lost(panic_words(panic.as_ref()))),
        }
    }
}

/// All of it, or the first error: pieces are begun in order, so one stands before all that were
/// left out.
fn together<T>(pieces: Vec<Made<T>>) -> Result<Vec<T>, RunError> {
    let mut all = Vec::new();
    for piece in pieces.into_iter().flatten() {
        all.extend(piece?);
    }
    Ok(all)
}

/// The error of a text that comes after so many others.
pub(super) fn after(mut error: EngineError, texts: usize) -> EngineError {
    if let EngineError::TooLong { index, .. } | EngineError::Untokenizable { index, .. } =
        &mut error
    {
        *index += texts;
    }
    error
}
