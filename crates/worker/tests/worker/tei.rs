//! The routes of Text Embeddings Inference: answers, options, and which model is meant.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use lamplighter_engine::{Gives, Pooling, Precision, Scale};
use lamplighter_worker::http::Limits;
use serde_json::{Value, json};

use crate::support::client::{Answer, call, get, post};
use crate::support::fake::{self, Fake, scores, vector};
use crate::support::{Bench, LIMITS};

fn embedder() -> Bench {
    Bench::serving(&[("embedder:1", Arc::new(Fake::new()))])
}

fn reranker() -> Bench {
    Bench::serving(&[("judge:1", Arc::new(Fake::scoring(&["LABEL_0"], Scale::Sigmoid)))])
}

fn classifier(scale: Scale) -> Bench {
    Bench::serving(&[("mood:1", Arc::new(Fake::scoring(&["glad", "sad"], scale)))])
}

/// One of each kind, and two versions of the first.
fn all() -> Bench {
    Bench::serving(&[
        ("embedder:1", Arc::new(Fake::new())),
        ("embedder:2*", Arc::new(Fake::new())),
        ("judge:1", Arc::new(Fake::scoring(&["LABEL_0"], Scale::Sigmoid))),
        ("mood:1", Arc::new(Fake::scoring(&["glad", "sad"], Scale::Softmax))),
    ])
}

async fn ask(bench: &Bench, path: &str, body: &Value) -> Answer {
    call(&bench.app, post(path, body.to_string())).await
}

async fn good(bench: &Bench, path: &str, body: &Value) -> Value {
    let answer = ask(bench, path, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{path} {body}: {}", answer.text);
    answer.json()
}

/// The status and the type of a failure, after a check of its shape.
async fn bad(bench: &Bench, path: &str, body: &Value) -> (u16, String, String) {
    let answer = ask(bench, path, body).await;
    let json = answer.json();
    let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["error", "error_type"], "{json}");
    let text = |field: &str| json[field].as_str().unwrap().to_owned();
    (answer.status.as_u16(), text("error_type"), text("error"))
}

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{found:?} {expected:?}");
    }
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.iter().map(|number| number / length).collect()
}

#[tokio::test]
async fn embed_gives_a_vector_of_length_1_for_each_text_unless_told_otherwise() {
    let bench = embedder();
    for (inputs, texts) in [
        (json!("a lamp"), vec!["a lamp"]),
        (json!(["a lamp", "b"]), vec!["a lamp", "b"]),
        (json!([[1, 4]]), vec!["a lamp"]),
    ] {
        let found = good(&bench, "/embed", &json!({"inputs": inputs})).await;
        let plain = good(&bench, "/embed", &json!({"inputs": inputs, "normalize": false})).await;
        for (at, text) in texts.iter().enumerate() {
            near(&floats(&found[at]), &unit(&vector(text)));
            near(&floats(&plain[at]), &vector(text));
        }
        assert_eq!(found.as_array().unwrap().len(), texts.len());
    }
    let short = json!({"inputs": "a lamp", "dimensions": 2});
    let found = good(&bench, "/embed", &short).await;
    near(&floats(&found[0]), &unit(&vector("a lamp")[..2]));
}

#[tokio::test]
async fn what_an_artifact_normalises_stays_so_whatever_a_client_sends_by_default() {
    let gives = Gives::Vectors {
        dimensions: 3,
        pooling: Pooling::Cls,
        normalized: true,
        matryoshka: Vec::new(),
    };
    let bench = Bench::serving(&[("embedder:1", Arc::new(Fake::giving(gives)))]);
    for normalize in [json!(false), json!(true), json!(null)] {
        let body = json!({"inputs": "a lamp", "normalize": normalize, "truncate": true});
        // As the engine gave it, which says that it has length 1.
        near(&floats(&good(&bench, "/embed", &body).await[0]), &vector("a lamp"));
    }
}

#[tokio::test]
async fn tokens_that_are_too_many_lose_those_of_the_text_or_are_refused() {
    let engine = Arc::new(Fake::new());
    let bench = Bench::serving(&[("embedder:1", Arc::clone(&engine))]);
    let text: Vec<u32> = (1..40).collect();
    let ids = [&[fake::OPEN][..], &text, &[fake::CLOSE]].concat();
    let room = fake::MAX_TOKENS - 2;
    let (end, start) = (&text[..room], &text[text.len() - room..]);
    for (more, kept) in [
        (json!({}), end),
        (json!({"truncate": true, "truncation_direction": "Right"}), end),
        (json!({"truncate": true, "truncation_direction": "Left"}), start),
    ] {
        let mut body = json!({"inputs": [ids, [7]], "normalize": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        engine.answered.lock().unwrap().clear();
        assert_eq!(good(&bench, "/embed", &body).await.as_array().unwrap().len(), 2, "{more}");
        let expected = [&[fake::OPEN][..], kept, &[fake::CLOSE]].concat();
        let answered = engine.answered.lock().unwrap().clone();
        assert!(answered.contains(&expected) && answered.contains(&vec![7]), "{answered:?}");
    }
    let refused = json!({"inputs": [[7], ids], "truncate": false});
    let (status, kind, error) = bad(&bench, "/embed", &refused).await;
    assert_eq!((status, kind.as_str()), (422, "tokenizer"));
    assert!(error.contains("inputs[1] has 41 tokens"), "{error}");
}

#[tokio::test]
async fn tokenize_sets_aside_what_the_tokens_take_and_not_what_the_bytes_could() {
    let engine = || Arc::new(Fake::new());
    let limits = Limits { answers: 200_000, ..LIMITS };
    let bench = Bench::bounded(&[("embedder:1", engine())], limits, 10);
    // Two tokens; as many as there are bytes would take three times what there is.
    let words = json!({"inputs": format!("{} b", "a".repeat(3_000))});
    assert_eq!(good(&bench, "/tokenize", &words).await[0].as_array().unwrap().len(), 4);
    // More tokens than anybody would have guessed, and than there is room for.
    let letters = json!({"inputs": "a ".repeat(1_500)});
    let (status, _, error) = bad(&bench, "/tokenize", &letters).await;
    assert_eq!(status, 422);
    assert!(error.contains("the answer to inputs may have"), "{error}");
    assert_eq!(good(&bench, "/tokenize", &words).await[0].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn texts_that_are_too_long_lose_the_end_that_was_named_or_are_refused() {
    let bench = embedder();
    let long = format!("xx {} yyy", "a ".repeat(fake::MAX_TOKENS - 1));
    let end = format!("xx {}", "a ".repeat(fake::MAX_TOKENS - 1));
    let start = format!("{} yyy", "a ".repeat(fake::MAX_TOKENS - 1));
    for (more, kept) in [
        (json!({}), &end),
        (json!({"truncate": true, "truncation_direction": "Right"}), &end),
        (json!({"truncate": null, "truncation_direction": "left"}), &start),
    ] {
        let mut body = json!({"inputs": long, "normalize": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        near(&floats(&good(&bench, "/embed", &body).await[0]), &vector(kept));
    }
    let refused = json!({"inputs": ["a", long], "truncate": false});
    let (status, kind, error) = bad(&bench, "/embed", &refused).await;
    assert_eq!((status, kind.as_str()), (422, "tokenizer"));
    assert!(error.contains("inputs[1] has 17 tokens"), "{error}");
}

#[tokio::test]
async fn embed_all_gives_a_vector_for_each_token() {
    let found = good(&embedder(), "/embed_all", &json!({"inputs": ["a lamp", "b"]})).await;
    assert_eq!(found, json!([[[1.0, 0.5, -1.0], [4.0, 2.0, -4.0]], [[1.0, 0.5, -1.0]]]));
}

#[tokio::test]
async fn tokenize_says_which_part_of_a_text_each_token_is_and_decode_goes_back() {
    let bench = embedder();
    let token = |id: u32, text: &str, start: usize| json!({"id": id, "text": text, "special": false, "start": start, "stop": start + text.len()});
    let bracket = |id: u32, text: &str| json!({"id": id, "text": text, "special": true, "start": null, "stop": null});
    let (open, close) = (bracket(fake::OPEN, "["), bracket(fake::CLOSE, "]"));
    let lamp = [open.clone(), token(1, "a", 0), token(4, "lamp", 2), close.clone()];
    let found = good(&bench, "/tokenize", &json!({"inputs": "a lamp"})).await;
    assert_eq!(found, json!([lamp]));
    let found = good(&bench, "/tokenize", &json!({"inputs": ["a lamp", "b"]})).await;
    assert_eq!(found, json!([lamp, [open, token(1, "b", 0), close]]));
    let plain = json!({"inputs": "a lamp", "add_special_tokens": false});
    assert_eq!(good(&bench, "/tokenize", &plain).await, json!([lamp[1..3]]));

    let ids = [fake::OPEN, 1, 4, fake::CLOSE];
    for (body, texts) in [
        (json!({"ids": ids}), json!(["- ----"])),
        (json!({"ids": [ids, [2, 2, 2, 2]]}), json!(["- ----", "-- -- -- --"])),
        (json!({"ids": ids, "skip_special_tokens": false}), json!(["[ - ---- ]"])),
    ] {
        assert_eq!(good(&bench, "/decode", &body).await, texts, "{body}");
    }
    for (path, body, status, says) in [
        ("/tokenize", json!({"inputs": [[1]]}), 422, "inputs must be texts"),
        ("/tokenize", json!({"inputs": ""}), 400, "inputs is an empty text"),
        ("/tokenize", json!({}), 422, "inputs is missing"),
        ("/decode", json!({"ids": "a"}), 422, "ids must be tokens"),
        ("/decode", json!({"ids": [[1], [fake::VOCABULARY]]}), 422, "/tokenize"),
    ] {
        let (found, _, error) = bad(&bench, path, &body).await;
        assert_eq!(found, status, "{path} {body}: {error}");
        assert!(error.contains(says), "{path} {body}: {error}");
    }
}

#[tokio::test]
async fn similarity_is_the_cosine_with_each_sentence() {
    let inputs = json!({"source_sentence": "a lamp", "sentences": ["a lamp", "river stone x"]});
    let body = json!({"inputs": inputs, "parameters": {"truncate": true}});
    let found = floats(&good(&embedder(), "/similarity", &body).await);
    let (a, b) = (unit(&vector("a lamp")), unit(&vector("river stone x")));
    let cosine = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    near(&found, &[1.0, cosine]);
}

#[tokio::test]
async fn predict_names_labels_and_sorts_them() {
    let of = |numbers: &[f32]| numbers.to_vec();
    let raw = scores("a lamp", 2);
    let sigmoid = |number: f32| 1.0 / (1.0 + (-number).exp());
    let softmax = 1.0_f32 / (1.0 + (-1.0_f32).exp());
    for (scale, options, expected) in [
        (Scale::Raw, json!({}), of(&raw)),
        (Scale::Sigmoid, json!({}), raw.iter().copied().map(sigmoid).collect()),
        (Scale::Softmax, json!({}), of(&[softmax, 1.0 - softmax])),
        (Scale::Softmax, json!({"raw_scores": true}), of(&raw)),
    ] {
        let bench = classifier(scale);
        let mut body = json!({"inputs": "a lamp"});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let found = good(&bench, "/predict", &body).await;
        assert_eq!(found[0]["label"], "glad");
        assert_eq!(found[1]["label"], "sad");
        near(&[floats(&json!([found[0]["score"], found[1]["score"]]))].concat(), &expected);
    }
    let several = json!({"inputs": [["a"], ["query", "a lamp"]], "raw_scores": true});
    let found = good(&classifier(Scale::Raw), "/predict", &several).await;
    near(&floats(&json!([found[0][0]["score"]])), &scores("a", 1));
    near(&floats(&json!([found[1][0]["score"]])), &scores("a lamp", 1));
    let pair = json!({"inputs": ["query", "a lamp"], "raw_scores": true});
    let found = good(&classifier(Scale::Raw), "/predict", &pair).await;
    near(&floats(&json!([found[0]["score"]])), &scores("a lamp", 1));
}

#[tokio::test]
async fn rerank_sorts_texts_and_repeats_them_when_asked() {
    let bench = reranker();
    let texts = ["a", "river stone", "lamp"];
    let body = json!({"query": "light", "texts": texts, "return_text": true, "raw_scores": true});
    let found = good(&bench, "/rerank", &body).await;
    for (place, index) in [1, 2, 0].into_iter().enumerate() {
        assert_eq!(found[place]["index"], index);
        assert_eq!(found[place]["text"], texts[index]);
        near(&floats(&json!([found[place]["score"]])), &scores(texts[index], 1));
    }
    let plain = good(&bench, "/rerank", &json!({"query": "light", "texts": texts})).await;
    assert!(plain[0].get("text").is_none(), "{plain}");
    let score = scores("river stone", 1)[0];
    near(&floats(&json!([plain[0]["score"]])), &[1.0 / (1.0 + (-score).exp())]);
}

#[tokio::test]
async fn the_root_does_what_the_model_is_for() {
    let embedder = embedder();
    for path in ["/", "/invocations"] {
        let vectors = good(&embedder, path, &json!({"inputs": "a lamp"})).await;
        near(&floats(&vectors[0]), &unit(&vector("a lamp")));
        let inputs = json!({"source_sentence": "a", "sentences": ["a"]});
        let cosines = good(&embedder, path, &json!({"inputs": inputs, "parameters": {}})).await;
        near(&floats(&cosines), &[1.0]);
        let body = json!({"inputs": "a lamp", "parameters": {}});
        let labels = good(&classifier(Scale::Softmax), path, &body).await;
        assert_eq!(labels[0]["label"], "glad");
        let ranks = good(&reranker(), path, &json!({"query": "a", "texts": ["b", "cc"]})).await;
        assert_eq!(ranks[0]["index"], 1);
    }
}

#[tokio::test]
async fn a_request_names_its_model_or_the_only_one_that_fits_is_meant() {
    let bench = all();
    let texts = json!({"query": "a", "texts": ["b", "cc"]});
    assert_eq!(good(&bench, "/rerank", &texts).await[0]["index"], 1);
    good(&bench, "/embed", &json!({"inputs": "a"})).await;
    good(&bench, "/embed", &json!({"inputs": "a", "model": "embedder:1"})).await;
    let named = Request::post("/predict")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-model", "mood")
        .body(Body::from(json!({"inputs": "a"}).to_string()));
    let answer = call(&bench.app, named.unwrap()).await;
    assert_eq!(answer.json()[0]["label"], "glad", "{}", answer.text);

    // Both models with scores could be meant.
    let (status, kind, error) = bad(&bench, "/predict", &json!({"inputs": "a"})).await;
    assert_eq!((status, kind.as_str()), (422, "validation"));
    assert!(error.contains("x-model") && error.contains("mood:1"), "{error}");
    let (status, _, error) = bad(&bench, "/embed", &json!({"inputs": "a", "model": "x"})).await;
    assert_eq!(status, 422);
    assert!(error.contains("\"x\" is not served"), "{error}");
    let wrong = json!({"inputs": "a", "model": "mood"});
    let (status, kind, error) = bad(&bench, "/embed", &wrong).await;
    assert_eq!((status, kind.as_str()), (424, "backend"));
    assert!(error.contains("gives scores and no vectors"), "{error}");
    let wrong = json!({"query": "a", "texts": ["b"], "model": "mood"});
    let (status, _, error) = bad(&bench, "/rerank", &wrong).await;
    assert_eq!(status, 424);
    assert!(error.contains("2 scores"), "{error}");
}

#[tokio::test]
async fn wrong_requests_have_teis_types_and_statuses() {
    let embedder = embedder();
    let reranker = reranker();
    let table = [
        (&embedder, "/embed", json!({}), 422, "validation", "inputs is missing"),
        (&embedder, "/embed", json!({"inputs": ""}), 400, "empty", "empty text"),
        (&embedder, "/embed", json!({"inputs": []}), 400, "empty", "inputs is empty"),
        (&embedder, "/embed", json!({"inputs": [1, "a"]}), 422, "validation", "[1]"),
        (&embedder, "/embed", json!({"inputs": "  "}), 422, "tokenizer", "cannot be tokenised"),
        (&embedder, "/embed", json!([]), 422, "validation", "expected a JSON object"),
        (&embedder, "/embed", json!(["hi"]), 422, "validation", "expected a JSON object"),
        (
            &embedder,
            "/similarity",
            json!({"inputs": ["a", ["b"]]}),
            422,
            "validation",
            "expected a JSON object",
        ),
        (&embedder, "/embed", json!({"inputs": "a", "truncate": 1}), 422, "validation", "truncate"),
        (
            &embedder,
            "/embed",
            json!({"inputs": "a", "truncation_direction": "Up"}),
            422,
            "validation",
            "must be Left or Right; it is Up",
        ),
        (
            &embedder,
            "/embed",
            json!({"inputs": "a", "prompt_name": "query"}),
            422,
            "validation",
            "prompts of artifacts are not read here",
        ),
        (
            &embedder,
            "/embed",
            json!({"inputs": "a", "dimensions": 4}),
            422,
            "validation",
            "only 1 to 3",
        ),
        (&embedder, "/embed", json!({"inputs": "nan"}), 424, "backend", "not finite"),
        (&embedder, "/embed", json!({"inputs": "fail"}), 424, "backend", "log says why"),
        (&embedder, "/embed", json!({"inputs": "panic"}), 424, "backend", "log says why"),
        (&embedder, "/predict", json!({"inputs": "a"}), 424, "backend", "gives vectors"),
        (&embedder, "/similarity", json!({}), 422, "validation", "inputs is missing"),
        (
            &embedder,
            "/similarity",
            json!({"inputs": {"source_sentence": "a"}}),
            422,
            "validation",
            "sentences is missing",
        ),
        (&reranker, "/rerank", json!({"query": "a"}), 422, "validation", "texts is missing"),
        (&reranker, "/rerank", json!({"query": "a", "texts": []}), 400, "empty", "texts is empty"),
        (&reranker, "/rerank", json!({"query": "", "texts": ["a"]}), 400, "empty", "query"),
        (&reranker, "/predict", json!({"inputs": []}), 400, "empty", "inputs is empty"),
        (&reranker, "/predict", json!({"inputs": 7}), 422, "validation", "is a number"),
        (&embedder, "/embed_sparse", json!({"inputs": "a"}), 404, "validation", "unknown request"),
    ];
    for (bench, path, body, status, kind, says) in table {
        let (found, found_kind, error) = bad(bench, path, &body).await;
        assert_eq!((found, found_kind.as_str()), (status, kind), "{path} {body}: {error}");
        assert!(error.contains(says), "{path} {body}: {error}");
    }
}

#[tokio::test]
async fn info_says_what_the_model_is_and_takes() {
    let info = call(&embedder().app, get("/info")).await.json();
    assert_eq!(info["model_id"], "embedder:1");
    assert_eq!(info["model_type"], json!({"embedding": {"pooling": "mean"}}));
    assert_eq!(info["model_dtype"], "float32");
    assert_eq!(info["max_input_length"], fake::MAX_TOKENS);
    assert_eq!(info["max_batch_tokens"], 24);
    assert_eq!(info["max_client_batch_size"], 2_048);
    let in_bf16 = Bench::serving(&[("a:1", Arc::new(Fake::computing_in(Precision::BF16)))]);
    assert_eq!(call(&in_bf16.app, get("/info")).await.json()["model_dtype"], "bfloat16");
    let info = call(&reranker().app, get("/info")).await.json();
    assert_eq!(info["model_type"]["reranker"]["id2label"], json!({"0": "LABEL_0"}));
    let info = call(&classifier(Scale::Raw).app, get("/info")).await.json();
    assert_eq!(info["model_type"]["classifier"]["label2id"], json!({"glad": 0, "sad": 1}));
}

#[tokio::test]
async fn health_follows_readiness_and_figures_have_teis_names() {
    let loading = Bench::loading(crate::support::LIMITS, 10);
    for path in ["/health", "/ping", "/"] {
        let answer = call(&loading.app, get(path)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.json()["error_type"], "unhealthy", "{path}");
        let answer = call(&embedder().app, get(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    let bench = embedder();
    good(&bench, "/embed", &json!({"inputs": ["a lamp", "b"]})).await;
    bad(&bench, "/embed", &json!({"inputs": ""})).await;
    bad(&bench, "/embed", &json!({"inputs": "fail"})).await;
    let samples = crate::metrics::parse(&call(&bench.app, get("/metrics")).await.text);
    for (name, value) in [
        ("te_request_count{method=\"batch\"}", 1.0),
        ("te_request_count{method=\"single\"}", 1.0),
        ("te_request_success{method=\"batch\"}", 1.0),
        ("te_request_failure{err=\"empty\"}", 1.0),
        ("te_request_failure{err=\"backend\"}", 1.0),
        ("te_request_duration_count", 1.0),
        ("te_request_tokenization_duration_count", 1.0),
        ("te_request_queue_duration_count", 2.0),
        // Of all that was computed, also of what failed.
        ("te_batch_next_size_sum", 3.0),
        ("te_batch_next_tokens_sum", 4.0),
        ("te_request_input_length_sum", 3.0),
        ("te_embed_count", 3.0),
        ("te_embed_success", 2.0),
        ("te_predict_count", 0.0),
        ("te_queue_size", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    // However the threads shared them.
    let batches = samples["te_batch_next_size_count"];
    assert!((2.0..=3.0).contains(&batches), "{batches}");
    for name in ["te_batch_next_tokens_count", "te_request_inference_duration_count"] {
        assert_eq!(samples.get(name), Some(&batches), "{name}");
    }
}
