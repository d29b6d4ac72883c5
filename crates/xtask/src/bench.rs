//! `cargo xtask bench`: how fast the worker is, beside what this machine can do and what others take.

#![expect(clippy::cast_precision_loss, reason = "bytes and counts become rates")]

mod engine;
mod load;
mod machine;
mod overload;
mod process;
mod python;
mod table;

use anyhow::Result;
use clap::{Args, Subcommand};

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
    /// Three times the load that a worker can bear: what it still answers, and how fast it refuses the
    /// rest.
    ///
    /// The worker runs on one core and is asked from another, so the machine must have two and be at
    /// rest. Fails if less than 95 % of the capacity is answered, or if the 99th percentile of
    /// refusals, from parsed head to answer, is 5 ms or more.
    Overload(OverloadArgs),
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
}

/// Measures, and prints what came of it.
pub(crate) fn run(workspace: &Workspace, command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Load(args) => load::run(workspace, args),
        BenchCommand::Engine(args) => engine::run(workspace, args),
        BenchCommand::Overload(args) => overload::run(workspace, args),
    }
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
}
