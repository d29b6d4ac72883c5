//! The real binary with models of every kind: what they are for is what they give.

use std::fs;

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, Reason, ResolveRecord};
use serde_json::{Value, json};

use crate::support::artifact::Place;
use crate::support::client::Http;
use crate::support::process::{self, Process};

const QUERY: &str = "the lamp";
const PASSAGES: [&str; 3] = ["river stone", "light", "the lamp the lamp winter"];

fn words(place: &Place) -> Failure {
    let words = fs::read_to_string(place.termination_log()).unwrap();
    Failure::from_termination_message(&words).expect(&words)
}

async fn resolve(place: &Place, model: &str) {
    let file = |name: &str| place.path().join(name).display().to_string();
    let line = [
        "resolve",
        "--manifest",
        &file("manifest.json"),
        "--termination-log",
        &file("termination-log"),
        "--model",
        model,
    ];
    process::run(&line.map(str::to_owned)).await;
}

async fn record_golden(place: &Place, more: &[&str]) -> Vec<Value> {
    let artifact = place.artifact().display().to_string();
    let line = ["golden", "--artifact", &artifact].into_iter().chain(more.iter().copied());
    let ended = process::run(&line.map(str::to_owned).collect::<Vec<_>>()).await;
    assert!(ended.status.success(), "{ended:?}");
    let golden = fs::read_to_string(place.artifact().join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn listed(place: &Place, task: &str, check: Option<Value>) {
    let mut entry = place.entry("embedder");
    entry["task"] = json!(task);
    if let Some(check) = check {
        entry["validation"] = json!({"cases": [{"name": "own", "check": check}]});
    }
    place.write_manifest(&[entry]);
}

#[tokio::test]
async fn a_model_of_another_kind_than_its_task_neither_resolves_nor_serves() {
    for (model, task) in [
        ("bert-mean", "Rerank"),
        ("distilbert-max", "Classification"),
        ("bert-reranker", "Embedding"),
        ("bert-classes", "Rerank"),
    ] {
        let place = Place::of_family(model);
        listed(&place, task, None);
        resolve(&place, "embedder:1").await;
        let looked_at = words(&place);
        process::serve_to_end(place.path(), &[]).await;
        for failure in [looked_at, words(&place)] {
            assert_eq!(failure.reason, Reason::TaskMismatch, "{model}: {failure}");
            assert!(failure.message.contains(task), "{model}: {failure}");
        }
    }
}

#[tokio::test]
async fn a_projected_models_vectors_have_the_length_that_was_resolved() {
    let place = Place::of_family("bert-dense");
    record_golden(&place, &[]).await;
    listed(&place, "Embedding", None);
    resolve(&place, "embedder:1").await;
    let record = fs::read_to_string(place.termination_log()).unwrap();
    let record = ResolveRecord::from_termination_message(&record).expect(&record);
    assert_eq!((record.dimensions, record.pooling.as_str()), (12, "cls"));

    let worker = Process::start(place.path(), &[]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    let answer = http.embed(worker.serving, "the lamp").await.unwrap().json();
    assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len(), 12);
    worker.terminate();
    worker.ended().await;
}

#[tokio::test]
async fn a_reranker_is_checked_by_its_scores_before_it_serves() {
    let place = Place::of_family("bert-reranker");
    let pairs = PASSAGES.map(|passage| format!("--text={QUERY}\t{passage}"));
    let recorded = record_golden(&place, &pairs.each_ref().map(String::as_str)).await;
    let score = |at: usize| recorded[at]["scores"][0].as_f64().unwrap();
    let mut order = [0, 1, 2];
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    let ranking = |order: &[usize]| json!({"ranking": {"query": QUERY, "passages": PASSAGES, "order": order}});

    listed(&place, "Rerank", Some(ranking(&order)));
    let worker = Process::start(place.path(), &[]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    let status = http.get(worker.admin, "/status").await.unwrap().json();
    let cases = status["models"][0]["validation"]["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 4, "{status}");
    assert!(cases.iter().all(|case| case["passed"] == true), "{status}");
    worker.terminate();
    worker.ended().await;

    order.reverse();
    let similarity = json!({"similarity": {"texts": [QUERY, "x"], "atLeast": "-1"}});
    for (check, found) in [(ranking(&order), "order"), (similarity, "no cosine")] {
        listed(&place, "Rerank", Some(check));
        process::serve_to_end(place.path(), &[]).await;
        let failure = words(&place);
        assert_eq!(failure.reason, Reason::ValidationFailed, "{failure}");
        assert!(failure.found.as_ref().unwrap().contains(found), "{failure:?}");
    }
}

#[tokio::test]
async fn a_classifier_is_recorded_and_serves() {
    let place = Place::of_family("roberta-tags");
    let recorded = record_golden(&place, &[]).await;
    assert!(recorded.len() > 1, "there are texts without any flag");
    assert_eq!(recorded[0]["scores"].as_array().unwrap().len(), 3);
    listed(&place, "Classification", None);
    let worker = Process::start(place.path(), &[]).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    worker.terminate();
    worker.ended().await;
}
