//! `GET /lamplighter/identity`: who answers here, without credentials.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lamplighter_protocol::place;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::error::ApiError;
use super::route::Route;

pub(super) fn route() -> Route {
    let summary = "Revision, pod and digests: who answers here.";
    Route::get(place::IDENTITY_ROUTE, summary, identity).gives::<Identity>().open()
}

#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    revision: String,
    pod_uid: String,
    pod_name: String,
    models: Vec<Served>,
}

#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    /// `name:version`.
    key: String,
    digest: String,
}

async fn identity(State(app): State<Arc<App>>) -> Result<Json<Identity>, ApiError> {
    let models = app
        .registry()?
        .models()
        .iter()
        .map(|model| Served { key: model.key.to_string(), digest: model.facts.digest.clone() });
    let identity = app.board.identity();
    Ok(Json(Identity {
        revision: identity.revision.clone(),
        pod_uid: identity.pod_uid.clone(),
        pod_name: identity.pod_name.clone(),
        models: models.collect(),
    }))
}
