//! Keys: who gets in, and what answers without one.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use lamplighter_worker::http::keys::Keys;
use serde_json::json;

use crate::support::Bench;
use crate::support::client::{call, get, post};
use crate::support::fake::Fake;

fn bench() -> Bench {
    let keys = Keys::from_text("# of the tests\nwick\noil\n").unwrap();
    Bench::guarded(&[("embedder:1", Arc::new(Fake::new()))], Some(keys))
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn embed() -> Request<Body> {
    post("/v1/embeddings", json!({"model": "embedder", "input": "a"}).to_string())
}

#[tokio::test]
async fn a_key_of_the_file_lets_in_and_nothing_else_does() {
    let bench = bench();
    for (name, value, status) in [
        ("authorization", "Bearer wick", 200),
        ("authorization", "bearer oil", 200),
        ("x-api-key", "oil", 200),
        ("authorization", "Bearer wic", 401),
        ("authorization", "Basic d2ljazp3aWNr", 401),
        ("x-other", "wick", 401),
    ] {
        let answer = call(&bench.app, with(embed(), name, value)).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {value}");
        assert!(!answer.text.contains("wic"), "{}", answer.text);
    }
}

#[tokio::test]
async fn without_a_key_every_family_says_401_in_its_shape_and_probes_are_answered() {
    let bench = bench();
    let is_asked_for = |headers: &HeaderMap| {
        assert!(headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"));
    };
    let answer = call(&bench.app, embed()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.error_code(), "invalid_api_key");
    is_asked_for(&answer.headers);
    for (request, field) in [
        (post("/v1/rerank", "{}"), "message"),
        (post("/embed", "{}"), "error_type"),
        (post("/", "{}"), "error_type"),
        (get("/info"), "error_type"),
        (get("/metrics"), "error_type"),
        (get("/v2"), "error"),
        (post("/v2/models/embedder/infer", "{}"), "error"),
        (post("/v2/repository/index", ""), "error"),
        (get("/v1/models"), "error"),
        (get("/openapi.json"), "error"),
        (get("/docs"), "error"),
        (get("/nothing"), "error"),
    ] {
        let path = request.uri().path().to_owned();
        let answer = call(&bench.app, request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(!answer.json()[field].is_null(), "{path}: {}", answer.text);
        is_asked_for(&answer.headers);
    }
    for path in ["/health", "/ping", "/v2/health/live", "/v2/health/ready", "/lamplighter/identity"]
    {
        assert_eq!(call(&bench.app, get(path)).await.status, StatusCode::OK, "{path}");
    }
}
