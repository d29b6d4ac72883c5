//! From texts to token ids.

use std::fmt::Display;
use std::path::Path;

use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{Encoding, PostProcessor as _};

use crate::config::EncoderConfig;
use crate::error::EngineError;
use crate::recipe::Recipe;
use crate::vocabulary::highest_id;
use crate::{Piece, Text, Tokens, TooLong};

const FILE: &str = "tokenizer.json";

/// Of a text that is cut, as many bytes are looked at for each token that is kept. Words of more bytes
/// are rare; a text of blanks alone may lose more than it had to.
const BYTES_PER_TOKEN: usize = 256;

/// An artifact's tokenizer. Its own truncation and padding are off: here, texts that are too
/// long are refused or shortened on request, and batches are padded to their longest text.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    lowercase: bool,
    max_tokens: usize,
    /// Whether the model is told which of a pair's tokens are the second text's.
    tells_apart: bool,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, whose ids must be rows of the model's embedding table.
    pub(crate) fn read(
        dir: &Path,
        encoder: &EncoderConfig,
        recipe: &Recipe,
    ) -> Result<Self, EngineError> {
        let rows = encoder.vocabulary;
        let invalid =
            |problem: String| EngineError::TokenizerInvalid { file: FILE.to_owned(), problem };
        let path = dir.join(FILE);
        let json = std::fs::read(&path).map_err(|source| EngineError::Read { path, source })?;
        // The library goes over ids of added tokens that are others than the vocabulary's.
        let stated = highest_id(&json)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(json).map_err(|error| invalid(error.to_string()))?;
        inner.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        inner.with_padding(None);
        let highest = inner.get_vocab(true).into_values().max();
        let highest = highest.map_or(stated, |highest| highest.max(stated));
        if usize::try_from(highest).map_or(true, |highest| highest >= rows) {
            return Err(EngineError::TokenizerVocabMismatch { highest, rows });
        }
        Ok(Self {
            inner,
            lowercase: recipe.lowercase,
            max_tokens: recipe.max_tokens,
            tells_apart: encoder.token_types.is_some_and(|types| types > 1),
        })
    }

    /// Tokens with the special ones around them.
    pub(crate) fn encode(
        &self,
        texts: &[Text<'_>],
        too_long: TooLong,
    ) -> Result<Vec<Tokens>, EngineError> {
        let encode = |(index, text): (usize, &Text<'_>)| {
            let encoded = self.encode_one(*text, too_long).map_err(|error| match error {
                Problem::Library(error) => untokenizable(index, error),
                Problem::TooLong(tokens) => {
                    EngineError::TooLong { index, tokens, limit: self.max_tokens }
                }
            })?;
            if encoded.ids.is_empty() {
                return Err(untokenizable(index, "it gives no token"));
            }
            Ok(encoded)
        };
        texts.iter().enumerate().map(encode).collect()
    }

    fn encode_one(&self, text: Text<'_>, too_long: TooLong) -> Result<Tokens, Problem> {
        let mut clipped = false;
        let mut plain = |text| {
            let part = self.looked_at(text, too_long);
            clipped |= part.len() < text.len();
            self.plain(part)
        };
        let (mut first, mut second) = match text {
            Text::One(text) => (plain(text)?, None),
            Text::Pair(first, second) => (plain(first)?, Some(plain(second)?)),
        };
        let processor = self.inner.get_post_processor();
        let special = processor.map_or(0, |post| post.added_tokens(second.is_some()));
        let room = self.max_tokens.saturating_sub(special);
        let length = first.len() + second.as_ref().map_or(0, Encoding::len);
        let truncated = length > room;
        if truncated {
            let direction = match too_long {
                TooLong::Refuse => return Err(Problem::TooLong(length + special)),
                TooLong::CutEnd => TruncationDirection::Right,
                TooLong::CutStart => TruncationDirection::Left,
            };
            let (of_first, of_second) =
                shares(first.len(), second.as_ref().map_or(0, Encoding::len), room);
            cut(&mut first, of_first, direction);
            if let Some(second) = &mut second {
                cut(second, of_second, direction);
            }
        }
        let encoding = self.inner.post_process(first, second, true)?;
        let second = encoding.get_type_ids().iter().position(|kind| *kind == 1);
        let second = second.filter(|_| self.tells_apart);
        let truncated = truncated || clipped;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), second, truncated })
    }

    /// The tokens of a text of any length, each with where it stands.
    pub(crate) fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, EngineError> {
        let lower = if self.lowercase { Some(text.to_lowercase()) } else { None };
        let text = lower.as_deref().unwrap_or(text);
        let encoding = self.inner.encode(text, special).map_err(|error| untokenizable(0, error))?;
        let marks = encoding.get_special_tokens_mask().iter();
        let pieces = encoding.get_ids().iter().zip(encoding.get_tokens()).zip(marks);
        let pieces = pieces.zip(encoding.get_offsets()).map(|(((id, name), mark), offsets)| {
            let place = (*mark == 0).then_some(offsets.0..offsets.1);
            let part = place.clone().map(|place| text.as_bytes().get(place).unwrap_or_default());
            let text = part.map_or_else(
                || name.clone(),
                // A character may be several tokens.
                |part| String::from_utf8_lossy(part).into_owned(),
            );
            Piece { id: *id, text, place }
        });
        let pieces: Vec<Piece> = pieces.collect();
        if pieces.is_empty() { Err(untokenizable(0, "it gives no token")) } else { Ok(pieces) }
    }

    /// The text that tokens stand for.
    pub(crate) fn join(&self, ids: &[u32], special: bool) -> Result<String, EngineError> {
        self.inner.decode(ids, !special).map_err(|error| untokenizable(0, error))
    }

    /// What of a text can be in its tokens: the rest would only be split to be thrown away.
    fn looked_at<'a>(&self, text: &'a str, too_long: TooLong) -> &'a str {
        let most = self.max_tokens.saturating_mul(BYTES_PER_TOKEN);
        match too_long {
            TooLong::CutEnd => &text[..text.floor_char_boundary(most)],
            TooLong::CutStart => &text[text.ceil_char_boundary(text.len().saturating_sub(most))..],
            TooLong::Refuse => text,
        }
    }

    fn plain(&self, text: &str) -> Result<Encoding, Problem> {
        let encoded = if self.lowercase {
            self.inner.encode_fast(text.to_lowercase(), false)
        } else {
            self.inner.encode_fast(text, false)
        };
        Ok(encoded?)
    }
}

/// The library keeps what it cuts off, and would join each such part of one text with each of another
/// when the special tokens are added.
fn cut(encoding: &mut Encoding, length: usize, direction: TruncationDirection) {
    encoding.truncate(length, 0, direction);
    drop(encoding.take_overflowing());
}

enum Problem {
    Library(tokenizers::Error),
    /// With so many tokens.
    TooLong(usize),
}

impl From<tokenizers::Error> for Problem {
    fn from(error: tokenizers::Error) -> Self {
        Self::Library(error)
    }
}

/// How many tokens each of two texts keeps of `room`: the longer one loses first, as the library's
/// `LongestFirst` does it
/// (<https://github.com/huggingface/tokenizers/blob/v0.23.1/tokenizers/src/utils/truncation.rs>).
fn shares(first: usize, second: usize, room: usize) -> (usize, usize) {
    let shorter = first.min(second).min(room / 2);
    if first <= second {
        (shorter, second.min(room - shorter))
    } else {
        (first.min(room - shorter), shorter)
    }
}

fn untokenizable(index: usize, problem: impl Display) -> EngineError {
    EngineError::Untokenizable { index, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use tokenizers::Token;

    use super::*;

    #[test]
    fn of_what_is_cut_off_nothing_is_kept() {
        let token = |id: u32| Token::new(id, "lamp".to_owned(), (0, 4));
        for (direction, kept) in
            [(TruncationDirection::Right, [0, 1, 2]), (TruncationDirection::Left, [97, 98, 99])]
        {
            let mut encoding = Encoding::from_tokens((0..100).map(token).collect(), 0);
            cut(&mut encoding, 3, direction);
            assert_eq!(encoding.get_ids(), kept);
            assert!(encoding.get_overflowing().is_empty());
        }
    }
}
