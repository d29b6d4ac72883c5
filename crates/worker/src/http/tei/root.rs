//! `POST /` and `POST /invocations`: what the one model of Text Embeddings Inference does.
//!
//! The clients of `huggingface_hub` send every task to the address that they were given and to no
//! route below it, so what is meant is seen from the body.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use lamplighter_engine::Gives;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{embed, predict, rerank, similarity};
use crate::http::ask::{self, Asker, Needs};
use crate::http::deadline::Deadline;
use crate::http::error::ApiError;
use crate::http::fields::{Field, Name};
use crate::http::naming::model_name;
use crate::http::parse::parse;
use crate::http::{App, body};

/// As much of a body as tells what it is for.
#[derive(serde::Deserialize)]
struct Look {
    inputs: Option<Shape>,
    query: Option<IgnoredAny>,
    model: Option<Field<Name>>,
}

pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Extension(deadline): Extension<Deadline>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    app.registry()?;
    body::check_json(headers.get(CONTENT_TYPE))?;
    let (bytes, _share) = body::bytes(request, &app, deadline).await?;
    let look: Look = parse(bytes.clone()).await?;
    let asker = Asker::new(&app, deadline);
    if look.query.is_some() {
        return rerank::answer(asker, parse(bytes).await?, &headers).await;
    }
    if look.inputs == Some(Shape::Object) {
        return similarity::answer(asker, parse(bytes).await?, &headers).await;
    }
    let name = model_name(look.model, &headers)?;
    let model = ask::meant(&app, name.as_deref(), Needs::Anything)?;
    match model.engine.facts().gives {
        Gives::Vectors { .. } => embed::answer(asker, parse(bytes).await?, &headers).await,
        Gives::Scores { .. } => predict::answer(asker, parse(bytes).await?, &headers).await,
    }
}

/// Whether a value is an object.
#[derive(Debug, Eq, PartialEq)]
enum Shape {
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Object)
    }
}
