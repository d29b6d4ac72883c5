//! `POST /v1/embeddings`, as
//! <https://platform.openai.com/docs/api-reference/embeddings/create> defines it.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lamplighter_engine::{Output, TooLong};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::http::ask::{self, Needs};
use crate::http::error::ApiError;
use crate::http::fields::{Count, Field, Name, Type, Value, optional};
use crate::http::input::Parsed;
use crate::http::naming::model_name;
use crate::http::opened::Opened;
use crate::http::{App, reply, vectors};

/// `user` and fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "EmbeddingsRequest")]
pub(super) struct Ask {
    /// `name` or `name:version`; needed where several models give vectors.
    model: Option<Field<Name>>,
    #[schemars(required)]
    input: Option<Parsed>,
    /// How numbers are written; `float` by default.
    encoding_format: Option<Field<Encoding>>,
    /// How many numbers of each vector are wanted, from its beginning; all by default. Only models
    /// that were trained for it give good shorter vectors.
    dimensions: Option<Field<Count>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    Float,
    /// The numbers' bytes, little-endian, which OpenAI's own clients ask for.
    Base64,
}

/// The whole answer.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "EmbeddingsResponse")]
pub(super) struct Answer {
    object: &'static str,
    data: Vec<Embedding>,
    /// `name:version`, whichever of the names was asked for.
    model: String,
    usage: Usage,
}

/// One input's vector.
#[derive(JsonSchema, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    #[serde(rename = "embedding")]
    numbers: Numbers,
}

/// Numbers, or their bytes in base64.
#[derive(JsonSchema, Serialize)]
#[serde(untagged)]
enum Numbers {
    Float(Vec<f32>),
    Base64(String),
}

/// Tokens that were read.
#[derive(JsonSchema, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

pub(super) async fn embed(
    State(app): State<Arc<App>>,
    opened: Opened<Ask>,
) -> Result<Response, ApiError> {
    let asker = opened.asker(&app);
    let ask = opened.ask;
    let name = model_name(ask.model, &opened.headers)?;
    let model = ask::meant(&app, name.as_deref(), Needs::Vectors)?;
    let encoding = optional(ask.encoding_format, "encoding_format")?.unwrap_or(Encoding::Float);
    let dimensions = vectors::dimensions(ask.dimensions, &model.engine.facts().gives)?;
    let question = Parsed::required(ask.input, "input")?.into_question(TooLong::Refuse);
    let answered = asker.ask(&model, Output::Vector, question, "input").await?;
    reply::json(answered.share, asker.deadline, move || {
        let gives = &model.engine.facts().gives;
        let data = answered.outputs.into_iter().enumerate().map(|(index, vector)| {
            let vector = vectors::shortened(vector, dimensions, gives)?;
            Ok(Embedding { object: "embedding", index, numbers: encoding.write(vector) })
        });
        Ok(Answer {
            object: "list",
            data: data.collect::<Result<_, ApiError>>()?,
            model: model.key.to_string(),
            usage: Usage { prompt_tokens: answered.tokens, total_tokens: answered.tokens },
        })
    })
    .await
}

impl Value for Encoding {
    const WHAT: &'static str = "float or base64";
    const TYPE: Type = Type::Text;

    fn of_text(text: &str) -> Option<Self> {
        match text {
            "float" => Some(Self::Float),
            "base64" => Some(Self::Base64),
            _ => None,
        }
    }
}

impl JsonSchema for Encoding {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Encoding".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["float", "base64"]})
    }
}

impl Encoding {
    fn write(self, vector: Vec<f32>) -> Numbers {
        match self {
            Self::Float => Numbers::Float(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
                Numbers::Base64(STANDARD.encode(bytes))
            }
        }
    }
}
