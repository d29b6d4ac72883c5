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

    /// Longest first, each into the first batch that has room.
    fn batches(&self, texts: &[Tokens]) -> Vec<Vec<usize>> {
        let limits = self.engine.limits();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&at| Reverse(texts[at].ids.len()));
        let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
        for at in order {
            let tokens = texts[at].ids.len();
            let room = |(used, batch): &&mut (usize, Vec<usize>)| {
                *used + tokens <= limits.max_batch_tokens && batch.len() < limits.max_batch_texts
            };
            match batches.iter_mut().find(room) {
                Some((used, batch)) => {
                    *used += tokens;
                    batch.push(at);
                }
                None => batches.push((tokens, vec![at])),
            }
        }
        batches.into_iter().map(|(_, batch)| batch).collect()
    }
}
