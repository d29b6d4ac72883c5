//! The same failure on routes of every family: each in its own shape, with its own status.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, header};
use futures::stream;
use lamplighter_engine::Scale;
use lamplighter_worker::http::Limits;
use serde_json::{Value, json};

use crate::support::client::{Answer, call, get, post};
use crate::support::fake::Fake;
use crate::support::{self, Bench, DEADLINE};

/// A route of each family that asks a model, what it is asked, and the fields of its failures.
fn families(text: &str) -> [(&'static str, Value, &'static [&'static str]); 4] {
    let tensor = json!({"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]});
    [
        ("/v1/embeddings", json!({"model": "embedder", "input": text}), &["error"]),
        ("/v1/rerank", json!({"model": "judge", "query": text, "documents": [text]}), &["message"]),
        ("/embed", json!({"inputs": text, "model": "embedder"}), &["error", "error_type"]),
        ("/v2/models/embedder/infer", json!({"inputs": [tensor]}), &["error"]),
    ]
}

fn bench(engines: &[Arc<Fake>; 2], limits: Limits, texts: usize) -> Bench {
    let [embedder, judge] = engines;
    let models = [("embedder:1", Arc::clone(embedder)), ("judge:1", Arc::clone(judge))];
    Bench::bounded(&models, limits, texts)
}

fn engines() -> [Arc<Fake>; 2] {
    [Arc::new(Fake::new()), Arc::new(Fake::scoring(&["LABEL_0"], Scale::Sigmoid))]
}

fn check(answer: &Answer, path: &str, fields: &[&str], status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
    let json = answer.json();
    let found: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(found, fields, "{path}: {json}");
    if path == "/v1/embeddings" {
        answer.error_code();
    } else {
        assert!(json[fields[0]].is_string(), "{path}: {json}");
    }
}

const LIMITS: Limits = Limits { body: 1_000, bodies: 10_000, ..support::LIMITS };

#[tokio::test]
async fn what_no_route_or_no_model_was_reached_for_has_the_familys_shape() {
    let bench = bench(&engines(), LIMITS, 10);
    for (path, body, fields) in families("a") {
        let wrong_method = Request::builder().method(Method::DELETE).uri(path);
        let answer = call(&bench.app, wrong_method.body(Body::empty()).unwrap()).await;
        check(&answer, path, fields, 405);
        assert!(answer.headers.contains_key(header::ALLOW), "{path}");

        let answer = call(&bench.app, post(path, vec![b' '; 1_001])).await;
        check(&answer, path, fields, 413);
        let answer = call(&bench.app, post(path, "{")).await;
        check(&answer, path, fields, 400);

        let packed = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_ENCODING, "gzip")
            .body(Body::from(body.to_string()));
        let answer = call(&bench.app, packed.unwrap()).await;
        check(&answer, path, fields, 415);
        let answer = call(&bench.app, post(path, body.to_string())).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text);
    }
    for (path, fields) in [
        ("/v1/nothing", &["error"][..]),
        ("/v2/nothing", &["error"]),
        ("/embed_sparse", &["error", "error_type"]),
        ("/nothing", &["error"]),
    ] {
        let answer = call(&bench.app, get(path)).await;
        assert_eq!(answer.status.as_u16(), 404);
        let json = answer.json();
        let found: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(found, fields, "{path}");
        assert_eq!(json["error"].is_object(), !path.starts_with("/v2") && path != "/embed_sparse");
    }
}

#[tokio::test]
async fn loading_failing_and_lateness_have_the_familys_shape_and_status() {
    let loading = Bench::loading(LIMITS, 10);
    let failing = bench(&engines(), LIMITS, 10);
    let late = bench(&engines(), Limits { time: Duration::from_millis(30), ..LIMITS }, 100);
    for (failed, (path, body, fields)) in [500, 500, 424, 500].into_iter().zip(families("fail")) {
        let answer = call(&loading.app, post(path, body.to_string())).await;
        check(&answer, path, fields, 503);
        assert!(answer.headers.contains_key(header::RETRY_AFTER), "{path}");
        let answer = call(&failing.app, post(path, body.to_string())).await;
        check(&answer, path, fields, failed);
        assert!(!answer.text.contains("out of range"), "the log's affair: {}", answer.text);
    }
    for (path, _, fields) in families("a") {
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let answer = call(&late.app, post(path, never)).await;
        check(&answer, path, fields, 408);
    }
    let stuck = engines();
    let late = bench(&stuck, Limits { time: Duration::from_millis(30), ..LIMITS }, 100);
    for (path, body, fields) in families("wait") {
        let answer = call(&late.app, post(path, body.to_string())).await;
        check(&answer, path, fields, 504);
    }
    for engine in &stuck {
        engine.release();
    }
}

#[tokio::test]
async fn a_full_queue_has_the_familys_shape_and_says_when_to_come_again() {
    let engines = engines();
    let bench = Arc::new(bench(&engines, LIMITS, 1));
    let waiting = tokio::spawn({
        let bench = Arc::clone(&bench);
        let body = json!({"model": "embedder", "input": "wait"}).to_string();
        async move { call(&bench.app, post("/v1/embeddings", body)).await }
    });
    let queued = bench.board.metrics().queued_texts().clone();
    tokio::time::timeout(DEADLINE, async {
        while queued.get() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first request is admitted");
    for (path, body, fields) in families("a") {
        let answer = call(&bench.app, post(path, body.to_string())).await;
        check(&answer, path, fields, 429);
        assert!(answer.headers.contains_key(header::RETRY_AFTER), "{path}");
    }
    engines[0].release();
    assert_eq!(waiting.await.unwrap().status.as_u16(), 200);
}
