//! The kubelet's probes: `/livez` says that the process is alive, `/readyz` whether it wants traffic.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::watch;

/// Whether the process wants traffic, and if not, why. Clones share one state.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Option<NotReady>>>);

/// Why there should be no traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotReady {
    /// One word in the form of `ModelLoading`, for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Readiness {
    /// Starts not ready, for a reason.
    pub fn not_ready_yet(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Arc::new(watch::Sender::new(Some(NotReady {
            reason: reason.into(),
            message: message.into(),
        }))))
    }

    /// From now on `/readyz` answers 200.
    pub fn set_ready(&self) {
        self.0.send_replace(None);
    }

    /// From now on `/readyz` answers 503 with this reason.
    pub fn set_not_ready(&self, reason: impl Into<String>, message: impl Into<String>) {
        self.0.send_replace(Some(NotReady { reason: reason.into(), message: message.into() }));
    }

    /// `Ok` when ready, else why not.
    pub fn get(&self) -> Result<(), NotReady> {
        self.0.borrow().clone().map_or(Ok(()), Err)
    }

    /// Returns when ready; at once if it already is.
    pub async fn wait(&self) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let mut wanted = self.0.subscribe();
        let _open = wanted.wait_for(Option::is_none).await.is_ok();
    }
}

/// A router with `GET /livez` and `GET /readyz`.
///
/// `/livez` is 200 whenever the process can answer at all: it must never depend on
/// inference, or a busy pod would be killed for being busy.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"live": true})) }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.get() {
        Ok(()) => Json(json!({"ready": true})).into_response(),
        Err(NotReady { reason, message }) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"ready": false, "reason": reason, "message": message})),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn probe(readiness: &Readiness, path: &str) -> (StatusCode, String) {
        let answer = router(readiness.clone())
            .oneshot(Request::get(path).body(Body::empty()).unwrap())
            .await
            .unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_follows_the_handle_and_livez_does_not() {
        let readiness = Readiness::not_ready_yet("Loading", "embedder:1 is in phase Fetch");
        let (status, body) = probe(&readiness, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            r#"{"ready":false,"reason":"Loading","message":"embedder:1 is in phase Fetch"}"#
        );
        assert_eq!(probe(&readiness, "/livez").await.0, StatusCode::OK);

        readiness.set_ready();
        assert_eq!(probe(&readiness, "/readyz").await.0, StatusCode::OK);

        readiness.set_not_ready("Draining", "the process was told to stop");
        let (status, body) = probe(&readiness, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("Draining"), "{body}");
        assert_eq!(probe(&readiness, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn waiting_ends_when_a_clone_turns_ready() {
        let readiness = Readiness::not_ready_yet("Starting", "");
        let clone = readiness.clone();
        let waiter = tokio::spawn(async move { clone.wait().await });
        readiness.set_ready();
        waiter.await.unwrap();
    }
}
