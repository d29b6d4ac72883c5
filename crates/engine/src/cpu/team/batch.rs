//! What members of a team are given to read.

use crate::Tokens;

/// Texts in memory that is used again.
#[derive(Default)]
pub(super) struct Batch {
    texts: Vec<Tokens>,
    /// How many of them there are; the others are memory.
    count: usize,
}

impl Batch {
    /// Of these texts.
    pub(super) fn copy(&mut self, texts: &[Tokens]) {
        self.count = texts.len();
        if self.texts.len() < self.count {
            self.texts.resize_with(self.count, Tokens::default);
        }
        for (to, from) in self.texts.iter_mut().zip(texts) {
            to.ids.clear();
            to.ids.extend_from_slice(&from.ids);
            (to.second, to.truncated) = (from.second, from.truncated);
        }
    }

    /// What was copied last.
    pub(super) fn texts(&self) -> &[Tokens] {
        &self.texts[..self.count]
    }
}
