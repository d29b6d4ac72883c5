//! `POST /tokenize` and `POST /decode`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use lamplighter_engine::{Piece, TooLong};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::no_prompt;
use crate::http::ask::{self, Needs, Question};
use crate::http::error::ApiError;
use crate::http::fields::{Field, Name, optional};
use crate::http::input::{Input, Parsed};
use crate::http::naming::model_name;
use crate::http::opened::Opened;
use crate::http::{App, ids, reply};

/// What is kept of a token, and what is written, without its text.
const TOKEN: usize = 192;
/// Bytes of a text for each of its tokens, as long as nobody has counted them.
const BYTES_PER_TOKEN: usize = 4;
/// More bytes than most tokens stand for.
const JOINED: usize = 64;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "TokenizeRequest")]
pub(super) struct AskTokens {
    #[schemars(required)]
    inputs: Option<Parsed>,
    /// `name` or `name:version`; needed where several models are served.
    model: Option<Field<Name>>,
    /// Whether the tokens that stand around a text are given, too; `true` by default.
    add_special_tokens: Option<Field<bool>>,
    /// Not served: put the prompt before the text.
    prompt_name: Option<Field<Name>>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "DecodeRequest")]
pub(super) struct AskTexts {
    /// A list of tokens, or a list of those.
    #[schemars(required)]
    ids: Option<Parsed>,
    /// `name` or `name:version`; needed where several models are served.
    model: Option<Field<Name>>,
    /// Whether special tokens are left out; `true` by default.
    skip_special_tokens: Option<Field<bool>>,
}

/// One token of a text.
#[derive(JsonSchema, Serialize)]
struct Token {
    id: u32,
    /// The part of the text, or the name of a special token.
    text: String,
    special: bool,
    /// The first byte of the text that it stands for.
    start: Option<usize>,
    /// The first one after that.
    stop: Option<usize>,
}

/// The tokens of each text.
#[derive(JsonSchema, Serialize)]
pub(super) struct Tokens(Vec<Vec<Token>>);

/// The text of each list of tokens.
#[derive(JsonSchema, Serialize)]
pub(super) struct Texts(Vec<String>);

pub(super) async fn tokenize(
    State(app): State<Arc<App>>,
    opened: Opened<AskTokens>,
) -> Result<Response, ApiError> {
    let asker = opened.asker(&app);
    let ask = opened.ask;
    let name = model_name(ask.model, &opened.headers)?;
    let model = ask::meant(&app, name.as_deref(), Needs::Anything)?;
    no_prompt(ask.prompt_name)?;
    let special = optional(ask.add_special_tokens, "add_special_tokens")?.unwrap_or(true);
    let Input::Texts(texts) = Parsed::required(ask.inputs, "inputs")? else {
        return Err(ApiError::invalid("inputs", "invalid_input", "inputs must be texts"));
    };
    let bytes: usize = texts.iter().map(String::len).sum();
    let about = reply::around(texts.len(), bytes.div_ceil(BYTES_PER_TOKEN), TOKEN);
    let question = Question::singles(texts, TooLong::Refuse);
    let (pieces, mut share) = asker.pieces(&model, question, special, about).await?;
    reply::set(&app, &mut share, most_bytes(&pieces), "inputs")?;
    reply::json(share, asker.deadline, move || {
        let tokens = pieces.into_iter().map(|pieces| pieces.into_iter().map(token).collect());
        Ok(Tokens(tokens.collect()))
    })
    .await
}

/// The most bytes that the answer takes, with the pieces that it is made of.
fn most_bytes(texts: &[Vec<Piece>]) -> usize {
    let tokens = texts.iter().map(Vec::len).sum();
    let bytes = texts.iter().flatten().map(|piece| piece.text.len()).sum();
    reply::around(texts.len(), tokens, TOKEN).saturating_add(reply::repeated(bytes))
}

fn token(piece: Piece) -> Token {
    let Piece { id, text, place } = piece;
    let (start, stop) = place.map(|place| (place.start, place.end)).unzip();
    Token { id, text, special: start.is_none(), start, stop }
}

pub(super) async fn decode(
    State(app): State<Arc<App>>,
    opened: Opened<AskTexts>,
) -> Result<Response, ApiError> {
    let asker = opened.asker(&app);
    let ask = opened.ask;
    let name = model_name(ask.model, &opened.headers)?;
    let model = ask::meant(&app, name.as_deref(), Needs::Anything)?;
    let skipped = optional(ask.skip_special_tokens, "skip_special_tokens")?.unwrap_or(true);
    let Input::Tokens(lists) = Parsed::required(ask.ids, "ids")? else {
        return Err(ApiError::invalid("ids", "invalid_input", "ids must be tokens"));
    };
    ids::check_known(&lists, &model, "ids")?;
    let count: usize = lists.iter().map(Vec::len).sum();
    let share = reply::reserve(&app, reply::around(lists.len(), count, JOINED), "ids")?;
    reply::json(share, asker.deadline, move || {
        let texts = lists.iter().map(|ids| model.engine.join(ids, !skipped));
        let texts = texts.collect::<Result<_, _>>();
        Ok(Texts(texts.map_err(|error| ApiError::of_run(&error.into(), "ids"))?))
    })
    .await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_takes_more_than_is_set_aside_for_it(
            texts in prop::collection::vec(
                prop::collection::vec((any::<u32>(), any::<String>(), any::<bool>()), 0..8),
                1..4,
            ),
        ) {
            let piece = |(id, text, special): (u32, String, bool)| {
                Piece { id, text, place: (!special).then_some(1_000_000..10_000_000) }
            };
            let pieces: Vec<Vec<Piece>> =
                texts.into_iter().map(|text| text.into_iter().map(piece).collect()).collect();
            let most = most_bytes(&pieces);
            let kept: usize = pieces
                .iter()
                .flatten()
                .map(|piece| size_of::<Piece>() + piece.text.len())
                .sum();
            let tokens = pieces.into_iter().map(|text| text.into_iter().map(token).collect());
            let written = serde_json::to_vec(&Tokens(tokens.collect())).unwrap().len();
            prop_assert!(kept + written <= most, "{kept} {written} {most}");
        }
    }
}
