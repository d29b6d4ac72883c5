//! Tensors: their names here, and their bytes in the binary extension
//! (<https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>).

use lamplighter_engine::Gives;

use crate::http::input::MAX_TEXTS;

/// The type of texts.
pub(super) const BYTES: &str = "BYTES";
/// The type of what comes out.
pub(super) const FP32: &str = "FP32";
/// A text, or the first of a pair.
pub(super) const TEXT: &str = "text";
/// The second text of a pair.
pub(super) const TEXT_PAIR: &str = "text_pair";

/// Name of what a model gives.
pub(super) fn output_of(gives: &Gives) -> &'static str {
    match gives {
        Gives::Vectors { .. } => "embedding",
        Gives::Scores { .. } => "scores",
    }
}

/// Elements of a BYTES tensor: each is its length in four bytes, little-endian, and that many bytes.
/// A sentence without its subject if they are not texts.
pub(super) fn texts(mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        if texts.len() == MAX_TEXTS {
            return Err(format!("has more than {MAX_TEXTS} texts"));
        }
        let cut = || format!("ends within text {}", texts.len());
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (text, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let text = std::str::from_utf8(text);
        texts.push(text.map_err(|_| format!("has no UTF-8 in text {}", texts.len()))?.to_owned());
        bytes = rest;
    }
    Ok(texts)
}

/// Elements of an FP32 tensor, little-endian.
pub(super) fn floats(rows: &[Vec<f32>]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_come_back_from_their_bytes(texts in prop::collection::vec(any::<String>(), 0..20)) {
            let mut bytes = Vec::new();
            for text in &texts {
                bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            prop_assert_eq!(super::texts(&bytes), Ok(texts));
        }

        #[test]
        fn any_bytes_are_texts_or_a_sentence_about_them(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(sentence) = texts(&bytes) {
                prop_assert!(sentence.starts_with("has ") || sentence.starts_with("ends "));
            }
        }
    }

    #[test]
    fn a_length_that_lies_is_told() {
        assert_eq!(texts(&[9, 0, 0, 0, b'a']), Err("ends within text 0".to_owned()));
        assert_eq!(texts(&[0, 0]), Err("ends within text 0".to_owned()));
        assert_eq!(texts(&[1, 0, 0, 0, 0xff]), Err("has no UTF-8 in text 0".to_owned()));
        assert_eq!(texts(&[0; 4].repeat(MAX_TEXTS)).map(|texts| texts.len()), Ok(MAX_TEXTS));
        assert!(texts(&[0; 4].repeat(MAX_TEXTS + 1)).is_err());
    }
}
