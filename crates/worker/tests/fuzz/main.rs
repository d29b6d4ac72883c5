//! Files and messages with damage drawn by lot: whoever reads them says what is wrong, in little
//! time, and never panics. What is accepted before the weights are read is accepted after.
//!
//! A second for each reader with every test run. `cargo xtask fuzz` takes as long as it is told, and
//! plays one damage again by its seed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[expect(dead_code, reason = "the worker's own tests use more of it")]
#[path = "../worker/support/artifact.rs"]
mod artifact;
mod mutate;
mod readers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mutate::{Random, mutate};
use readers::Reader;

/// The longest that a reader may take for a file of a few kilobytes, on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_damage_makes_a_reader_panic() {
    let seconds = Duration::from_secs(setting("LAMPLIGHTER_FUZZ_SECONDS", 1));
    let first = setting("LAMPLIGHTER_FUZZ_SEED", 1);
    let only = std::env::var("LAMPLIGHTER_FUZZ_READER").ok();
    let readers = readers::all();
    let mut failures = Vec::new();
    let mut total = 0;
    let mut lines = vec![["READER", "DAMAGES", "ACCEPTED", "REASONS"].map(str::to_owned)];
    for reader in &readers {
        if only.as_ref().is_some_and(|name| name != reader.name()) {
            continue;
        }
        let (begun, mut seed) = (Instant::now(), first);
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        while begun.elapsed() < seconds && failures.len() < 10 {
            match play(reader.as_ref(), seed) {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(problem) => failures.push(format!("{} seed {seed}: {problem}", reader.name())),
            }
            seed += 1;
        }
        let accepted = outcomes.remove(readers::ACCEPTED).unwrap_or_default();
        total += seed - first;
        lines.push([
            reader.name().to_owned(),
            (seed - first).to_string(),
            accepted.to_string(),
            outcomes.into_keys().collect::<Vec<_>>().join(" "),
        ]);
    }
    let mut text = String::new();
    for [reader, damages, accepted, reasons] in lines {
        writeln!(text, "{reader:<28} {damages:>8} {accepted:>8}  {reasons}").unwrap();
    }
    writeln!(text, "fuzz: {total} damages, {} failures", failures.len()).unwrap();
    // Tests' own capture would hold it back until the end.
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(total > 0, "no reader was asked");
}

fn play(reader: &dyn Reader, seed: u64) -> Result<String, String> {
    let mut random = Random(seed);
    let (seeds, begun) = (reader.seeds(), Instant::now());
    let (one, other) = (random.one_of(seeds).clone(), random.one_of(seeds).clone());
    let bytes = mutate(&mut random, &one, &other);
    let outcome = catch_unwind(AssertUnwindSafe(|| reader.read(&bytes)));
    let outcome = outcome.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned()))
            .unwrap_or_else(|| "it panicked".to_owned())
    })?;
    if begun.elapsed() > LONGEST {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    outcome
}
