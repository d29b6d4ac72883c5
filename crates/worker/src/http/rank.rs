//! Texts in the order in which they have to do with a query.

use std::sync::Arc;

use lamplighter_engine::TooLong;

use super::ask::Question;
use super::error::ApiError;
use super::scores;
use crate::run::OwnedText;

/// The most bytes that a query may have, counted once for each text beside which it is read.
const MAX_QUERY_BYTES: usize = 16 << 20;

/// A text's place in the request, and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranked {
    pub(super) index: usize,
    pub(super) score: f32,
}

/// The query with each text; and the texts, to be repeated in the answer if they are to be.
pub(super) fn question(
    query: &str,
    texts: Vec<String>,
    too_long: TooLong,
    repeat: bool,
) -> Result<(Question, Vec<String>), ApiError> {
    if query.is_empty() {
        return Err(ApiError::empty("query", "is an empty text"));
    }
    let bytes = query.len().saturating_mul(texts.len());
    if bytes > MAX_QUERY_BYTES {
        let message = format!(
            "query has {} bytes, and with {} texts that is more than {MAX_QUERY_BYTES}: shorten it \
             or send fewer texts at once",
            query.len(),
            texts.len()
        );
        return Err(ApiError::invalid("query", "invalid_input", message));
    }
    let kept = if repeat { texts.clone() } else { Vec::new() };
    let query: Arc<str> = query.into();
    let pairs = texts.into_iter().map(|text| OwnedText::Pair(Arc::clone(&query), text.into()));
    Ok((Question::Texts(pairs.collect(), too_long), kept))
}

/// The texts of these outputs, the best first.
pub(super) fn ranked(outputs: &[Vec<f32>], raw: bool) -> Vec<Ranked> {
    let relevance = |numbers: &Vec<f32>| scores::relevance(numbers, raw);
    // The order of the head's numbers: far from 0, scores differ by less than what f32 holds.
    let order =
        scores::order(&outputs.iter().map(|n| scores::relevance(n, true)).collect::<Vec<_>>());
    order.into_iter().map(|index| Ranked { index, score: relevance(&outputs[index]) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_would_fill_the_memory_is_refused() {
        let texts = |count| vec![String::new(); count];
        let query = "a".repeat(MAX_QUERY_BYTES / 16);
        assert!(question(&query, texts(16), TooLong::CutEnd, false).is_ok());
        let error = question(&query, texts(17), TooLong::CutEnd, false).err().unwrap();
        assert_eq!(error.param, Some("query"));
    }

    #[test]
    fn scores_that_look_alike_keep_the_order_of_the_heads_numbers() {
        let ranked = ranked(&[vec![40.0], vec![50.0], vec![-3.0]], false);
        let order: Vec<usize> = ranked.iter().map(|ranked| ranked.index).collect();
        assert_eq!(order, [1, 0, 2]);
        assert!((ranked[0].score - ranked[1].score).abs() < f32::EPSILON);
    }
}
