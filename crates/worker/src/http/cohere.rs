//! `POST /v1/rerank` and `POST /v2/rerank`, as Cohere
//! (<https://docs.cohere.com/reference/rerank>, <https://docs.cohere.com/v1/reference/rerank>) and
//! Jina (<https://api.jina.ai/scalar>) have them: one answer holds the fields of both.
//!
//! Documents are cut where the model's own longest text ends, as both do;
//! `max_tokens_per_doc`, `max_chunks_per_doc` and `priority` change nothing about that.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use lamplighter_engine::{Output, TooLong};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask::{self, Needs};
use super::error::ApiError;
use super::fields::{Count, Field, Name, optional, required};
use super::naming::model_name;
use super::opened::Opened;
use super::rank::{self, Ranked};
use super::route::Route;
use super::texts::Texts;
use super::{App, reply};

pub(super) fn routes() -> Vec<Route> {
    let example =
        r#"{"model": "MODEL", "query": "light", "documents": ["a lamp", "a river"], "top_n": 1}"#;
    let summary = "Documents, those first that have most to do with a query.";
    let rerank =
        |route: Route| route.takes::<Ask>(example).gives::<Answer>().names_model().computes();
    vec![
        rerank(Route::post("/v1/rerank", summary, one)),
        rerank(Route::post("/v2/rerank", summary, two)),
    ]
}

/// Fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "RerankRequest")]
struct Ask {
    /// `name` or `name:version`; needed where several models give one score for a pair of texts.
    model: Option<Field<Name>>,
    #[schemars(required)]
    query: Option<Field<String>>,
    #[schemars(required)]
    documents: Option<Texts>,
    /// How many documents the answer has; all by default.
    top_n: Option<Field<Count>>,
    /// Whether the answer repeats the documents; `false` by default.
    return_documents: Option<Field<bool>>,
    /// Which fields of a document are read; only `["text"]` can be.
    rank_fields: Option<Texts>,
}

/// The whole answer.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RerankResponse")]
struct Answer {
    /// Of this answer, made by the worker.
    id: String,
    /// `name:version`, whichever of the names was asked for.
    model: String,
    results: Vec<Found>,
    usage: Usage,
    meta: Meta,
}

/// One document.
#[derive(JsonSchema, Serialize)]
struct Found {
    /// Its place in the request.
    index: usize,
    /// Between 0 and 1.
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document>,
}

#[derive(JsonSchema, Serialize)]
struct Document {
    text: String,
}

/// Tokens that were read, as Jina says it.
#[derive(JsonSchema, Serialize)]
struct Usage {
    total_tokens: usize,
}

/// What was used, as Cohere says it.
#[derive(JsonSchema, Serialize)]
struct Meta {
    api_version: ApiVersion,
    billed_units: BilledUnits,
    tokens: InputTokens,
}

#[derive(JsonSchema, Serialize)]
struct ApiVersion {
    version: &'static str,
}

/// Nothing is billed here; a client that adds up still finds its searches.
#[derive(JsonSchema, Serialize)]
struct BilledUnits {
    search_units: usize,
}

#[derive(JsonSchema, Serialize)]
struct InputTokens {
    input_tokens: usize,
}

async fn one(State(app): State<Arc<App>>, opened: Opened<Ask>) -> Result<Response, ApiError> {
    rerank(&app, opened, "1").await
}

async fn two(State(app): State<Arc<App>>, opened: Opened<Ask>) -> Result<Response, ApiError> {
    rerank(&app, opened, "2").await
}

async fn rerank(
    app: &App,
    opened: Opened<Ask>,
    version: &'static str,
) -> Result<Response, ApiError> {
    let asker = opened.asker(app);
    let ask = opened.ask;
    let name = model_name(ask.model, &opened.headers)?;
    let model = ask::meant(app, name.as_deref(), Needs::Relevance)?;
    check_rank_fields(ask.rank_fields)?;
    let top = optional(ask.top_n, "top_n")?.map_or(usize::MAX, |Count(top)| top);
    let repeat = optional(ask.return_documents, "return_documents")?.unwrap_or_default();
    let query = required(ask.query, "query")?;
    let documents = Texts::required(ask.documents, "documents")?;
    let (question, mut documents) = rank::question(&query, documents, TooLong::CutEnd, repeat)?;
    let asker = asker.repeating(documents.iter().map(String::len).sum());
    let answered = asker.ask(&model, Output::Scores, question, "documents").await?;
    let id = app.next_id();
    reply::json(answered.share, asker.deadline, move || {
        let ranks = rank::ranked(&answered.outputs, false).into_iter().take(top);
        let results = ranks.map(|Ranked { index, score }| Found {
            index,
            relevance_score: score,
            document: documents.get_mut(index).map(|text| Document { text: std::mem::take(text) }),
        });
        Ok(Answer {
            id,
            model: model.key.to_string(),
            results: results.collect(),
            usage: Usage { total_tokens: answered.tokens },
            meta: Meta {
                api_version: ApiVersion { version },
                billed_units: BilledUnits { search_units: 1 },
                tokens: InputTokens { input_tokens: answered.tokens },
            },
        })
    })
    .await
}

fn check_rank_fields(fields: Option<Texts>) -> Result<(), ApiError> {
    let Some(fields) = fields else {
        return Ok(());
    };
    let fields = Texts::required(Some(fields), "rank_fields")?;
    if fields == ["text"] {
        return Ok(());
    }
    let message = "rank_fields must be [\"text\"] or left out: documents have no other field here";
    Err(ApiError::invalid("rank_fields", "invalid_value", message))
}
