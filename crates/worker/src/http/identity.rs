//! `GET /lamplighter/identity`: who answers here, without credentials.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lamplighter_protocol::ModelKey;
use serde::Serialize;

use super::App;
use super::error::ApiError;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    revision: String,
    pod_uid: String,
    pod_name: String,
    models: Vec<Served>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    key: ModelKey,
    digest: String,
}

pub(super) async fn identity(State(app): State<Arc<App>>) -> Result<Json<Identity>, ApiError> {
    let registry = app.registry()?;
    let models = registry
        .models()
        .iter()
        .map(|model| Served { key: model.key.clone(), digest: model.facts.digest.clone() });
    let identity = app.board.identity();
    Ok(Json(Identity {
        revision: identity.revision.clone(),
        pod_uid: identity.pod_uid.clone(),
        pod_name: identity.pod_name.clone(),
        models: models.collect(),
    }))
}
