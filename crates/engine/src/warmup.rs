//! The first runs of a model: they touch all memory that a request will touch, and go on until
//! times have settled.

use std::time::{Duration, Instant};

use crate::batch::check_finite;
use crate::error::EngineError;
use crate::tokenizer::Tokenizer;
use crate::{Coldness, Engine, Limits, Text, Tokens, TooLong};

/// The shortest length that is run; real texts are rarely shorter.
const SHORTEST: usize = 16;
/// From one batch size to the next.
const GROWTH: usize = 4;
/// So many runs in a row must agree.
const AGREEING: usize = 5;
/// So many runs are tried at most on a machine that is known to be busy.
const TRIED_WHILE_BUSY: usize = 50;
/// Words of several scripts and lengths, so that the runs look up many rows of the embedding
/// table and no attention pattern repeats.
const WORDS: &str = "the of and lamp river harbour stone thunder quickly understanding 7 42 1999 \
    straße façade naïve größer мир город привет λόγος 東京 夜 한국 שלום سلام नमस्ते ; : ? ! ( ) - \
    one two three light lighter lighting lit unlit copper orchard meadow winter summer ribbon";

/// What a warm-up measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Warmup {
    /// How many runs in all.
    pub runs: u64,
    /// How long the very first run took.
    pub first: Duration,
    /// The median of the last five runs of the smallest shape.
    pub steady: Duration,
    /// Whether those lay within 20 % of their median before the time was over.
    pub settled: bool,
}

/// Runs every length × batch size up to the engine's limits, or of an engine whose memory alone is
/// cold those that take most of it, then the smallest shape until five
/// runs in a row lie within 20 % of their median or `budget` is over.
///
/// A model whose times do not settle is not broken, the machine is busy: that is reported, not
/// an error. An error is a budget that is over before every shape has run once
/// ([`EngineError::WarmupTimeout`]), and an output that is not finite. `now` is asked for the
/// time before and after each run; a run itself cannot be interrupted.
pub fn warm_up(
    engine: &dyn Engine,
    budget: Duration,
    now: &dyn Fn() -> Instant,
) -> Result<Warmup, EngineError> {
    warm_up_and_settle(engine, budget, usize::MAX, now)
}

/// As [`warm_up`], on a machine that does other work, too: whether times settle says little there,
/// and each run takes from that work, so that it gives up settling after fifty runs.
pub fn warm_up_beside_others(
    engine: &dyn Engine,
    budget: Duration,
    now: &dyn Fn() -> Instant,
) -> Result<Warmup, EngineError> {
    warm_up_and_settle(engine, budget, TRIED_WHILE_BUSY, now)
}

fn warm_up_and_settle(
    engine: &dyn Engine,
    budget: Duration,
    tries: usize,
    now: &dyn Fn() -> Instant,
) -> Result<Warmup, EngineError> {
    let begun = now();
    let material = material(&engine.split(&words(), TooLong::CutEnd)?);
    let output = engine.facts().gives.output();
    let shapes = shapes(engine.limits(), engine.facts().max_tokens, engine.coldness());
    let run = |(length, texts): (usize, usize), number: u64| {
        let batch = batch(&material, length, texts, number);
        let started = now();
        let vectors = engine.run(&batch, output)?;
        let took = now().duration_since(started);
        check_finite(&vectors).map(|()| took)
    };
    let is_over = || now().duration_since(begun) >= budget;
    let mut times = Vec::new();
    for (ran, shape) in shapes.iter().enumerate() {
        if is_over() {
            let shapes = shapes.len();
            return Err(EngineError::WarmupTimeout { ran, shapes, budget });
        }
        times.push(run(*shape, times.len() as u64)?);
    }
    let first = times.first().copied().unwrap_or_default();
    // The smallest shape ran first; the steady runs repeat it.
    let smallest = shapes.first().copied().unwrap_or((1, 1));
    let mut steady = vec![first];
    let settled = loop {
        if settled(&steady) {
            break true;
        }
        if is_over() || steady.len() >= tries {
            break false;
        }
        let number = (times.len() + steady.len()) as u64;
        steady.push(run(smallest, number)?);
    };
    Ok(Warmup {
        runs: (times.len() + steady.len() - 1) as u64,
        first,
        steady: median(last(&steady)),
        settled,
    })
}

/// Lengths double up to the longest text; batch sizes quadruple up to the largest that fits. Where
/// memory alone is cold, of these the smallest, the one with most tokens, and the one with the longest
/// texts: the others find nothing cold.
fn shapes(limits: Limits, max_tokens: usize, coldness: Coldness) -> Vec<(usize, usize)> {
    let mut lengths = vec![max_tokens.max(1)];
    let doubling = std::iter::successors(Some(SHORTEST), |length| length.checked_mul(2));
    lengths.extend(doubling.take_while(|length| *length < max_tokens));
    lengths.sort_unstable();
    let sizes = |length: usize| {
        let most = limits.max_batch_texts.min(limits.max_batch_tokens / length).max(1);
        let growing = std::iter::successors(Some(1), |size: &usize| size.checked_mul(GROWTH));
        growing.take_while(move |size| *size < most).chain([most])
    };
    let of_length = |length: usize| sizes(length).map(move |size| (length, size));
    let all: Vec<_> = lengths.into_iter().flat_map(of_length).collect();
    if coldness == Coldness::EachShape {
        return all;
    }
    let most = all.iter().max_by_key(|(length, texts)| length * texts);
    let mut chosen: Vec<_> =
        [all.first(), most, all.last()].into_iter().flatten().copied().collect();
    chosen.dedup();
    chosen
}

/// Texts of the warm-up's words, in batches of so many texts of so many tokens each.
pub(crate) fn samples(
    tokenizer: &Tokenizer,
    shapes: &[(usize, usize)],
) -> Result<Vec<Vec<Tokens>>, EngineError> {
    let material = material(&tokenizer.encode(&words(), TooLong::CutEnd)?);
    let numbered = shapes.iter().zip(0..);
    Ok(numbered.map(|(shape, number)| batch(&material, shape.0, shape.1, number)).collect())
}

/// A few pairs of texts of the warm-up's words: short ones and long ones, with the special tokens
/// between them that the model knows pairs by.
pub(crate) fn pairs(tokenizer: &Tokenizer) -> Result<Vec<Tokens>, EngineError> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let texts: Vec<[String; 2]> = [(3, 8), (8, 3), (6, 40)]
        .into_iter()
        .map(|(first, second)| [words[..first].join(" "), words[words.len() - second..].join(" ")])
        .collect();
    let pairs: Vec<Text<'_>> =
        texts.iter().map(|[first, second]| Text::Pair(first, second)).collect();
    tokenizer.encode(&pairs, TooLong::CutEnd)
}

/// The special tokens around a text and many different tokens to put between them.
struct Material {
    begin: Vec<u32>,
    end: Vec<u32>,
    between: Vec<u32>,
}

fn words() -> Vec<Text<'static>> {
    WORDS.split_whitespace().map(Text::One).collect()
}

fn material(tokens: &[Tokens]) -> Material {
    let texts: Vec<&[u32]> = tokens.iter().map(|text| text.ids.as_slice()).collect();
    let first = texts.first().copied().unwrap_or_default();
    let common = |same: &dyn Fn(&[u32], usize) -> bool| {
        (0..first.len()).take_while(|at| texts.iter().all(|text| same(text, *at))).count()
    };
    let begin = common(&|text, at| text.get(at) == first.get(at));
    let from_end = |text: &[u32], at: usize| text.iter().rev().nth(at).copied();
    let end = common(&|text, at| from_end(text, at) == from_end(first, at));
    let end = end.min(first.len() - begin);
    let inner = texts.iter().filter_map(|text| text.get(begin..text.len().checked_sub(end)?));
    let mut between: Vec<u32> = inner.flatten().copied().collect();
    if between.is_empty() {
        between = first.to_vec();
    }
    Material { begin: first[..begin].to_vec(), end: first[first.len() - end..].to_vec(), between }
}

/// `texts` texts of `length` tokens; each run and each text has others.
fn batch(material: &Material, length: usize, texts: usize, number: u64) -> Vec<Tokens> {
    let special = material.begin.len() + material.end.len();
    let inner = length.saturating_sub(special);
    let run = usize::try_from(number).unwrap_or_default();
    (0..texts)
        .map(|text| {
            // Primes, so that runs and texts begin at different places of the material.
            let start = run.wrapping_mul(31).wrapping_add(text.wrapping_mul(17));
            let between = material.between.iter().copied().cycle();
            let between = between.skip(start % material.between.len().max(1)).take(inner);
            let ids = material.begin.iter().copied();
            let ids = ids.chain(between).chain(material.end.iter().copied()).take(length);
            Tokens::of(ids.collect())
        })
        .collect()
}

fn last(times: &[Duration]) -> &[Duration] {
    &times[times.len().saturating_sub(AGREEING)..]
}

fn settled(times: &[Duration]) -> bool {
    let times = last(times);
    let median = median(times);
    let near = |time: &Duration| time.abs_diff(median) * 5 <= median;
    times.len() == AGREEING && times.iter().all(near)
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "warmup_tests.rs"]
mod tests;
