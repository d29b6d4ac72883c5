//! The engine, measured by whoever writes to its standard input: `cargo xtask bench engine` does, in
//! turns with other programs.
//!
//!     engine-bench ARTIFACT WORKLOADS VECTORS
//!
//! Writes the workloads to a file, so that others can be asked the same, and the vectors of `W1` to
//! another, as 32-bit floats. Then it answers each line with one of JSON: `W1`, `W2`, `W3` with what
//! the texts of that workload took as tokens, `W1t`, `W3t` as texts, `peak` with what the
//! processor can do.

#![expect(clippy::cast_precision_loss, reason = "counts become rates")]
#![expect(clippy::inline_always, reason = "what is not inlined has no vector instructions")]

mod peak;
mod workload;

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lamplighter_engine::{
    Cores, Device, Engine, Processor, Tokens, build, prepare, read, transfer_to,
};
use serde_json::{Value, json};

use workload::Workload;

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [artifact, workloads, vectors] = args.as_slice() else {
        bail!("usage: engine-bench ARTIFACT WORKLOADS VECTORS");
    };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let made = workload::workloads(artifact)?;
    std::fs::write(workloads, serde_json::to_string(&made)?)
        .with_context(|| format!("cannot write {}", workloads.display()))?;
    let weights = read(artifact, &["model.safetensors"], threads, &|_| {})?;
    let processor = Processor { kernel: None, cores: Cores::new(threads)? };
    let engine = transfer_to(build(weights, prepare(artifact)?)?, Device::Cpu, processor)?;
    let bench = Bench { engine: engine.as_ref(), threads: threads.get(), workloads: made };
    bench.write_vectors(vectors)?;
    say(&json!({"kernel": engine.runtime().kernel}))?;
    for line in std::io::stdin().lock().lines() {
        say(&bench.answer(line?.trim())?)?;
    }
    Ok(())
}

/// What this process had of all processors so far (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name may hold spaces; what follows its bracket begins with field 3.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    // `getconf CLK_TCK` is 100 on all Linux machines.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

fn say(answer: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

struct Bench<'a> {
    engine: &'a dyn Engine,
    threads: usize,
    workloads: BTreeMap<&'static str, Workload>,
}

impl Bench<'_> {
    fn answer(&self, asked: &str) -> Result<Value> {
        if asked == "peak" {
            return Ok(json!({"flops": peak::peak(self.threads)}));
        }
        let name = asked.trim_end_matches('t');
        let workload = self.workloads.get(name).context("an unknown workload")?;
        if name == "W3" {
            return self.latencies(workload, name != asked);
        }
        let (begun, used) = (Instant::now(), processor_seconds()?);
        let tokenized = self.tokenized(workload, name != asked)?;
        self.run(tokenized.as_deref().unwrap_or(&workload.ids))?;
        let seconds = begun.elapsed().as_secs_f64();
        let used = processor_seconds()? - used;
        let tokens = workload.tokens() as f64;
        Ok(json!({"tokensPerSecond": tokens / seconds, "tokensPerProcessorSecond": tokens / used}))
    }

    fn tokenized(&self, workload: &Workload, texts: bool) -> Result<Option<Vec<Vec<u32>>>> {
        if !texts {
            return Ok(None);
        }
        let share = workload.texts.len().div_ceil(self.threads);
        std::thread::scope(|scope| {
            let parts = workload.texts.chunks(share).map(|texts| {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                scope.spawn(move || self.engine.tokenize(&texts))
            });
            let mut all = Vec::new();
            for part in parts.collect::<Vec<_>>() {
                let tokens = part.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
                all.extend(tokens.into_iter().map(|tokens| tokens.ids));
            }
            Ok(Some(all))
        })
    }

    /// The vectors of all texts: batches that are as full as the engine takes them, a thread for
    /// each core.
    fn run(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let batches = self.batches(texts);
        let next = AtomicUsize::new(0);
        let vectors = Mutex::new(vec![Vec::new(); texts.len()]);
        let work = || -> Result<()> {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let tokens: Vec<Tokens> =
                    batch.iter().map(|&at| Tokens::of(texts[at].clone())).collect();
                let found = self.engine.embed(&tokens)?;
                let mut vectors =
                    vectors.lock().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
                for (&at, vector) in batch.iter().zip(found) {
                    vectors[at] = vector;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        vectors.into_inner().map_err(|_| anyhow::anyhow!("a thread panicked"))
    }

    /// Longest first, each into the first batch that has room.
    fn batches(&self, texts: &[Vec<u32>]) -> Vec<Vec<usize>> {
        let limits = self.engine.limits();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(texts[at].len()));
        let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
        for at in order {
            let tokens = texts[at].len();
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

    fn latencies(&self, workload: &Workload, texts: bool) -> Result<Value> {
        let mut millis = Vec::new();
        for (ids, text) in workload.ids.iter().zip(&workload.texts) {
            let tokens = [Tokens::of(ids.clone())];
            let begun = Instant::now();
            if texts {
                self.engine.embed(&self.engine.tokenize(&[text])?)?;
            } else {
                self.engine.embed(&tokens)?;
            }
            millis.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(json!({"millis": millis}))
    }

    fn write_vectors(&self, path: &Path) -> Result<()> {
        let workload = self.workloads.get("W1").context("an unknown workload")?;
        let vectors = self.run(&workload.ids)?;
        let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}
