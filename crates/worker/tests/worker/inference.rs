//! The Open Inference Protocol: metadata, readiness, tensors as JSON and as bytes.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use lamplighter_engine::Scale;
use lamplighter_worker::http;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::client::{Answer, call, get, post};
use crate::support::fake::{DIMENSIONS, Fake, scores, vector};
use crate::support::{Bench, LIMITS};

fn bench() -> Bench {
    Bench::serving(&[
        ("embedder:1", Arc::new(Fake::new())),
        ("embedder:2*", Arc::new(Fake::new())),
        ("mood:1", Arc::new(Fake::scoring(&["glad", "sad"], Scale::Raw))),
    ])
}

fn tensor(name: &str, texts: &[&str]) -> Value {
    json!({"name": name, "shape": [texts.len()], "datatype": "BYTES", "data": texts})
}

async fn ask(bench: &Bench, path: &str, body: &Value) -> Answer {
    call(&bench.app, post(path, body.to_string())).await
}

#[tokio::test]
async fn the_server_and_its_models_say_what_they_are() {
    let bench = bench();
    for path in ["/v2", "/v2/"] {
        let json = call(&bench.app, get(path)).await.json();
        assert_eq!(json["name"], "lamplighter-worker", "{path}");
        assert_eq!(json["extensions"], json!(["binary_tensor_data", "model_repository"]));
    }
    let json = call(&bench.app, get("/v2/models/embedder")).await.json();
    let text = json!({"name": "text", "datatype": "BYTES", "shape": [-1]});
    let embedding = json!({"name": "embedding", "datatype": "FP32", "shape": [-1, DIMENSIONS]});
    assert_eq!(json["name"], "embedder");
    assert_eq!(json["versions"], json!(["1", "2"]));
    assert_eq!(json["inputs"], json!([text]));
    assert_eq!(json["outputs"], json!([embedding]));
    let json = call(&bench.app, get("/v2/models/mood/versions/1")).await.json();
    let second = json!({"name": "text_pair", "datatype": "BYTES", "shape": [-1]});
    let scores = json!({"name": "scores", "datatype": "FP32", "shape": [-1, 2]});
    assert_eq!(json["inputs"], json!([text, second]));
    assert_eq!(json["outputs"], json!([scores]));
    for path in ["/v2/models/embedder/ready", "/v2/models/embedder/versions/2/ready"] {
        let answer = call(&bench.app, get(path)).await;
        assert_eq!(answer.json(), json!({"name": "embedder", "ready": true}), "{path}");
    }
    let index = call(&bench.app, post("/v2/repository/index", "")).await.json();
    let entry = |name: &str, version: &str| json!({"name": name, "version": version, "state": "READY", "reason": ""});
    assert_eq!(index, json!([entry("embedder", "1"), entry("embedder", "2"), entry("mood", "1")]));
}

#[tokio::test]
async fn readiness_is_that_of_the_worker_and_life_is_not() {
    let loading = Bench::loading(LIMITS, 10);
    loading.board.track(0).begin(lamplighter_protocol::Phase::Fetch);
    let live = call(&loading.app, get("/v2/health/live")).await;
    assert_eq!((live.status, live.json()), (StatusCode::OK, json!({"live": true})));
    for path in ["/v2/health/ready", "/v2/models/embedder/ready", "/v2/models/embedder"] {
        let answer = call(&loading.app, get(path)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}");
    }
    let index = call(&loading.app, post("/v2/repository/index", "")).await.json();
    assert_eq!(index[0]["state"], "LOADING", "{index}");
    let index = call(&loading.app, post("/v2/repository/index", r#"{"ready": true}"#)).await.json();
    assert_eq!(index, json!([]));
    let ready = call(&bench().app, get("/v2/health/ready")).await;
    assert_eq!((ready.status, ready.json()), (StatusCode::OK, json!({"ready": true})));
}

#[tokio::test]
async fn texts_become_vectors_and_the_id_comes_back() {
    let bench = bench();
    let id = "i".repeat(260);
    let body = json!({"id": id, "inputs": [tensor("text", &["a lamp", "b"])],
                      "outputs": [{"name": "embedding"}]});
    for (path, version) in [
        ("/v2/models/embedder/infer", "2"),
        ("/v2/models/embedder/versions/1/infer", "1"),
        ("/v2/models/embedder%3A1/infer", "1"),
    ] {
        let answer = ask(&bench, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["id"], id);
        assert_eq!(json["model_name"], "embedder");
        assert_eq!(json["model_version"], version);
        let data: Vec<f32> = serde_json::from_value(json["outputs"][0]["data"].clone()).unwrap();
        assert_eq!(data, [vector("a lamp"), vector("b")].concat());
        assert_eq!(json["outputs"][0]["shape"], json!([2, DIMENSIONS]));
        assert_eq!(json["outputs"][0]["datatype"], "FP32");
        assert_eq!(json["outputs"][0]["name"], "embedding");
    }
}

#[tokio::test]
async fn pairs_become_scores() {
    let inputs = [tensor("text", &["in", "in"]), tensor("text_pair", &["a", "lamp"])];
    let json = ask(&bench(), "/v2/models/mood/infer", &json!({"inputs": inputs})).await.json();
    let data: Vec<f32> = serde_json::from_value(json["outputs"][0]["data"].clone()).unwrap();
    assert_eq!(data, [scores("a", 2), scores("lamp", 2)].concat());
    assert_eq!(json["outputs"][0]["shape"], json!([2, 2]));
    assert_eq!(json["outputs"][0]["name"], "scores");
}

#[tokio::test]
async fn tensors_come_and_go_as_bytes() {
    let input = json!({"name": "text", "shape": [2, 1], "datatype": "BYTES",
                       "parameters": {"binary_data_size": 15}});
    let head = json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string();
    let body = [head.as_bytes(), b"\x06\0\0\0a lamp\x01\0\0\0b"].concat();
    let request = Request::post("/v2/models/embedder/infer")
        .header("inference-header-content-length", head.len())
        .body(Body::from(body))
        .unwrap();
    let bench = bench();
    let answer = http::router(Arc::clone(&bench.app)).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let length = answer.headers()["inference-header-content-length"].to_str().unwrap();
    let length: usize = length.parse().unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json: Value = serde_json::from_slice(&body[..length]).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 4 * 2 * DIMENSIONS);
    assert!(json["outputs"][0].get("data").is_none(), "{json}");
    let (numbers, rest) = body[length..].as_chunks();
    assert!(rest.is_empty());
    let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(numbers, [vector("a lamp"), vector("b")].concat());
}

#[tokio::test]
async fn wrong_requests_say_so_in_one_field() {
    let bench = bench();
    let good = json!({"inputs": [tensor("text", &["a"])]});
    let pairs = json!({"inputs": [tensor("text", &["a"]), tensor("text_pair", &["b"])]});
    let uneven = json!({"inputs": [tensor("text", &["a"]), tensor("text_pair", &["b", "c"])]});
    let infer = "/v2/models/embedder/infer";
    for (path, body, status, says) in [
        ("/v2/models/nobody/infer", good.clone(), 404, "not served"),
        ("/v2/models/embedder/versions/9/infer", good, 404, "\"embedder:9\" is not served"),
        (infer, json!({}), 400, "inputs is missing"),
        (infer, json!([]), 400, "JSON object"),
        (
            infer,
            json!({"id": "i".repeat(1_025), "inputs": [tensor("text", &["a"])]}),
            400,
            "at most 1024 bytes",
        ),
        (infer, pairs, 400, "reads no pairs"),
        ("/v2/models/mood/infer", uneven, 400, "1 texts and 2"),
        (infer, json!({"inputs": [tensor("text", &[])]}), 400, "is empty"),
        (infer, json!({"inputs": [tensor("text", &["a", ""])]}), 400, "text[1] is an empty"),
        (infer, json!({"inputs": [tensor("text", &["fail"])]}), 500, "log says why"),
        (
            infer,
            json!({"inputs": [tensor("text", &["a"])], "outputs": [{"name": "scores"}]}),
            400,
            "outputs must be the tensor `embedding`",
        ),
        (infer, json!({"inputs": [tensor("text", &[&"a ".repeat(17)])]}), 400, "17 tokens"),
        ("/v2/models/embedder/unload", json!({}), 404, "unknown request URL"),
    ] {
        let answer = ask(&bench, path, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {}", answer.text);
        let json = answer.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        assert!(json["error"].as_str().unwrap().contains(says), "{body}: {json}");
    }
}
