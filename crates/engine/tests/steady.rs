//! What a run takes of the machine's memory once the engine is warm: the answer, and nothing else.
//!
//! In a program of its own with one test, because allocations and faults are counted for the whole
//! process.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[expect(dead_code, reason = "the other tests change the model in more ways")]
mod support;

use std::alloc::System;
use std::num::NonZeroUsize;

use lamplighter_engine::{Cores, Device, Engine, Processor, Tokens, transfer_to};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{HIDDEN, MAX_TOKENS, Tiny, VOCABULARY};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RUNS: usize = 1_000;
/// A page that is missing now and then is the machine's doing.
const MOST_FAULTS: u64 = 50;

/// Texts of all lengths, in batches of all sizes.
fn batches(engine: &dyn Engine) -> Vec<Vec<Tokens>> {
    let vocabulary = u32::try_from(VOCABULARY).unwrap();
    let text = |seed: usize| {
        let length = 1 + seed * 7 % MAX_TOKENS;
        let ids = (0..length).map(|at| u32::try_from(seed + at).unwrap() % vocabulary);
        Tokens::of(ids.collect())
    };
    let limits = engine.limits();
    (0..RUNS)
        .map(|run| {
            let mut batch: Vec<Tokens> = (0..=run % 9).map(|at| text(run + at)).collect();
            while !limits.hold(&batch.iter().map(|text| text.ids.len()).collect::<Vec<_>>()) {
                batch.pop();
            }
            batch
        })
        .collect()
}

/// Pages that were not in memory when they were used, of the whole process
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name may hold spaces; what follows its bracket begins with field 3.
    stat.rsplit(')').next().unwrap().split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
fn a_warm_engine_takes_no_memory_but_that_of_the_answer() {
    // On one core and on two.
    for cores in [Cores::one(), Cores::new(NonZeroUsize::new(2).unwrap()).unwrap()] {
        let processor = Processor { kernel: None, cores };
        let built = Tiny::new().build().unwrap();
        takes_no_memory(transfer_to(built, Device::Cpu, processor).unwrap().as_ref());
    }
}

fn takes_no_memory(engine: &dyn Engine) {
    let batches = batches(engine);
    // A helping thread that finds its core taken sits a run out, and is warm later.
    for batch in std::iter::repeat_n(&batches, 8).flatten() {
        engine.embed(batch).unwrap();
    }
    let before = faults();
    for batch in &batches {
        let region = Region::new(ALLOCATOR);
        let answer = engine.embed(batch).unwrap();
        let taken = region.change();
        // One vector for each text, and what they stand in.
        assert_eq!(taken.allocations, answer.len() + 1, "{} texts", batch.len());
        assert_eq!(taken.reallocations, 0, "{} texts", batch.len());
        let each = HIDDEN * size_of::<f32>() + size_of::<Vec<f32>>();
        assert_eq!(taken.bytes_allocated, answer.len() * each, "{} texts", batch.len());
        assert_eq!(taken.deallocations, 0, "{} texts", batch.len());
    }
    let faults = faults() - before;
    assert!(faults < MOST_FAULTS, "{faults} pages were missing in {RUNS} runs");
}
