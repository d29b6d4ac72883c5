//! Tokens that a client sent: they are not those of the model's own tokenizer until they were looked at.

use std::sync::Arc;

use lamplighter_engine::{EngineError, Piece, Tokens, TooLong};

use super::App;
use super::error::ApiError;
use crate::registry::Model;
use crate::run::{OwnedText, RunError};

/// Special tokens that stand before every text, and those behind it.
#[derive(Debug, Default)]
struct Around {
    before: Vec<u32>,
    behind: Vec<u32>,
}

/// Lists of tokens as the model reads them: those that are too long are cut, or refused.
pub(super) async fn fitting(
    app: &App,
    model: &Arc<Model>,
    lists: Vec<Vec<u32>>,
    too_long: TooLong,
    field: &'static str,
) -> Result<Vec<Tokens>, ApiError> {
    check_known(&lists, model, field)?;
    let limit = model.engine.facts().max_tokens;
    let Some(index) = lists.iter().position(|ids| ids.len() > limit) else {
        return Ok(lists.into_iter().map(Tokens::of).collect());
    };
    if too_long == TooLong::Refuse {
        let tokens = lists.get(index).map_or(0, Vec::len);
        let error = RunError::from(EngineError::TooLong { index, tokens, limit });
        return Err(ApiError::of_run(&error, field));
    }
    let around = around(app, model).await.map_err(|error| ApiError::of_run(&error, field))?;
    let cut = lists.into_iter().map(|ids| Tokens {
        truncated: ids.len() > limit,
        second: None,
        ids: around.cut(ids, limit, too_long),
    });
    Ok(cut.collect())
}

/// Refuses tokens that the model does not have.
pub(super) fn check_known(
    lists: &[Vec<u32>],
    model: &Model,
    field: &'static str,
) -> Result<(), ApiError> {
    let known = model.engine.facts().vocabulary;
    let unknown = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= known);
    for (index, ids) in lists.iter().enumerate() {
        if let Some(id) = ids.iter().copied().find(unknown) {
            let message = format!(
                "{field}[{index}] has the token {id}, the model has {known}: tokens must come from \
                 this model's own tokenizer (/tokenize); with LangChain set \
                 check_embedding_ctx_length=False"
            );
            return Err(ApiError::invalid(field, "invalid_input", message));
        }
    }
    Ok(())
}

/// What the model's tokenizer puts around a text.
async fn around(app: &App, model: &Arc<Model>) -> Result<Around, RunError> {
    let text = vec![OwnedText::One("a".into())];
    match app.runner.pieces(model, text, true).await {
        Ok(texts) => Ok(Around::of(&texts.concat())),
        // It may know no such letter, and then puts nothing around it either.
        Err(RunError::Engine(EngineError::Untokenizable { .. })) => Ok(Around::default()),
        Err(failed) => Err(failed),
    }
}

impl Around {
    fn of(pieces: &[Piece]) -> Self {
        let is_special = |piece: &&Piece| piece.place.is_none();
        let before: Vec<u32> = pieces.iter().take_while(is_special).map(|piece| piece.id).collect();
        let rest = pieces.get(before.len()..).unwrap_or_default();
        let behind = rest.iter().rev().take_while(is_special).count();
        let behind = rest.iter().skip(rest.len() - behind).map(|piece| piece.id).collect();
        Self { before, behind }
    }

    /// As many of the tokens as `most`. What stands around a text stays, where it is there; the text
    /// loses one of its ends, as it does when it is split here.
    fn cut(&self, ids: Vec<u32>, most: usize, too_long: TooLong) -> Vec<u32> {
        if ids.len() <= most {
            return ids;
        }
        let (before, rest) = match ids.strip_prefix(self.before.as_slice()) {
            Some(rest) => (self.before.as_slice(), rest),
            None => (&[][..], ids.as_slice()),
        };
        let (text, behind) = match rest.strip_suffix(self.behind.as_slice()) {
            Some(text) => (text, self.behind.as_slice()),
            None => (rest, &[][..]),
        };
        let room = most.saturating_sub(before.len() + behind.len()).min(text.len());
        let kept = match too_long {
            TooLong::CutStart => &text[text.len() - room..],
            TooLong::CutEnd | TooLong::Refuse => &text[..room],
        };
        let mut cut = [before, kept, behind].concat();
        cut.truncate(most);
        cut
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: u32 = 101;
    const CLOSE: u32 = 102;

    fn piece(id: u32, place: Option<std::ops::Range<usize>>) -> Piece {
        Piece { id, text: String::new(), place }
    }

    fn brackets() -> Around {
        Around::of(&[piece(OPEN, None), piece(1, Some(0..1)), piece(CLOSE, None)])
    }

    #[test]
    fn a_list_loses_tokens_of_its_text_and_keeps_what_stands_around_it() {
        let cut = |ids: &[u32], too_long| brackets().cut(ids.to_vec(), 4, too_long);
        for (ids, of_end, of_start) in [
            (&[OPEN, 1, 2, CLOSE][..], [OPEN, 1, 2, CLOSE], [OPEN, 1, 2, CLOSE]),
            (&[OPEN, 1, 2, 3, CLOSE], [OPEN, 1, 2, CLOSE], [OPEN, 2, 3, CLOSE]),
            // Without them it is cut as it is.
            (&[1, 2, 3, 4, 5], [1, 2, 3, 4], [2, 3, 4, 5]),
            (&[OPEN, 1, 2, 3, 4], [OPEN, 1, 2, 3], [OPEN, 2, 3, 4]),
            (&[1, 2, 3, 4, CLOSE], [1, 2, 3, CLOSE], [2, 3, 4, CLOSE]),
        ] {
            assert_eq!(cut(ids, TooLong::CutEnd), of_end, "{ids:?}");
            assert_eq!(cut(ids, TooLong::CutStart), of_start, "{ids:?}");
        }
        let nothing = Around::of(&[piece(1, Some(0..1))]);
        assert_eq!(nothing.cut(vec![1, 2, 3], 2, TooLong::CutStart), [2, 3]);
        assert_eq!(Around::of(&[]).cut(vec![1, 2, 3], 2, TooLong::CutEnd), [1, 2]);
    }

    proptest! {
        #[test]
        fn no_list_is_longer_than_the_model_reads(
            ids in prop::collection::vec(100..104_u32, 0..12),
            most in 0..8_usize,
            from_start in any::<bool>(),
        ) {
            let too_long = if from_start { TooLong::CutStart } else { TooLong::CutEnd };
            let length = ids.len().min(most);
            prop_assert_eq!(brackets().cut(ids, most, too_long).len(), length);
        }
    }
}
