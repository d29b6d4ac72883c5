//! What a run takes of the machine's memory once the engine is warm: the answer, and nothing else.
//!
//! In a program of its own with one test, because allocations and faults are counted for the whole
//! process. The other one, which is not run with it, prints what a large vocabulary takes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[expect(dead_code, reason = "the other tests change the model in more ways")]
mod support;

use std::alloc::System;
use std::num::NonZeroUsize;

use lamplighter_engine::{
    Cores, Device, Engine, Kernel, Precision, Processor, Tokens, prepare, transfer_to,
};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{MAX_TOKENS, Size, Tiny, VOCABULARY};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RUNS: usize = 1_000;
/// A page that is missing now and then is the machine's doing.
const MOST_FAULTS: u64 = 50;

/// As large as those of small models that people use, but for its layers.
const REAL: Size = Size { hidden: 384, heads: 12, inner: 1536, positions: 256, max_tokens: 256 };
/// Lengths of its texts, batch by batch.
const REAL_BATCHES: [&[usize]; 6] = [&[256], &[128, 100, 28], &[1], &[17; 15], &[255, 1], &[49; 5]];

fn text(length: usize, seed: usize) -> Tokens {
    let vocabulary = u32::try_from(VOCABULARY).unwrap();
    let ids = (0..length).map(|at| u32::try_from(seed + at).unwrap() % vocabulary);
    Tokens::of(ids.collect())
}

/// Texts of all lengths, in batches of all sizes.
fn batches(engine: &dyn Engine) -> Vec<Vec<Tokens>> {
    let limits = engine.limits();
    (0..RUNS)
        .map(|run| {
            let each = run..=run + run % 9;
            let mut batch: Vec<Tokens> =
                each.map(|seed| text(1 + seed * 7 % MAX_TOKENS, seed)).collect();
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
    let of = |precision| [("mean", precision), ("cls", precision)];
    for (pooling, precision) in [Precision::F32, Precision::BF16].into_iter().flat_map(of) {
        let processor = Processor::with(Kernel::fastest_in(precision));
        let mut model = Tiny::of(REAL);
        for one in ["mean_tokens", "cls_token"] {
            let mode = format!("pooling_mode_{one}");
            model.files.get_mut("1_Pooling/config.json").unwrap()[mode] =
                json!(one.starts_with(pooling));
        }
        let built = model.build().unwrap();
        let engine = transfer_to(built, Device::Cpu, processor).unwrap();
        assert_eq!(engine.runtime().precision, precision, "{:?}", engine.compared());
        let batch = |lengths: &&[usize]| lengths.iter().map(|length| text(*length, 3)).collect();
        let batches: Vec<_> = REAL_BATCHES.iter().cycle().take(12).map(batch).collect();
        takes_no_memory(engine.as_ref(), &batches, 1);
    }
    // On one core and on two.
    for (cores, passes) in
        [(Cores::one(), 1), (Cores::new(NonZeroUsize::new(2).unwrap()).unwrap(), 30)]
    {
        let processor = Processor { kernel: None, cores };
        let built = Tiny::new().build().unwrap();
        let engine = transfer_to(built, Device::Cpu, processor).unwrap();
        let batches = batches(engine.as_ref());
        // A helping thread that finds its core taken sits a run out, and is warm later.
        takes_no_memory(engine.as_ref(), &batches, passes);
    }
}

/// Once it has run each batch: at the latest after so many tries, of which each runs all of them before.
fn takes_no_memory(engine: &dyn Engine, batches: &[Vec<Tokens>], most: usize) {
    let mut found = Ok(());
    for _ in 0..most {
        for batch in batches {
            engine.embed(batch).unwrap();
        }
        found = takes_none(engine, batches);
        if found.is_ok() {
            return;
        }
    }
    found.unwrap();
}

fn takes_none(engine: &dyn Engine, batches: &[Vec<Tokens>]) -> Result<(), String> {
    let width = engine.facts().width;
    let before = faults();
    for batch in batches {
        let region = Region::new(ALLOCATOR);
        let answer = engine.embed(batch).unwrap();
        let taken = region.change();
        let each = width * size_of::<f32>() + size_of::<Vec<f32>>();
        // One vector for each text, and what they stand in.
        let is_answer = taken.allocations == answer.len() + 1
            && taken.bytes_allocated == answer.len() * each
            && (taken.reallocations, taken.deallocations) == (0, 0);
        if !is_answer {
            return Err(format!("{} texts: {taken:?}", batch.len()));
        }
    }
    let faults = faults() - before;
    let most = MOST_FAULTS.min(batches.len() as u64);
    if faults >= most {
        return Err(format!("{faults} pages were missing in {} runs", batches.len()));
    }
    Ok(())
}

/// As many pieces as the vocabulary of XLM-RoBERTa has, by its scheme: a letter more or less each.
fn unigrams(count: u32) -> Value {
    let piece = |number: u32| {
        let letters =
            std::iter::successors(Some(number), |rest| (*rest >= 26).then_some(rest / 26));
        let letters = letters.filter_map(|rest| char::from_u32(u32::from(b'a') + rest % 26));
        let begin = if number.is_multiple_of(2) { "▁" } else { "" };
        // The shortest are as long as the first syllables of words, the mean is that of XLM-RoBERTa.
        let word: String = letters.collect();
        json!([format!("{begin}{word}{}", &word[..word.len() / 2]), -8.0 - f64::from(number) / 4e4])
    };
    let special = ["<s>", "<pad>", "</s>", "<unk>"].map(|token| json!([token, 0.0]));
    let pieces = special.into_iter().chain((4..count).map(piece));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": "always", "split": true},
        "post_processor": null, "decoder": null,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces.collect::<Vec<_>>()},
    })
}

fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
#[test]
#[ignore = "prints a measurement: cargo test --workspace --test steady -- --ignored --nocapture"]
fn what_a_large_vocabulary_takes() {
    for count in [30_000, 250_002] {
        let dir = tempfile::tempdir().unwrap();
        Tiny::new()
            .with(|tiny| {
                tiny.config["vocab_size"] = json!(count);
                tiny.tokenizer = unigrams(count);
            })
            .write(dir.path());
        let stored = std::fs::metadata(dir.path().join("tokenizer.json")).unwrap().len();
        let (before, region) = (anonymous(), Region::new(ALLOCATOR));
        let prepared = prepare(dir.path()).unwrap();
        let change = region.change();
        let allocated = change.bytes_allocated - change.bytes_deallocated;
        let resident = anonymous().saturating_sub(before);
        println!(
            "{count} entries: tokenizer.json {:.1} MB, allocated {:.1} MB, resident {:.1} MB more",
            stored as f64 / 1e6,
            allocated as f64 / 1e6,
            resident as f64 / 1e6,
        );
        assert!(allocated as u64 > stored, "a tokenizer takes more than its file");
        drop(prepared);
    }
}
