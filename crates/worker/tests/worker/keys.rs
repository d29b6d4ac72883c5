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
        ("x-api-key", "oi", 401),
        ("x-other", "wick", 401),
    ] {
        let answer = call(&bench.app, with(embed(), name, value)).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {value}");
        assert!(!answer.text.contains("wic"), "{}", answer.text);
    }
    // SDKs, meshes and gateways send a bearer's token of their own.
    let both = with(with(embed(), "authorization", "Bearer mesh.jwt"), "x-api-key", "oil");
    assert_eq!(call(&bench.app, both).await.status, StatusCode::OK);
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
    assert!(answer.text.contains("x-api-key"), "{}", answer.text);
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
    for path in ["/docs", "/openapi.json"] {
        let answer = call(&bench.app, get(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.text.contains("embedder"), "{path} names a model: {}", answer.text);
    }
    let page = call(&bench.app, with(get("/docs"), "authorization", "Bearer oil")).await;
    assert!(page.text.contains("<code>embedder:1 (Fake)</code>"), "{}", page.text);
}

#[tokio::test]
async fn a_browser_is_told_whose_pages_may_ask_before_it_has_a_key() {
    let keys = || Some(Keys::from_text("wick").unwrap());
    let models = || [("embedder:1", Arc::new(Fake::new()))];
    let preflight = |origin: &str| {
        Request::options("/v1/embeddings")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,x-stainless-lang")
            .body(Body::empty())
            .unwrap()
    };
    let page = "https://lamp.example";
    for (origins, from, told) in [
        (&["*"][..], page, Some("*")),
        (&["https://a.example", page], page, Some(page)),
        (&["https://a.example"], page, None),
        (&[], page, None),
    ] {
        let bench = Bench::open_to(origins, &models(), keys());
        let answer = call(&bench.app, preflight(from)).await;
        let said = |headers: &HeaderMap| {
            headers.get("access-control-allow-origin").map(|it| it.to_str().unwrap().to_owned())
        };
        assert_eq!(said(&answer.headers).as_deref(), told, "{origins:?}");
        if told.is_some() {
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{origins:?}");
            let headers = &answer.headers["access-control-allow-headers"];
            assert_eq!(headers, "authorization,x-stainless-lang");
            assert!(
                answer.headers["access-control-allow-methods"].to_str().unwrap().contains("POST")
            );
        } else {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{origins:?}");
        }
        // What the browser sends then, and a failure that its page is to read.
        for (key, status) in [("Bearer wick", 200), ("Bearer wic", 401)] {
            let asked = with(with(embed(), "origin", from), "authorization", key);
            let answer = call(&bench.app, asked).await;
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(said(&answer.headers).as_deref(), told, "{origins:?} {status}");
            let varies = !origins.is_empty() && origins != ["*"];
            assert_eq!(answer.headers.contains_key("vary"), varies, "{origins:?}");
        }
    }
    let open = Bench::open_to(&["*"], &models(), None);
    let plain = Request::options("/v1/embeddings").body(Body::empty()).unwrap();
    assert_eq!(call(&open.app, plain).await.status, StatusCode::METHOD_NOT_ALLOWED);
}
