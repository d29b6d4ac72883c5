//! `cargo xtask bench`: how fast the worker is, beside what this machine can do and what others take.

#![expect(clippy::cast_precision_loss, reason = "bytes and counts become rates")]

mod asking;
mod client;
mod cores;
mod engine;
mod load;
mod machine;
mod overload;
mod peer;
mod process;
mod python;
mod reload;
mod rerank;
mod serve;
mod table;
mod target;
mod worker;
mod workloads;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::exec::Exec;
use crate::workspace::Workspace;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// From files to ready: one model that is in the page cache, and eight from a store.
    ///
    /// The store is a local S3 server whose answers come 20 ms late and whose connections carry
    /// 100 MB/s each. The same eight are loaded one after the other by one thread, in turns with
    /// the others, and the same files by Python. Takes about five minutes; curl has to be installed.
    Load(LoadArgs),
    /// How fast a model computes on the processor, in turns with sentence-transformers and onnxruntime.
    ///
    /// The same token ids for all, by lot but the same in every run: W1 are 512 texts of mixed lengths,
    /// W2 256 texts of 128 tokens, W3 single queries of 12 to 16 tokens; then W1 and W3 as texts. The
    /// peak is what this processor can multiply and add meanwhile. Takes about ten minutes.
    Engine(EngineArgs),
    /// How fast a cross-encoder scores passages on the processor, in turns with sentence-transformers and
    /// onnxruntime.
    ///
    /// Five queries, each with 50 passages at once; a pair has 130 tokens. The same token ids for all, then
    /// the same texts. The model has the size of MiniLM-L6 and weights by lot, the same in every run;
    /// Python makes it the first time, in .local/bench-rerank/. Takes about ten minutes. The last line has
    /// our pairs a second, how many times the others' that is, and how far our scores are from torch's.
    Rerank(RerankArgs),
    /// What serving costs: the worker over HTTP beside its own engine in process, and beside infinity.
    ///
    /// What is measured runs on one core and is asked from another, so the machine must have two and be
    /// at rest. First the 512 texts of W1, one a request on 64 connections as fast as they are answered,
    /// in turns with the engine, which gets them all at once. Then requests that come by lot at 25, 50
    /// and 75 % of the worker's capacity, whether the ones before were answered or not: a request's time
    /// counts from when it was due. infinity gets the same requests at the same times; where it cannot
    /// be installed or started, the reason is printed. Takes about fifteen minutes.
    ///
    /// The last line has the worker's tokens for a second of the processor over the engine's, in brackets
    /// what has to be reached, and of the load of 50 % the 99th percentile and the processor's
    /// milliseconds for 1,000 tokens.
    Serve(ServeArgs),
    /// Three times the load that a worker can bear: what it still answers, and how fast it refuses the
    /// rest.
    ///
    /// The worker runs on one core and is asked from another, so the machine must have two and be at
    /// rest. Fails if less than 95 % of the capacity is answered, or if the 99th percentile of
    /// refusals, from parsed head to answer, is 5 ms or more.
    Overload(OverloadArgs),
    /// What answers take while a new version is loaded beside the one that gives them.
    ///
    /// The worker runs on one core, which is kept busy from another one, so the machine must have two and
    /// be at rest. Fails if a request is lost, or if the 99th percentile while a version loads is twice
    /// what it is without, or more.
    Reload(ReloadArgs),
}

/// Options of `cargo xtask bench reload`.
#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    /// How many versions come, one after the other.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    reloads: u32,
}

/// Options of `cargo xtask bench overload`.
#[derive(Args, Debug)]
pub(crate) struct OverloadArgs {
    /// How long each of the three loads lasts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
}

/// Options of `cargo xtask bench load`.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Prints one line of JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Leaves Python out, whose packages take 6 GB of disk.
    #[arg(long)]
    without_python: bool,
    /// Fails if a figure misses what has to be reached, and names it.
    #[arg(long)]
    check: bool,
}

/// Options of `cargo xtask bench engine`.
#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Prints one line of JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Measures the engine alone: Python's packages take 6 GB of disk.
    #[arg(long)]
    without_python: bool,
    /// Fails if a figure misses what has to be reached, and names it.
    #[arg(long, conflicts_with = "without_python")]
    check: bool,
}

/// Options of `cargo xtask bench rerank`.
#[derive(Args, Debug)]
pub(crate) struct RerankArgs {
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Prints one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Measures the engine alone: Python's packages take 6 GB of disk. The model must have been made
    /// before.
    #[arg(long)]
    without_python: bool,
    /// Fails if a figure misses what has to be reached, and names it.
    #[arg(long, conflicts_with = "without_python")]
    check: bool,
}

/// Options of `cargo xtask bench serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// How often each is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// How long requests come at each rate, in each run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Prints one line of JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Leaves infinity out, whose packages take 6 GB of disk.
    #[arg(long)]
    without_python: bool,
    /// Fails if a figure misses what has to be reached, and names it.
    #[arg(long)]
    check: bool,
}

/// Measures, and prints what came of it.
pub(crate) fn run(workspace: &Workspace, command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Load(args) => load::run(workspace, args),
        BenchCommand::Engine(args) => engine::run(workspace, args),
        BenchCommand::Rerank(args) => rerank::run(workspace, args),
        BenchCommand::Serve(args) => serve::run(workspace, args),
        BenchCommand::Overload(args) => overload::run(workspace, args),
        BenchCommand::Reload(args) => reload::run(workspace, args),
    }
}

/// Builds all that is measured. One command for all benches: the features of a dependency are those of
/// everything that is built with it, and whatever is built otherwise is built anew.
fn build(workspace: &Workspace) -> Result<()> {
    Exec::new("build what is measured", "cargo")
        .args(["build", "--workspace", "--bins", "--example", "engine-bench"])
        .dir(workspace.root())
        .deadline(Duration::from_mins(40))
        .run(&workspace.logs())?;
    Ok(())
}

/// The middle one; of an even number the mean of the two in the middle. 0 of none.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*below, *above)
        }
        (_, Some(middle)) => *middle,
        (_, None) => 0.0,
    }
}

/// The value below which this share lies; 0 of none.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let at = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0]), 3.0);
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), 3.0);
    }
    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.50), 51.0);
        assert_eq!(percentile(&values, 0.99), 100.0);
        assert_eq!(percentile(&values, 1.00), 101.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&[], 0.99), 0.0);
    }
}
