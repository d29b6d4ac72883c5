//! The engine, measured by whoever writes to its standard input: `cargo xtask bench engine`, `bench
//! rerank` and `bench serve` do, in turns with other programs.
//!
//!     engine-bench ARTIFACT WORKLOADS OUTPUTS [KERNEL]
//!
//! Writes the workloads to a file, so that others can be asked the same, and what comes out of the
//! first one to another, as 32-bit floats. Then it answers each line with one of JSON. Of a model that
//! gives vectors: `W1`, `W2`, `W3` with what the texts of that workload took as tokens, `W1t`, `W3t` as
//! texts. Of one that gives scores: `R` with what queries and their passages took as tokens, `Rt` as
//! texts. Of both: `peak` with what the processor can do.
//!
//! It computes with the fastest kernel, with the one that is named, or with the fastest one of a precision,
//! `f32` or `bf16`, and has as many threads as it may use cores: `taskset` says which.

#![expect(clippy::cast_precision_loss, reason = "counts become rates")]
#![expect(clippy::inline_always, reason = "what is not inlined has no vector instructions")]

mod compute;
mod embed;
mod peak;
mod rerank;
mod workload;

use std::io::{BufRead as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lamplighter_engine::{
    Cores, Device, Gives, Kernel, Precision, Processor, build, prepare, read, transfer_to,
};
use serde::Serialize;
use serde_json::{Value, json};

use compute::Compute;
use embed::Embed;
use rerank::Rerank;

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [artifact, workloads, outputs, kernel @ ..] = args.as_slice() else {
        bail!("usage: engine-bench ARTIFACT WORKLOADS OUTPUTS [KERNEL]");
    };
    let kernel = match kernel.first().map(|name| name.to_string_lossy()).as_deref() {
        None => None,
        Some("f32") => Some(Kernel::fastest_in(Precision::F32)),
        Some("bf16") => Some(Kernel::fastest_in(Precision::BF16)),
        Some(name) => Some(Kernel::named(name)?),
    };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let weights = read(artifact, &["model.safetensors"], threads, &|_| {})?;
    let processor = Processor { kernel, cores: Cores::new(threads)? };
    let engine = transfer_to(build(weights, prepare(artifact)?)?, Device::Cpu, processor)?;
    let compute = Compute { engine: engine.as_ref(), threads: threads.get() };
    match &engine.facts().gives {
        Gives::Vectors { .. } => {
            let made = workload::workloads(artifact)?;
            write_json(workloads, &made)?;
            let bench = Embed { compute, workloads: made };
            write_floats(outputs, &bench.vectors()?)?;
            serve(&compute, |asked| bench.answer(asked))
        }
        Gives::Scores { .. } => {
            let made = workload::queries(artifact)?;
            write_json(workloads, &made)?;
            let bench = Rerank { compute, queries: made };
            write_floats(outputs, &bench.scores()?)?;
            serve(&compute, |asked| bench.answer(asked))
        }
    }
}

/// Answers until the input ends.
fn serve(compute: &Compute<'_>, answer: impl Fn(&str) -> Result<Value>) -> Result<()> {
    say(&json!({"kernel": compute.engine.runtime().kernel}))?;
    for line in std::io::stdin().lock().lines() {
        say(&match line?.trim() {
            "peak" => json!({"flops": peak::peak(compute.threads)}),
            asked => answer(asked)?,
        })?;
    }
    Ok(())
}

fn say(answer: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    std::fs::write(path, serde_json::to_string(value)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn write_floats(path: &Path, outputs: &[Vec<f32>]) -> Result<()> {
    let bytes: Vec<u8> = outputs.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Time by the clock and of all processors, from a moment on.
struct Meter {
    begun: Instant,
    used: f64,
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self { begun: Instant::now(), used: processor_seconds()? })
    }

    /// Rates of so many tokens.
    fn rates(&self, tokens: usize) -> Result<Value> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let used = processor_seconds()? - self.used;
        let tokens = tokens as f64;
        Ok(json!({"tokensPerSecond": tokens / seconds, "tokensPerProcessorSecond": tokens / used}))
    }
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
