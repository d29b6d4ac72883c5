//! `GET /info`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use lamplighter_engine::{Gives, Pooling, Precision};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::App;
use crate::http::ask::{self, Needs};
use crate::http::error::ApiError;
use crate::http::input::MAX_TEXTS;
use crate::http::naming::model_name;

/// A model and what it takes
/// (<https://github.com/huggingface/text-embeddings-inference/blob/v1.9.3/router/src/lib.rs>, `Info`).
#[derive(JsonSchema, Serialize)]
pub(super) struct Info {
    /// `name:version`.
    model_id: String,
    /// The artifact's digest.
    model_sha: String,
    /// Numbers that the model computes with, whatever its weights are stored as.
    model_dtype: &'static str,
    model_type: ModelType,
    /// Texts that may wait or run at once.
    max_concurrent_requests: usize,
    /// Tokens of the longest text.
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: usize,
    /// Texts of the largest request.
    max_client_batch_size: usize,
    /// Texts that are too long are cut unless a request forbids it.
    auto_truncate: bool,
    version: &'static str,
}

/// What the model gives.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Embedding { pooling: &'static str },
    Classifier(Labels),
    Reranker(Labels),
}

#[derive(JsonSchema, Serialize)]
struct Labels {
    id2label: BTreeMap<String, String>,
    label2id: BTreeMap<String, usize>,
}

pub(super) async fn info(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<Info>, ApiError> {
    let name = model_name(None, &headers)?;
    let model = ask::meant(&app, name.as_deref(), Needs::Anything)?;
    let limits = model.engine.limits();
    let facts = model.engine.facts();
    let texts = app.runner.limit();
    Ok(Json(Info {
        model_id: model.key.to_string(),
        model_sha: model.facts.digest.clone(),
        model_dtype: dtype(model.engine.runtime().precision),
        model_type: model_type(&facts.gives),
        max_concurrent_requests: texts,
        max_input_length: facts.max_tokens,
        max_batch_tokens: limits.max_batch_tokens,
        max_batch_requests: limits.max_batch_texts,
        max_client_batch_size: texts.min(MAX_TEXTS),
        auto_truncate: true,
        version: env!("CARGO_PKG_VERSION"),
    }))
}

fn dtype(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "float32",
        Precision::BF16 => "bfloat16",
    }
}

fn model_type(gives: &Gives) -> ModelType {
    match gives {
        Gives::Vectors { pooling, .. } => ModelType::Embedding { pooling: tei_name(*pooling) },
        Gives::Scores { labels, .. } => {
            let ids = || labels.iter().enumerate();
            let of = Labels {
                id2label: ids().map(|(id, label)| (id.to_string(), label.clone())).collect(),
                label2id: ids().map(|(id, label)| (label.clone(), id)).collect(),
            };
            if labels.len() == 1 { ModelType::Reranker(of) } else { ModelType::Classifier(of) }
        }
    }
}

fn tei_name(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::LastToken => "last_token",
        other => other.name(),
    }
}
