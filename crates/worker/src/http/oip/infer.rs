//! `POST /v2/models/{model}/infer`.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use lamplighter_engine::{Gives, Output, TooLong};
use schemars::JsonSchema;
use serde::Serialize;

use super::index::{Names, model_of};
use super::request::{Asked, JSON_LENGTH, read};
use super::tensor;
use crate::http::aside::aside;
use crate::http::ask::{Asker, Question};
use crate::http::deadline::Deadline;
use crate::http::error::ApiError;
use crate::http::{App, body, reply, scores};
use crate::registry::Model;
use crate::run::OwnedText;

/// The whole answer; bytes of tensors may follow it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "InferResponse")]
pub(super) struct Answer {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

/// What the model gives.
#[derive(JsonSchema, Serialize)]
struct OutputTensor {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<f32>>,
}

#[derive(JsonSchema, Serialize)]
struct Size {
    binary_data_size: usize,
}

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    Extension(deadline): Extension<Deadline>,
    names: Names,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    app.registry()?;
    // Clients of Triton say no content type, or that of bytes.
    let (bytes, share) = body::bytes(request, &app, deadline).await?;
    // Not before: a model that is to be unloaded would wait for a slow client.
    let model = model_of(&app, names)?;
    let asked = aside(bytes.len(), move || read(&headers, &bytes)).await?;
    let gives = &model.engine.facts().gives;
    let name = tensor::output_of(gives);
    let is_binary = is_binary(&asked, name)?;
    let id = asked.id.clone();
    let output = match gives {
        Gives::Vectors { .. } => Output::Vector,
        Gives::Scores { .. } => Output::Scores,
    };
    let question = question(asked, &model)?;
    let repeated = id.as_ref().map_or(0, String::len);
    let answered = Asker::new(&app, deadline)
        .repeating(repeated)
        .ask(&model, output, question, "text")
        .await?;
    drop(share);
    let (body, json_length) = reply::body(answered.share, deadline, move |to| {
        write(to, &model, id, answered.outputs, is_binary)
    })
    .await?;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if is_binary {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(JSON_LENGTH, HeaderValue::from(json_length));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

/// Appends the answer; how long its JSON is.
fn write(
    to: &mut Vec<u8>,
    model: &Model,
    id: Option<String>,
    outputs: Vec<Vec<f32>>,
    is_binary: bool,
) -> Result<usize, ApiError> {
    let gives = &model.engine.facts().gives;
    let rows = outputs.into_iter().map(|row| scores::of_model(row, gives, false));
    let rows: Vec<Vec<f32>> = rows.collect();
    let bytes = is_binary.then(|| tensor::floats(&rows));
    let tensor = OutputTensor {
        name: tensor::output_of(gives),
        datatype: tensor::FP32,
        shape: [rows.len(), gives.numbers()],
        parameters: bytes.as_ref().map(|bytes| Size { binary_data_size: bytes.len() }),
        data: bytes.is_none().then(|| rows.concat()),
    };
    drop(rows);
    let answer = Answer {
        model_name: model.key.name.clone(),
        model_version: model.key.version.clone(),
        id,
        outputs: vec![tensor],
    };
    reply::append(to, &answer)?;
    let json_length = to.len();
    to.extend_from_slice(&bytes.unwrap_or_default());
    Ok(json_length)
}

/// Whether the one output is to be written as bytes; others are refused.
fn is_binary(asked: &Asked, name: &str) -> Result<bool, ApiError> {
    let Some(outputs) = &asked.outputs else {
        return Ok(asked.is_binary);
    };
    match outputs.as_slice() {
        [wanted] if wanted.name == name => Ok(wanted.is_binary),
        _ => {
            let message = format!("outputs must be the tensor `{name}` alone, or be left out");
            Err(ApiError::invalid("outputs", "invalid_value", message))
        }
    }
}

fn question(asked: Asked, model: &Model) -> Result<Question, ApiError> {
    if let Some(index) = asked.text.iter().position(String::is_empty) {
        return Err(ApiError::empty("text", &format!("[{index}] is an empty text")));
    }
    if asked.text.is_empty() {
        return Err(ApiError::empty("text", "is empty"));
    }
    let Some(second) = asked.text_pair else {
        return Ok(Question::singles(asked.text, TooLong::Refuse));
    };
    if matches!(model.engine.facts().gives, Gives::Vectors { .. }) {
        let message = format!("the model {} reads no pairs: leave `text_pair` out", model.key);
        return Err(ApiError::invalid("text_pair", "unsupported_value", message));
    }
    let pairs = asked.text.into_iter().zip(second);
    let pairs = pairs.map(|(first, second)| OwnedText::Pair(first.into(), second.into()));
    Ok(Question::Texts(pairs.collect(), TooLong::Refuse))
}
