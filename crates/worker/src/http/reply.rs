//! An answer on its way to its client.
//!
//! A client may take as long as it likes to read, and many may do so at once. So the bytes of an answer
//! are set aside before it is computed, and given back when the last of them is with the system: they
//! and their share are one object, whoever holds parts of it.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::Bytes;
use lamplighter_engine::{Gives, Output};
use serde::Serialize;

use super::App;
use super::aside::aside;
use super::budget::Share;
use super::deadline::Deadline;
use super::error::ApiError;

/// Four bytes as a number is computed, and fewer than 20 as JSON with its comma.
const NUMBER: usize = 24;
/// What stands around the numbers of a text, or of one of its tokens or labels, in any family.
const AROUND: usize = 160;
/// What stands around all of it.
const ENVELOPE: usize = 1 << 10;
/// A byte of a text becomes at most six in JSON (`\u0001`), and is kept until it is written.
const REPEATED: usize = 8;

/// The most bytes that an answer to texts of these lengths may take, while it is computed and as it is
/// written; `repeated` bytes of the request come back with it.
pub(super) fn most_bytes(
    output: Output,
    gives: &Gives,
    width: usize,
    lengths: &[usize],
    repeated: usize,
) -> usize {
    let texts = lengths.len();
    let vectors = |count: usize, length: usize| {
        let one = length.saturating_mul(NUMBER).saturating_add(AROUND);
        count.saturating_mul(one)
    };
    let outputs = match (output, gives) {
        (Output::TokenVectors, _) => vectors(lengths.iter().sum(), width),
        (_, Gives::Vectors { dimensions, .. }) => vectors(texts, *dimensions),
        (_, Gives::Scores { labels, .. }) => {
            let label = |label: &String| AROUND + NUMBER + label.len() * REPEATED;
            texts.saturating_mul(labels.iter().map(label).sum())
        }
    };
    let around = texts.saturating_mul(AROUND).saturating_add(ENVELOPE);
    outputs.saturating_add(around).saturating_add(self::repeated(repeated))
}

/// The most bytes that so many of a text take in an answer, kept and written.
pub(super) fn repeated(bytes: usize) -> usize {
    bytes.saturating_mul(REPEATED)
}

/// The most bytes that an answer to so many texts takes which has so many parts of a size.
pub(super) fn around(texts: usize, parts: usize, size: usize) -> usize {
    let parts = parts.saturating_mul(size);
    // Special tokens, too, stand around a text.
    texts.saturating_mul(4 * AROUND).saturating_add(parts).saturating_add(ENVELOPE)
}

/// Sets bytes aside for the answer to the texts of a field, or says why there are none.
pub(super) fn reserve(app: &App, bytes: usize, field: &'static str) -> Result<Share, ApiError> {
    let limit = app.answers.limit();
    check_ever_fits(bytes, limit, field)?;
    app.answers.take(bytes).map_err(|_| ApiError::answers_full(limit))
}

/// Makes a share as large as the answer is known to be now, or says why it cannot.
pub(super) fn set(
    app: &App,
    share: &mut Share,
    bytes: usize,
    field: &'static str,
) -> Result<(), ApiError> {
    check_ever_fits(bytes, app.answers.limit(), field)?;
    share.grow_to(bytes).map_err(|full| ApiError::answers_full(full.limit))?;
    share.shrink_to(bytes);
    Ok(())
}

fn check_ever_fits(bytes: usize, limit: usize, field: &'static str) -> Result<(), ApiError> {
    if bytes <= limit {
        return Ok(());
    }
    let message = format!(
        "the answer to {field} may have {bytes} bytes, and those of all requests together have at \
         most {limit}: send fewer texts at once"
    );
    Err(ApiError::invalid(field, "invalid_input", message))
}

/// The answer that `make` makes, as JSON.
pub(super) async fn json<T: Serialize>(
    share: Share,
    deadline: Deadline,
    make: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let write = move |bytes: &mut Vec<u8>| append(bytes, &make()?);
    let mut response = Response::new(body(share, deadline, write).await?.0);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// The bytes that `write` appends, within the request's time; and what else it tells.
pub(super) async fn body<T: Send + 'static>(
    mut share: Share,
    deadline: Deadline,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, ApiError> + Send + 'static,
) -> Result<(Body, T), ApiError> {
    // Of what was set aside for them, answers take about half.
    let written = aside(share.bytes() / 2, move || {
        // Memory that is not written to is none: a buffer that grows would be there twice.
        let mut bytes = Vec::with_capacity(share.bytes());
        let told = write(&mut bytes)?;
        share.grow_to(bytes.len()).map_err(|full| ApiError::answers_full(full.limit))?;
        share.shrink_to(bytes.len());
        let whole = Bytes::from_owner(Counted { bytes, _share: share });
        Ok((Body::from(whole), told))
    });
    deadline.within(written).await.map_err(|over| ApiError::out_of_time(over.seconds))?
}

/// Appends JSON.
pub(super) fn append<T: Serialize>(bytes: &mut Vec<u8>, answer: &T) -> Result<(), ApiError> {
    serde_json::to_writer(bytes, answer).map_err(|error| {
        tracing::error!(%error, "a bug: an answer could not be written");
        ApiError::bug()
    })
}

/// Bytes with what counts them.
struct Counted {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_engine::{Pooling, Scale};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn length(answer: &serde_json::Value) -> usize {
        serde_json::to_vec(answer).unwrap().len()
    }

    proptest! {
        #[test]
        fn no_answer_is_longer_than_what_is_set_aside_for_it(
            numbers in prop::collection::vec(any::<f32>().prop_filter("finite", |n| n.is_finite()), 6),
            label in any::<String>(),
        ) {
            let vectors = Gives::Vectors {
                dimensions: 3,
                pooling: Pooling::Mean,
                normalized: false,
                matryoshka: Vec::new(),
            };
            let rows: Vec<&[f32]> = numbers.chunks(3).collect();
            let most = |output, gives: &Gives| most_bytes(output, gives, 3, &[1, 1], 0) - ENVELOPE;
            let written = serde_json::to_vec(&rows).unwrap().len();
            prop_assert!(written + 4 * numbers.len() <= most(Output::Vector, &vectors));
            prop_assert!(written + 4 * numbers.len() <= most(Output::TokenVectors, &vectors));
            let one = json!({"score": numbers[0], "label": label});
            let labelled = json!([[one, one], [one, one]]);
            let scores = Gives::Scores { labels: vec![label; 2], scale: Scale::Raw };
            prop_assert!(length(&labelled) <= most(Output::Scores, &scores));
        }
    }
}
