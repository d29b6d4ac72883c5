//! Every route: what it answers, and what it does under pressure.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use lamplighter_engine::{Gives, Pooling};
use lamplighter_protocol::place::POD_HEADER;
use lamplighter_worker::http::Limits;
use serde_json::{Value, json};

use crate::support::client::{Answer, call, get, post};
use crate::support::fake::{self, Fake, vector};
use crate::support::{Bench, DEADLINE, LIMITS, POD};

const EMBEDDINGS: &str = "/v1/embeddings";

fn bench() -> Bench {
    Bench::ready(&Arc::new(Fake::new()))
}

async fn embed(bench: &Bench, body: &Value) -> Answer {
    call(&bench.app, post(EMBEDDINGS, body.to_string())).await
}

fn vectors(answer: &Answer) -> Vec<Vec<f32>> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let json = answer.json();
    let data = json["data"].as_array().unwrap();
    for (index, entry) in data.iter().enumerate() {
        assert_eq!(entry["index"], index, "{json}");
        assert_eq!(entry["object"], "embedding", "{json}");
    }
    data.iter().map(|entry| serde_json::from_value(entry["embedding"].clone()).unwrap()).collect()
}

#[tokio::test]
async fn good_requests_are_answered() {
    let bench = bench();
    let words = |count: usize| "a ".repeat(count);
    let table: Vec<(Value, Vec<&str>, usize)> = vec![
        (json!({"model": "embedder", "input": "a lamp"}), vec!["a lamp"], 2),
        (json!({"model": "embedder:1", "input": "a"}), vec!["a"], 1),
        (json!({"model": "embedder:2", "input": ["a"]}), vec!["a"], 1),
        (json!({"model": "other", "input": ["b c", "d"]}), vec!["b c", "d"], 3),
        (json!({"model": "other:1", "input": ["ä", "日本 語"]}), vec!["ä", "日本 語"], 3),
        (json!({"model": "other", "input": [1, 4]}), vec!["a lamp"], 2),
        (json!({"model": "other", "input": [[1, 4], [4]]}), vec!["a lamp", "lamp"], 3),
        (json!({"model": "other", "input": "a", "encoding_format": "float"}), vec!["a"], 1),
        (json!({"model": "other", "input": "a", "encoding_format": null}), vec!["a"], 1),
        (json!({"model": "other", "input": "a", "dimensions": fake::DIMENSIONS}), vec!["a"], 1),
        (json!({"model": "other", "input": "a", "dimensions": null}), vec!["a"], 1),
        (json!({"model": "other", "input": "a", "user": "u-1"}), vec!["a"], 1),
        (json!({"model": "other", "input": "a", "later_field": {"x": []}}), vec!["a"], 1),
    ];
    for (body, texts, tokens) in table {
        let answer = embed(&bench, &body).await;
        let expected: Vec<Vec<f32>> = texts.iter().map(|text| vector(text)).collect();
        assert_eq!(vectors(&answer), expected, "{body}");
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        assert_eq!(answer.json()["usage"], usage, "{body}");
        assert_eq!(answer.json()["object"], "list", "{body}");
    }
    let longest = json!({"model": "other", "input": words(fake::MAX_TOKENS)});
    assert_eq!(embed(&bench, &longest).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_plain_name_means_the_default_version_and_the_answer_says_which() {
    let bench = bench();
    for (asked, meant) in
        [("embedder", "embedder:2"), ("embedder:1", "embedder:1"), ("other", "other:1")]
    {
        let answer = embed(&bench, &json!({"model": asked, "input": "a"})).await;
        assert_eq!(answer.json()["model"], meant);
    }
}

#[tokio::test]
async fn who_names_no_model_means_that_of_the_header_or_the_only_one() {
    let body = json!({"input": "a", "model": null}).to_string();
    let one = Bench::serving(&[("embedder:1", Arc::new(Fake::new()))]);
    let several = bench();
    for path in [EMBEDDINGS, "/embeddings"] {
        let answer = call(&one.app, post(path, body.clone())).await;
        assert_eq!(vectors(&answer), [vector("a")], "{path}");
        assert_eq!(answer.json()["model"], "embedder:1");
        let by_header = |body: &str| {
            let mut request = post(path, body.to_owned());
            request.headers_mut().insert("x-model", "other".parse().unwrap());
            request
        };
        let answer = call(&several.app, by_header(&body)).await;
        assert_eq!(answer.json()["model"], "other:1", "{path}: {}", answer.text);
        let named = json!({"input": "a", "model": "embedder:1"}).to_string();
        let answer = call(&several.app, by_header(&named)).await;
        assert_eq!(answer.json()["model"], "embedder:1", "the field goes before the header");
    }
}

#[tokio::test]
async fn base64_holds_the_same_numbers_as_floats() {
    let bench = bench();
    let input = ["a lamp", "b", "the river and the stone"];
    let floats = embed(&bench, &json!({"model": "other", "input": input})).await;
    let body = json!({"model": "other", "input": input, "encoding_format": "base64"});
    let encoded = embed(&bench, &body).await.json();
    let decoded: Vec<Vec<f32>> = encoded["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let bytes = STANDARD.decode(entry["embedding"].as_str().unwrap()).unwrap();
            let (numbers, rest) = bytes.as_chunks();
            assert!(rest.is_empty());
            numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        })
        .collect();
    assert_eq!(decoded, vectors(&floats));
}

#[tokio::test]
async fn a_shorter_vector_is_the_beginning_and_has_length_1_if_the_whole_one_has() {
    let input = json!({"model": "embedder", "input": "a lamp", "dimensions": 2});
    for normalized in [false, true] {
        let gives = Gives::Vectors {
            dimensions: 3,
            pooling: Pooling::Mean,
            normalized,
            matryoshka: Vec::new(),
        };
        let bench = Bench::serving(&[("embedder:1", Arc::new(Fake::giving(gives)))]);
        let found = vectors(&embed(&bench, &input).await).remove(0);
        let whole = vector("a lamp");
        let length = if normalized { whole[0].hypot(whole[1]) } else { 1.0 };
        assert_eq!(found.len(), 2);
        for (found, whole) in found.iter().zip(whole) {
            assert!((found - whole / length).abs() < 1e-6, "{found} {whole} {normalized}");
        }
    }
}

#[tokio::test]
async fn many_texts_of_all_lengths_come_back_in_order_from_several_batches() {
    let engine = Arc::new(Fake::new());
    let bench = Bench::ready(&engine);
    let texts: Vec<String> = (0..500)
        .map(|index| format!("w{index}").repeat(index % 3 + 1) + &" a".repeat(index % 16))
        .collect();
    let answer = embed(&bench, &json!({"model": "other", "input": texts})).await;
    let expected: Vec<Vec<f32>> = texts.iter().map(|text| vector(text)).collect();
    assert_eq!(vectors(&answer), expected);
    assert_eq!(*engine.largest_batch.lock().unwrap(), 4, "batches are filled");
}

#[tokio::test]
async fn models_lists_every_name_that_a_request_may_use() {
    let bench = bench();
    let list = call(&bench.app, get("/v1/models")).await.json();
    assert_eq!(list["object"], "list");
    let names: Vec<(&str, &str)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["id"].as_str().unwrap(), entry["root"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("embedder", "embedder:2"),
            ("embedder:1", "embedder:1"),
            ("embedder:2", "embedder:2"),
            ("other", "other:1"),
            ("other:1", "other:1"),
        ]
    );
    for (name, root) in names {
        let one = call(&bench.app, get(&format!("/v1/models/{name}"))).await.json();
        assert_eq!(one["id"], name);
        assert_eq!(one["root"], root);
        assert_eq!(one["object"], "model");
        assert_eq!(one["owned_by"], "lamplighter");
        assert_eq!(one["max_model_len"], fake::MAX_TOKENS);
        assert!(one["created"].as_u64().unwrap() > 1_700_000_000);
    }
    let escaped = call(&bench.app, get("/v1/models/embedder%3A1")).await;
    assert_eq!(escaped.json()["id"], "embedder:1");
}

#[tokio::test]
async fn a_model_that_is_not_served_is_not_found_by_its_route_either() {
    let bench = bench();
    let answer = call(&bench.app, get("/v1/models/nobody")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.error_code(), "model_not_found");
    let answer = call(&bench.app, get("/v1/models/%ff")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.error_code(), "invalid_value");
}

#[tokio::test]
async fn identity_names_revision_pod_and_digests() {
    let bench = bench();
    let answer = call(&bench.app, get("/lamplighter/identity")).await;
    assert_eq!(
        answer.json(),
        json!({
            "revision": "7c9f0e5b21",
            "podUid": POD,
            "podName": "search-0",
            "models": [
                {"key": "embedder:1", "digest": "sha256:111"},
                {"key": "embedder:2", "digest": "sha256:222"},
                {"key": "other:1", "digest": "sha256:111"},
            ],
        })
    );
    assert_eq!(answer.headers[POD_HEADER], POD);
}

#[tokio::test]
async fn before_the_models_are_ready_every_route_says_when_to_come_again() {
    let limits = Limits { body: 1_000, bodies: 10_000, ..LIMITS };
    let bench = Bench::loading(limits, 10);
    bench.board.track(0).begin(lamplighter_protocol::Phase::Fetch);
    let requests = [
        post(EMBEDDINGS, json!({"model": "other", "input": "a"}).to_string()),
        get("/v1/models"),
        get("/v1/models/other"),
        get("/lamplighter/identity"),
    ];
    for request in requests {
        let path = request.uri().path().to_owned();
        let answer = call(&bench.app, request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.error_code(), "loading", "{path}");
        assert_eq!(answer.json()["error"]["type"], "server_error", "{path}");
        assert!(answer.text.contains("embedder:1 is in phase Fetch"), "{}", answer.text);
        let seconds: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!(seconds >= 1, "{path}");
    }
}

#[tokio::test]
async fn a_failed_run_is_a_500_that_tells_only_the_log() {
    let bench = bench();
    for text in ["panic", "fail"] {
        let answer = embed(&bench, &json!({"model": "other", "input": text})).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{text}");
        assert_eq!(answer.error_code(), "internal_error", "{text}");
        assert!(!answer.text.contains("told to"), "{}", answer.text);
    }
    let after = embed(&bench, &json!({"model": "other", "input": "a"})).await;
    assert_eq!(vectors(&after), [vector("a")], "one bad run does not spoil the next");
}

#[tokio::test]
async fn an_output_that_is_not_finite_fails_its_request_and_asks_for_no_retry() {
    let bench = bench();
    let answer = embed(&bench, &json!({"model": "other", "input": ["a", "nan"]})).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.error_code(), "output_not_finite");
    assert_eq!(answer.headers["x-should-retry"], "false");
}

#[tokio::test]
async fn a_full_queue_refuses_whole_requests_with_retry_after_and_recovers() {
    let engine = Arc::new(Fake::new());
    let limits = Limits { body: 10_000, bodies: 100_000, ..LIMITS };
    let bench = Arc::new(Bench::loading(limits, 4));
    bench.open(&engine);
    let waiting = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { embed(&bench, &json!({"model": "other", "input": ["wait", "a", "b"]})).await }
    });
    let queued = bench.board.metrics().queued_texts().clone();
    tokio::time::timeout(DEADLINE, async {
        while queued.get() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first request is admitted");
    engine.waits().await;

    // Interactive texts find a quarter more than the four places.
    let refused = embed(&bench, &json!({"model": "other", "input": ["a", "b", "c"]})).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.error_code(), "queue_full");
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    let seconds: u64 = refused.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    let fits = embed(&bench, &json!({"model": "other", "input": "a"})).await;
    assert_eq!(fits.status, StatusCode::OK, "the room that is left is given");
    let never = embed(&bench, &json!({"model": "other", "input": ["a", "b", "c", "d", "e"]})).await;
    assert_eq!(never.status, StatusCode::BAD_REQUEST, "what never fits is not told to retry");

    engine.release();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
    let after = embed(&bench, &json!({"model": "other", "input": ["a", "b", "c", "d"]})).await;
    assert_eq!(after.status, StatusCode::OK);
    assert_eq!(queued.get(), 0);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() {
    let engine = Arc::new(Fake::new());
    let limits =
        Limits { body: 10_000, bodies: 100_000, time: Duration::from_millis(50), ..LIMITS };
    let bench = Bench::loading(limits, 4);
    bench.open(&engine);
    let late = embed(&bench, &json!({"model": "other", "input": "wait"})).await;
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(late.error_code(), "deadline_exceeded");
    assert_eq!(bench.board.metrics().queued_texts().get(), 0, "its place is free again");
    engine.release();

    let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let slow = call(&bench.app, post(EMBEDDINGS, never)).await;
    assert_eq!(slow.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(slow.error_code(), "request_timeout");
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_and_a_broken_one_is_the_clients_fault() {
    let bench = bench();
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1_000])));
    let answer = call(&bench.app, post(EMBEDDINGS, Body::from_stream(endless))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.error_code(), "request_too_large");

    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err("gone")]);
    let answer = call(&bench.app, post(EMBEDDINGS, Body::from_stream(broken))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.error_code(), "incomplete_body");
}
