//! The largest token id of a `tokenizer.json`, without the tokenizer: one of a large vocabulary takes
//! many times its file's size in memory.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::EngineError;

const FILE: &str = "tokenizer.json";

/// The parts with ids
/// (<https://github.com/huggingface/tokenizers/blob/v0.23.1/tokenizers/src/tokenizer/serialization.rs>).
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
}

#[derive(Deserialize)]
struct Model {
    vocab: Highest,
}

/// The largest id of a vocabulary: a map from tokens to ids, or a list of tokens with scores, whose
/// ids are their places. None if it is empty.
struct Highest(Option<u32>);

impl<'de> Deserialize<'de> for Highest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HighestVisitor;

        impl<'de> Visitor<'de> for HighestVisitor {
            type Value = Highest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids or a list of tokens")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Highest, A::Error> {
                let mut highest = None;
                while let Some((_, id)) = map.next_entry::<IgnoredAny, u32>()? {
                    highest = highest.max(Some(id));
                }
                Ok(Highest(highest))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Highest, A::Error> {
                let mut tokens: u32 = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    tokens = tokens.saturating_add(1);
                }
                Ok(Highest(tokens.checked_sub(1)))
            }
        }

        deserializer.deserialize_any(HighestVisitor)
    }
}

/// The largest id that a tokenizer may give.
pub(crate) fn highest_id(json: &[u8]) -> Result<u32, EngineError> {
    let invalid =
        |problem: String| EngineError::TokenizerInvalid { file: FILE.to_owned(), problem };
    let parts: Parts = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    let added = parts.added_tokens.iter().map(|token| token.id).max();
    added.max(parts.model.vocab.0).ok_or_else(|| invalid("it has no tokens".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_id_of_vocabulary_and_added_tokens_counts() {
        for (json, expected) in [
            (r#"{"model": {"vocab": {"a": 0, "b": 7}}, "added_tokens": [{"id": 3, "x": 1}]}"#, 7),
            (r#"{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 3}], "other": []}"#, 3),
            (r#"{"model": {"type": "Unigram", "vocab": [["a", 0.5], ["b", -1]]}}"#, 1),
            (r#"{"model": {"vocab": {}}, "added_tokens": [{"id": 0}]}"#, 0),
        ] {
            assert_eq!(highest_id(json.as_bytes()).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn what_has_no_tokens_is_refused() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"model": {}}"#,
            r#"{"model": {"vocab": {}}}"#,
            r#"{"model": {"vocab": []}}"#,
            r#"{"model": {"vocab": {"a": -1}}}"#,
            r#"{"model": {"vocab": {"a": 4294967296}}}"#,
            r#"{"model": {"vocab": "a"}}"#,
        ] {
            let error = highest_id(json.as_bytes()).unwrap_err();
            assert!(matches!(error, EngineError::TokenizerInvalid { .. }), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = highest_id(&bytes);
        }
    }
}
