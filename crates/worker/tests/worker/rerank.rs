//! `POST /v1/rerank` and `POST /v2/rerank`, as clients of Cohere and of Jina know them.

use std::sync::Arc;

use axum::http::StatusCode;
use lamplighter_engine::Scale;
use serde_json::{Value, json};

use crate::support::Bench;
use crate::support::client::{Answer, call, post};
use crate::support::fake::{Fake, scores};

const PATHS: [&str; 2] = ["/v1/rerank", "/v2/rerank"];

fn bench() -> Bench {
    Bench::serving(&[
        ("judge:1", Arc::new(Fake::scoring(&["LABEL_0"], Scale::Raw))),
        ("embedder:1", Arc::new(Fake::new())),
        ("mood:1", Arc::new(Fake::scoring(&["glad", "sad"], Scale::Softmax))),
    ])
}

async fn ask(bench: &Bench, path: &str, body: &Value) -> Answer {
    call(&bench.app, post(path, body.to_string())).await
}

fn relevance(text: &str) -> f64 {
    1.0 / (1.0 + (-f64::from(scores(text, 1)[0])).exp())
}

#[tokio::test]
async fn documents_come_in_falling_order_with_the_fields_of_cohere_and_jina() {
    let bench = bench();
    let documents = json!(["a", {"text": "river stone", "id": 7}, "lamp"]);
    let mut ids = Vec::new();
    for (path, version) in PATHS.into_iter().zip(["1", "2"]) {
        let body = json!({"model": "judge", "query": "in", "documents": documents});
        let answer = ask(&bench, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let json = answer.json();
        let results = json["results"].as_array().unwrap();
        let order: Vec<&Value> = results.iter().map(|found| &found["index"]).collect();
        assert_eq!(order, [1, 2, 0], "{json}");
        for (found, text) in results.iter().zip(["river stone", "lamp", "a"]) {
            let score = found["relevance_score"].as_f64().unwrap();
            assert!((score - relevance(text)).abs() < 1e-6, "{text}: {score}");
            assert!(found.get("document").is_none(), "{found}");
        }
        assert_eq!(json["model"], "judge:1");
        // One word of the query with each document.
        assert_eq!(json["usage"], json!({"total_tokens": 7}));
        assert_eq!(json["meta"]["api_version"]["version"], version);
        assert_eq!(json["meta"]["tokens"]["input_tokens"], 7);
        ids.push(json["id"].as_str().unwrap().to_owned());
    }
    assert_ne!(ids[0], ids[1], "each answer has its own name");
}

#[tokio::test]
async fn the_best_are_enough_and_documents_are_repeated_when_asked() {
    let bench = bench();
    let body = json!({
        "model": "judge:1", "query": "in", "documents": ["a", {"text": "lamp"}], "top_n": 1,
        "return_documents": true, "max_tokens_per_doc": 8, "rank_fields": ["text"], "priority": 1,
    });
    let json = ask(&bench, "/v1/rerank", &body).await.json();
    assert_eq!(json["results"].as_array().unwrap().len(), 1);
    assert_eq!(json["results"][0]["document"], json!({"text": "lamp"}));
    let long = "lamp ".repeat(100);
    let body = json!({"model": "judge", "query": "in", "documents": [long]});
    let answer = ask(&bench, "/v2/rerank", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "long documents are cut: {}", answer.text);
}

#[tokio::test]
async fn the_one_reranker_need_not_be_named() {
    let bench = bench();
    for path in PATHS {
        let answer = ask(&bench, path, &json!({"query": "in", "documents": ["a"]})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.json()["model"], "judge:1");
        let body = json!({"query": "in", "documents": ["a"]}).to_string();
        let mut by_header = post(path, body);
        by_header.headers_mut().insert("x-model", "mood".parse().unwrap());
        let answer = call(&bench.app, by_header).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text.contains("the model mood:1 gives 2 scores"), "{}", answer.text);
    }
}

#[tokio::test]
async fn wrong_requests_are_refused_in_coheres_shape() {
    let bench = bench();
    let with = |field: &str, value: Value| {
        let mut body = json!({"model": "judge", "query": "in", "documents": ["a"]});
        body[field] = value;
        body
    };
    for (body, status, says) in [
        (with("model", json!(["judge"])), 400, "model must be a text; it is a list"),
        (with("model", json!("nobody")), 404, "\"nobody\" is not served"),
        (with("model", json!("embedder")), 400, "gives vectors and no scores"),
        (with("model", json!("mood")), 400, "gives 2 scores"),
        (with("query", Value::Null), 400, "query is missing"),
        (with("query", json!("")), 400, "query is an empty text"),
        (with("query", json!(7)), 400, "query must be a text; it is 7"),
        (with("documents", Value::Null), 400, "documents is missing"),
        (with("documents", json!([])), 400, "documents is empty"),
        (with("documents", json!("a")), 400, "documents is a text, not a list"),
        (with("documents", json!(["a", {"body": "b"}])), 400, "documents[1] is an object"),
        (with("documents", json!(vec!["a"; 2_049])), 400, "more than 2048 texts"),
        (with("top_n", json!(0)), 400, "top_n must be a whole number above 0"),
        (with("return_documents", json!("yes")), 400, "return_documents must be true or false"),
        (with("rank_fields", json!(["title"])), 400, "rank_fields must be"),
        (json!(7), 400, "JSON object"),
        (json!(["judge", "in", ["a"]]), 400, "expected a JSON object"),
    ] {
        for path in PATHS {
            let answer = ask(&bench, path, &body).await;
            assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
            let json = answer.json();
            assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
            assert!(json["message"].as_str().unwrap().contains(says), "{body}: {json}");
        }
    }
}
