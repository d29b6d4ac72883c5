//! Which rows of its tables a network looks up for a batch whose texts are padded to the longest.

use crate::Tokens;
use crate::config::{EncoderConfig, Positions, as_index};

/// How many rows there are, and which of them a token has.
pub(crate) struct Tables {
    vocabulary: usize,
    /// The token id that fills up batches.
    padding: u32,
    positions: Positions,
    types: usize,
}

/// Rows for each token, in shapes of `[texts, longest]`.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Inputs {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) types: Vec<u32>,
    /// Of each text, how many tokens are its own.
    pub(crate) lengths: Vec<usize>,
    pub(crate) longest: usize,
}

/// Why a batch cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("a token id is outside the vocabulary, or a text has more tokens than there are positions")]
pub(crate) struct OutOfTable;

impl Tables {
    /// A family without token types has the same for all tokens.
    pub(crate) fn of(config: &EncoderConfig) -> Self {
        Self {
            vocabulary: config.vocabulary,
            padding: config.padding,
            positions: config.positions,
            types: config.token_types.unwrap_or(1),
        }
    }

    /// What is looked up for a batch. It is checked here, because a device that looks up a row that
    /// is not there may answer with anything, or never again.
    pub(crate) fn inputs(&self, batch: &[Tokens]) -> Result<Inputs, OutOfTable> {
        let lengths: Vec<usize> = batch.iter().map(|text| text.ids.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let numbers = || Vec::with_capacity(lengths.len() * longest);
        let (mut ids, mut positions, mut types) = (numbers(), numbers(), numbers());
        for text in batch {
            self.text(text, &mut ids, &mut positions, &mut types)?;
            let end = ids.len() + longest - text.ids.len();
            ids.resize(end, self.padding);
            positions.resize(end, 0);
            types.resize(end, 0);
        }
        Ok(Inputs { ids, positions, types, lengths, longest })
    }

    fn text(
        &self,
        text: &Tokens,
        ids: &mut Vec<u32>,
        positions: &mut Vec<u32>,
        types: &mut Vec<u32>,
    ) -> Result<(), OutOfTable> {
        if text.ids.len() > self.positions.longest() {
            return Err(OutOfTable);
        }
        let second = text.second.unwrap_or(text.ids.len());
        let mut next = self.positions.after.map_or(0, |id| as_index(id) + 1);
        for (at, &id) in text.ids.iter().enumerate() {
            let position = match self.positions.after {
                Some(padding) if id == padding => as_index(padding),
                _ => next,
            };
            next += usize::from(position == next);
            ids.push(row(as_index(id), self.vocabulary)?);
            positions.push(row(position, self.positions.rows)?);
            types.push(row(usize::from(at >= second), self.types)?);
        }
        Ok(())
    }
}

fn row(at: usize, rows: usize) -> Result<u32, OutOfTable> {
    if at < rows { u32::try_from(at).map_err(|_| OutOfTable) } else { Err(OutOfTable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(after: Option<u32>, types: usize) -> Tables {
        Tables { vocabulary: 9, padding: 1, positions: Positions { rows: 5, after }, types }
    }

    #[test]
    fn texts_are_padded_to_the_longest() {
        let batch = [Tokens::of(vec![4]), Tokens::of(vec![5, 6, 7])];
        let inputs = tables(None, 1).inputs(&batch).unwrap();
        assert_eq!(inputs.ids, [4, 1, 1, 5, 6, 7]);
        assert_eq!(inputs.positions, [0, 0, 0, 0, 1, 2]);
        assert_eq!((inputs.lengths, inputs.longest), (vec![1, 3], 3));
    }

    #[test]
    fn positions_begin_after_the_padding_which_does_not_count() {
        let batch = [Tokens::of(vec![0, 1, 5])];
        let inputs = tables(Some(1), 1).inputs(&batch).unwrap();
        assert_eq!(inputs.positions, [2, 1, 3]);
    }

    #[test]
    fn the_second_text_of_a_pair_has_the_second_type() {
        let pair = Tokens { second: Some(2), ..Tokens::of(vec![2, 3, 4]) };
        assert_eq!(tables(None, 2).inputs(&[pair]).unwrap().types, [0, 0, 1]);
    }

    #[test]
    fn a_row_that_is_not_there_is_an_error() {
        let pair = Tokens { second: Some(1), ..Tokens::of(vec![2, 3]) };
        for (text, tables) in [
            (Tokens::of(vec![9]), tables(None, 1)),
            (Tokens::of(vec![0; 6]), tables(None, 1)),
            (Tokens::of(vec![0; 4]), tables(Some(1), 1)),
            (Tokens::of(vec![1; 4]), tables(Some(1), 1)),
            (pair, tables(None, 1)),
        ] {
            assert!(tables.inputs(std::slice::from_ref(&text)).is_err(), "{text:?}");
        }
    }
}
