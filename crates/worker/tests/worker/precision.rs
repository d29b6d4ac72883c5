//! Which precision the real binary serves in, and who has a say in it.

use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::{self, BINARY, Process};

const TEXTS: [&str; 2] = ["the lamp", "river stone light winter"];

/// Serves with these validation cases; the cosine of the two texts, and what the model computes with.
async fn served(precision: &str, validation: Value) -> (f64, Value) {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["validation"] = validation;
    place.write_manifest(&[entry]);
    let more = ["--precision", precision];
    let worker = Process::start_as(process::serving(Path::new(BINARY), place.path(), &more)).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    let mut vectors: Vec<Vec<f64>> = Vec::new();
    for text in TEXTS {
        let answer = Http::one().embed(worker.serving, text).await.unwrap().json();
        vectors.push(serde_json::from_value(answer["data"][0]["embedding"].clone()).unwrap());
    }
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let [a, b] = vectors.as_slice() else { panic!("two texts") };
    let cosine = product(a, b) / (product(a, a) * product(b, b)).sqrt();
    let status = Http::one().get(worker.admin, "/status").await.unwrap().json();
    (cosine, status["models"][0]["runtime"].clone())
}

/// Guarantees: gates-17.
#[tokio::test]
async fn a_case_that_bf16_answers_wrongly_has_the_model_serve_in_floats() {
    let disabled = json!({"mode": "Disabled"});
    let (floats, _) = served("f32", disabled.clone()).await;
    let (pairs, runtime) = served("bf16", disabled).await;
    assert_eq!(runtime["precision"], "bf16", "{runtime}");
    assert!((floats - pairs).abs() > 1e-6, "rounding is seen: {floats}, {pairs}");
    let between = format!("{:.9}", f64::midpoint(floats, pairs));
    let bound = if floats > pairs { "atLeast" } else { "atMost" };
    let case = json!({"name": "narrow", "check": {"similarity": {"texts": TEXTS, bound: between}}});
    let (found, runtime) = served("bf16", json!({"cases": [case]})).await;
    assert_eq!(
        (&runtime["precision"], &runtime["compared"]["isWrong"]),
        (&json!("f32"), &json!(true))
    );
    assert!((found - floats).abs() < 1e-9, "{found}, {floats}");
}
