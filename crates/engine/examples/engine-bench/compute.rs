//! Texts on all threads.

use std::cmp::Reverse;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use lamplighter_engine::{Engine, Output, Text, Tokens, TooLong};

/// An engine, and how many threads ask it.
#[derive(Clone, Copy)]
pub(crate) struct Compute<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) threads: usize,
}

impl Compute<'_> {
    /// The tokens of texts, of which each thread has its share.
    pub(crate) fn split(&self, texts: &[Text<'_>]) -> Result<Vec<Tokens>> {
        let share = texts.len().div_ceil(self.threads).max(1);
        std::thread::scope(|scope| {
            let part = |texts| scope.spawn(move || self.engine.split(texts, TooLong::Refuse));
            let parts: Vec<_> = texts.chunks(share).map(part).collect();
            let mut all = Vec::new();
            for part in parts {
                all.extend(part.join().map_err(|_| anyhow!("a thread panicked"))??);
            }
            Ok(all)
        })
    }

    /// The outputs of all texts, in their order: batches that are as full as the engine takes them, a
    /// thread for each core.
    pub(crate) fn run(&self, texts: &[Tokens], output: Output) -> Result<Vec<Vec<f32>>> {
        let batches = self.batches(texts);
        let next = AtomicUsize::new(0);
        let outputs = Mutex::new(vec![Vec::new(); texts.len()]);
        let work = || -> Result<()> {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let tokens: Vec<Tokens> = batch.iter().map(|&at| texts[at].clone()).collect();
                let found = self.engine.run(&tokens, output)?;
                let mut outputs = outputs.lock().map_err(|_| anyhow!("a thread panicked"))?;
                for (&at, output) in batch.iter().zip(found) {
                    outputs[at] = output;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        outputs.into_inner().map_err(|_| anyhow!("a thread panicked"))
    }

    /// About as few batches as the engine's limits allow, but a multiple of the threads, so that none of
    /// these is left with nothing to do. The worker shares texts among idle threads, too.
    fn batches(&self, texts: &[Tokens]) -> Vec<Vec<usize>> {
        let limits = self.engine.limits();
        let has_room = |used: usize, count: usize, tokens: usize| {
            used + tokens <= limits.max_batch_tokens && count < limits.max_batch_texts
        };
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&at| Reverse(texts[at].ids.len()));
        // Each text into the first batch that has room: how many that makes.
        let mut first_fit: Vec<(usize, usize)> = Vec::new();
        for tokens in order.iter().map(|&at| texts[at].ids.len()) {
            match first_fit.iter_mut().find(|(used, count)| has_room(*used, *count, tokens)) {
                Some((used, count)) => (*used, *count) = (*used + tokens, *count + 1),
                None => first_fit.push((tokens, 1)),
            }
        }
        let mut count = first_fit.len().next_multiple_of(self.threads);
        // Each into the one that has the least; more of them where one has nowhere to go.
        'more: loop {
            let mut batches: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); count];
            for &at in &order {
                let tokens = texts[at].ids.len();
                let open =
                    batches.iter_mut().filter(|(used, all)| has_room(*used, all.len(), tokens));
                let Some((used, batch)) = open.min_by_key(|(used, _)| *used) else {
                    if count >= texts.len() {
                        // The engine says what is wrong with a text that has no room in any batch.
                        return (0..texts.len()).map(|at| vec![at]).collect();
                    }
                    count += self.threads;
                    continue 'more;
                };
                *used += tokens;
                batch.push(at);
            }
            batches.retain(|(_, batch)| !batch.is_empty());
            return batches.into_iter().map(|(_, batch)| batch).collect();
        }
    }
}
