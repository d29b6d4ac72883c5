//! From texts to token ids.

use std::fmt::Display;
use std::path::Path;

use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{Encoding, PostProcessor as _};

use crate::Tokens;
use crate::error::EngineError;
use crate::vocabulary::highest_id;

const FILE: &str = "tokenizer.json";

/// An artifact's tokenizer. Its own truncation and padding are off: here, texts that are too
/// long are refused or shortened on request, and batches are padded to their longest text.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    lowercase: bool,
    max_tokens: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` for a model with an embedding table of `rows` rows.
    pub(crate) fn read(
        dir: &Path,
        rows: usize,
        lowercase: bool,
        max_tokens: usize,
    ) -> Result<Self, EngineError> {
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
        Ok(Self { inner, lowercase, max_tokens })
    }

    /// Tokens with the special ones around them; longer texts are refused.
    pub(crate) fn encode(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError> {
        let encode = |(index, text): (usize, &&str)| {
            let ids = self.ids(index, text, true)?.get_ids().to_vec();
            match ids.len() {
                0 => Err(untokenizable(index, "it gives no token")),
                tokens if tokens > self.max_tokens => {
                    Err(EngineError::TooLong { index, tokens, limit: self.max_tokens })
                }
                _ => Ok(Tokens { ids, truncated: false }),
            }
        };
        texts.iter().enumerate().map(encode).collect()
    }

    /// As [`Tokenizer::encode`], but longer texts lose their end. The special tokens stay.
    pub(crate) fn encode_truncated(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError> {
        let special = self.inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        let room = self.max_tokens.saturating_sub(special);
        let encode = |(index, text): (usize, &&str)| {
            let mut encoding = self.ids(index, text, false)?;
            let truncated = encoding.len() > room;
            encoding.truncate(room, 0, TruncationDirection::Right);
            let encoding = self
                .inner
                .post_process(encoding, None, true)
                .map_err(|error| untokenizable(index, error))?;
            match encoding.get_ids() {
                [] => Err(untokenizable(index, "it gives no token")),
                ids => Ok(Tokens { ids: ids.to_vec(), truncated }),
            }
        };
        texts.iter().enumerate().map(encode).collect()
    }

    fn ids(&self, index: usize, text: &str, special: bool) -> Result<Encoding, EngineError> {
        let encoded = if self.lowercase {
            self.inner.encode_fast(text.to_lowercase(), special)
        } else {
            self.inner.encode_fast(text, special)
        };
        encoded.map_err(|error| untokenizable(index, error))
    }
}

fn untokenizable(index: usize, problem: impl Display) -> EngineError {
    EngineError::Untokenizable { index, problem: problem.to_string() }
}
