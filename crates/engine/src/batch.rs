//! Batches: whether they fit, and how many texts become several.

use crate::error::EngineError;
use crate::{Engine, Limits, Output, Shape, Text, Tokens, TooLong};

/// A batch of this many tokens keeps a core as busy as a larger one does, and what waits behind it
/// waits a few hundred milliseconds at most.
const MAX_BATCH_TOKENS: usize = 256;
const MAX_BATCH_TEXTS: usize = 32;
/// Enough rows for the thousands of cores of a GPU. More would mostly take memory: the scores of
/// attention grow with the number of texts times the square of the longest.
const MAX_PADDED_TOKENS: usize = 8_192;
const MAX_PADDED_TEXTS: usize = 256;

/// How much is computed at once by a model whose longest text has `max_tokens`: packed on a core of
/// the processor, padded on a GPU.
pub(crate) fn limits(max_tokens: usize, shape: Shape) -> Limits {
    let (tokens, max_batch_texts) = match shape {
        Shape::Packed => (MAX_BATCH_TOKENS, MAX_BATCH_TEXTS),
        Shape::Padded => (MAX_PADDED_TOKENS, MAX_PADDED_TEXTS),
    };
    Limits { max_batch_tokens: tokens.max(max_tokens), max_batch_texts, shape }
}

impl Limits {
    /// Tokens that texts of these lengths count as.
    pub fn tokens(self, lengths: impl IntoIterator<Item = usize>) -> usize {
        let (mut count, mut sum, mut longest) = (0_usize, 0_usize, 0);
        for length in lengths {
            count += 1;
            sum = sum.saturating_add(length);
            longest = longest.max(length);
        }
        match self.shape {
            Shape::Packed => sum,
            Shape::Padded => count.saturating_mul(longest),
        }
    }

    /// Whether texts of these lengths may be computed at once.
    pub fn hold(self, lengths: &[usize]) -> bool {
        self.hold_each(lengths.iter().copied())
    }

    fn hold_each(self, lengths: impl ExactSizeIterator<Item = usize>) -> bool {
        lengths.len() <= self.max_batch_texts && self.tokens(lengths) <= self.max_batch_tokens
    }

    /// The tokens of the longest text; none for an empty batch.
    pub(crate) fn check(self, batch: &[Tokens]) -> Result<Option<usize>, EngineError> {
        let lengths = batch.iter().map(|text| text.ids.len());
        if let Some(index) = lengths.clone().position(|length| length == 0) {
            let problem = "it has no token".to_owned();
            return Err(EngineError::Untokenizable { index, problem });
        }
        if self.hold_each(lengths.clone()) {
            return Ok(lengths.max());
        }
        let tokens = self.tokens(lengths);
        Err(EngineError::BatchTooLarge { texts: batch.len(), tokens, limits: self })
    }
}

/// One vector for each text, in order, in as many batches as the engine's limits ask for.
///
/// For the callers that are in no hurry: validation cases, golden files. A server forms its own
/// batches across requests. An index in an error counts the texts given here.
pub fn embed_texts(engine: &dyn Engine, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
    let texts: Vec<Text<'_>> = texts.iter().map(|text| Text::One(text)).collect();
    run_texts(engine, &texts, Output::Vector)
}

/// As [`embed_texts`], whatever the model gives: vectors, or a head's numbers.
pub fn answer_texts(engine: &dyn Engine, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, EngineError> {
    run_texts(engine, texts, engine.facts().gives.output())
}

fn run_texts(
    engine: &dyn Engine,
    texts: &[Text<'_>],
    output: Output,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let limits = engine.limits();
    let mut rest: &[Tokens] = &engine.split(texts, TooLong::Refuse)?;
    let mut outputs = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let mut lengths = Vec::new();
        let fitting = rest.iter().take_while(|text| {
            lengths.push(text.ids.len());
            limits.hold(&lengths)
        });
        // A text that is above the limits alone is left for the engine to refuse.
        let (batch, after) = rest.split_at(fitting.count().max(1));
        let before = outputs.len();
        outputs.extend(engine.run(batch, output).map_err(|error| error.after(before))?);
        rest = after;
    }
    Ok(outputs)
}

pub(crate) fn check_finite(vectors: &[Vec<f32>]) -> Result<(), EngineError> {
    for (index, vector) in vectors.iter().enumerate() {
        if let Some(found) = vector.iter().copied().find(|value| !value.is_finite()) {
            return Err(EngineError::OutputNonFinite { index, found });
        }
    }
    Ok(())
}
