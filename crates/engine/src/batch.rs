//! Batches: whether they fit, and how many texts become several.

use crate::error::EngineError;
use crate::{Engine, Limits, Tokens};

/// A batch of this many tokens keeps a core as busy as a larger one does, and what waits behind it
/// waits a few hundred milliseconds at most.
const MAX_BATCH_TOKENS: usize = 256;
const MAX_BATCH_TEXTS: usize = 32;

/// How much is computed at once by a model whose longest text has `max_tokens`.
pub(crate) fn limits(max_tokens: usize) -> Limits {
    Limits { max_batch_tokens: MAX_BATCH_TOKENS.max(max_tokens), max_batch_texts: MAX_BATCH_TEXTS }
}

impl Limits {
    /// The tokens of the longest text; none for an empty batch.
    pub(crate) fn check(self, batch: &[Tokens]) -> Result<Option<usize>, EngineError> {
        let Some(length) = batch.iter().map(|text| text.ids.len()).max() else {
            return Ok(None);
        };
        if let Some(index) = batch.iter().position(|text| text.ids.is_empty()) {
            let problem = "it has no token".to_owned();
            return Err(EngineError::Untokenizable { index, problem });
        }
        if self.hold(batch.len(), length) {
            Ok(Some(length))
        } else {
            Err(EngineError::BatchTooLarge {
                texts: batch.len(),
                tokens: batch.len().saturating_mul(length),
                limits: self,
            })
        }
    }

    /// Whether that many texts of at most that many tokens fit.
    pub(crate) fn hold(self, texts: usize, length: usize) -> bool {
        texts <= self.max_batch_texts && texts.saturating_mul(length) <= self.max_batch_tokens
    }
}

/// One vector for each text, in order, in as many batches as the engine's limits ask for.
///
/// For the callers that are in no hurry: validation cases, golden files. A server forms its own
/// batches across requests. An index in an error counts the texts given here.
pub fn embed_texts(engine: &dyn Engine, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
    let limits = engine.limits();
    let mut rest: &[Tokens] = &engine.tokenize(texts)?;
    let mut vectors = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let mut longest = 0;
        let fitting = rest.iter().enumerate().take_while(|(before, text)| {
            longest = longest.max(text.ids.len());
            limits.hold(before + 1, longest)
        });
        // A text that is above the limits alone is left for the engine to refuse.
        let (batch, after) = rest.split_at(fitting.count().max(1));
        let before = vectors.len();
        vectors.extend(engine.embed(batch).map_err(|error| error.after(before))?);
        rest = after;
    }
    Ok(vectors)
}

pub(crate) fn check_finite(vectors: &[Vec<f32>]) -> Result<(), EngineError> {
    for (index, vector) in vectors.iter().enumerate() {
        if let Some(found) = vector.iter().copied().find(|value| !value.is_finite()) {
            return Err(EngineError::OutputNonFinite { index, found });
        }
    }
    Ok(())
}
