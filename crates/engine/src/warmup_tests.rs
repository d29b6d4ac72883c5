use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{Dtype, Facts, Gives, Output, Piece, Pooling, Precision, Runtime, Shape};

/// An engine that takes as long as it is told, on a clock that only it moves.
struct Fake {
    facts: Facts,
    clock: AtomicU64,
    /// Milliseconds that the run of this number and shape takes.
    takes: fn(u64, (usize, usize)) -> u64,
    value: f32,
    coldness: Coldness,
    batches: Mutex<Vec<Vec<Tokens>>>,
}

impl Fake {
    fn new(takes: fn(u64, (usize, usize)) -> u64) -> Self {
        Self {
            facts: Facts {
                architecture: "Fake".to_owned(),
                vocabulary: 100,
                max_tokens: 100,
                width: 1,
                parameters: 0,
                gives: Gives::Vectors {
                    dimensions: 1,
                    pooling: Pooling::Mean,
                    normalized: false,
                    matryoshka: Vec::new(),
                },
                dtype: Dtype::F32,
            },
            clock: AtomicU64::new(0),
            takes,
            value: 1.0,
            coldness: Coldness::EachShape,
            batches: Mutex::new(Vec::new()),
        }
    }

    fn warm_up(&self, budget_millis: u64) -> Result<Warmup, EngineError> {
        let begun = Instant::now();
        let now = || begun + Duration::from_millis(self.clock.load(Ordering::Relaxed));
        warm_up(self, Duration::from_millis(budget_millis), &now)
    }

    fn shapes_run(&self) -> Vec<(usize, usize)> {
        let batches = self.batches.lock().unwrap();
        batches.iter().map(|batch| (batch[0].ids.len(), batch.len())).collect()
    }
}

impl Engine for Fake {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn limits(&self) -> Limits {
        Limits { max_batch_tokens: 256, max_batch_texts: 8, shape: Shape::Padded }
    }

    fn runtime(&self) -> Runtime {
        Runtime { kernel: "fake".to_owned(), precision: Precision::F32 }
    }

    fn coldness(&self) -> Coldness {
        self.coldness
    }

    fn pieces(&self, _: &str, _: bool) -> Result<Vec<Piece>, EngineError> {
        unreachable!("nobody asks it")
    }

    fn join(&self, _: &[u32], _: bool) -> Result<String, EngineError> {
        unreachable!("nobody asks it")
    }

    fn split(&self, texts: &[Text<'_>], _: TooLong) -> Result<Vec<Tokens>, EngineError> {
        let tokens = |text: &Text<'_>| {
            let (Text::One(text) | Text::Pair(text, _)) = text;
            let letters = text.chars().map(u32::from);
            let ids = [1].into_iter().chain(letters).chain([2]);
            Tokens::of(ids.collect())
        };
        Ok(texts.iter().map(tokens).collect())
    }

    fn run(&self, batch: &[Tokens], _: Output) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut batches = self.batches.lock().unwrap();
        let number = batches.len() as u64;
        let took = (self.takes)(number, (batch[0].ids.len(), batch.len()));
        self.clock.fetch_add(took, Ordering::Relaxed);
        batches.push(batch.to_vec());
        Ok(vec![vec![self.value]; batch.len()])
    }
}

#[test]
fn beside_others_every_shape_runs_and_what_does_not_settle_is_left_soon() {
    let fake = Fake::new(|number, _| 1 + number % 2 * 9);
    let budget = Duration::from_hours(1);
    let begun = Instant::now();
    let now = || begun + Duration::from_millis(fake.clock.load(Ordering::Relaxed));
    let warmup = warm_up_beside_others(&fake, budget, &now).unwrap();
    assert!(!warmup.settled);
    assert_eq!(warmup.runs, 10 + 49, "all shapes, and the smallest fifty times in all");
    let steady = Fake::new(|_, _| 1);
    let now = || begun + Duration::from_millis(steady.clock.load(Ordering::Relaxed));
    let settled = warm_up_beside_others(&steady, budget, &now).unwrap();
    assert_eq!((settled.settled, settled.runs), (true, 14));
}

/// Guarantees: gates-05.
#[test]
fn every_length_runs_in_every_batch_size_up_to_the_limits() {
    let fake = Fake::new(|_, _| 1);
    fake.warm_up(1_000).unwrap();
    let expected = [
        (16, 1),
        (16, 4),
        (16, 8),
        (32, 1),
        (32, 4),
        (32, 8),
        (64, 1),
        (64, 4),
        (100, 1),
        (100, 2),
    ];
    assert_eq!(fake.shapes_run()[..expected.len()], expected);
    assert!(fake.shapes_run()[expected.len()..].iter().all(|shape| *shape == (16, 1)));
}

#[test]
fn where_only_memory_is_cold_the_shapes_that_take_most_of_it_run() {
    let fake = Fake { coldness: Coldness::Memory, ..Fake::new(|_, _| 1) };
    fake.warm_up(1_000).unwrap();
    assert_eq!(fake.shapes_run()[..3], [(16, 1), (64, 4), (100, 2)]);
    assert!(fake.shapes_run()[3..].iter().all(|shape| *shape == (16, 1)));
}

/// Guarantees: gates-05.
#[test]
fn texts_have_their_special_tokens_and_differ() {
    let fake = Fake::new(|_, _| 1);
    fake.warm_up(1_000).unwrap();
    let batches = fake.batches.lock().unwrap();
    let texts: Vec<&Tokens> = batches.iter().flatten().collect();
    for text in &texts {
        assert_eq!((text.ids.first(), text.ids.last()), (Some(&1), Some(&2)));
        assert!(text.ids[1..text.ids.len() - 1].iter().all(|id| *id > 2), "{text:?}");
    }
    let distinct: BTreeSet<&Vec<u32>> = texts.iter().map(|text| &text.ids).collect();
    assert_eq!(distinct.len(), texts.len(), "a text ran twice");
    let ids: BTreeSet<u32> = distinct.iter().flat_map(|ids| ids.iter().copied()).collect();
    assert!(ids.len() > 50, "only {} different tokens", ids.len());
}

/// Guarantees: gates-05.
#[test]
fn it_ends_when_five_runs_agree() {
    // The first ten runs are the shapes; then times fall and settle at 10.
    let fake = Fake::new(|number, _| match number {
        0 => 500,
        1..10 => 20,
        10 => 100,
        11 => 13,
        12 => 12,
        _ => 10,
    });
    let warmup = fake.warm_up(10_000).unwrap();
    let millis = Duration::from_millis;
    let expected = Warmup { runs: 17, first: millis(500), steady: millis(10), settled: true };
    assert_eq!(warmup, expected);
}

/// Guarantees: gates-05.
#[test]
fn times_that_do_not_settle_are_reported_when_the_time_is_over() {
    let fake = Fake::new(|number, _| if number % 2 == 0 { 10 } else { 30 });
    let warmup = fake.warm_up(1_000).unwrap();
    assert!(!warmup.settled);
    assert!(warmup.runs >= 40, "{warmup:?}");
}

/// Guarantees: gates-05.
#[test]
fn a_time_that_is_over_before_every_shape_ran_is_an_error() {
    let fake = Fake::new(|_, _| 100);
    let error = fake.warm_up(350).unwrap_err();
    assert!(matches!(error, EngineError::WarmupTimeout { ran: 4, shapes: 10, .. }), "{error:?}");
    assert_eq!(fake.shapes_run().len(), 4);
}

/// Guarantees: gates-06.
#[test]
fn an_output_that_is_not_finite_is_an_error() {
    let fake = Fake { value: f32::NAN, ..Fake::new(|_, _| 1) };
    let error = fake.warm_up(1_000).unwrap_err();
    assert!(matches!(error, EngineError::OutputNonFinite { .. }), "{error:?}");
}

#[test]
fn the_clock_is_the_only_source_of_time() {
    let asked = Cell::new(0);
    let fixed = Instant::now();
    let now = || {
        asked.set(asked.get() + 1);
        fixed
    };
    let warmup = warm_up(&Fake::new(|_, _| 1), Duration::from_secs(1), &now).unwrap();
    assert_eq!((warmup.first, warmup.steady), (Duration::ZERO, Duration::ZERO));
    assert!(asked.get() > 20);
}
