//! The figures are there, count what they say, and are text that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::header;
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::Bench;
use crate::support::client::{call, get, post, whole};
use crate::support::fake::Fake;

#[tokio::test]
async fn requests_states_and_failures_are_counted_with_bounded_labels() {
    let bench = Bench::ready(&Arc::new(Fake::new()));
    for (input, times) in [("a lamp", 2), ("nan", 1), ("fail", 1)] {
        for _ in 0..times {
            let body = json!({"model": "other", "input": input}).to_string();
            call(&bench.app, post("/v1/embeddings", body)).await;
        }
    }
    call(&bench.app, get("/v1/models/other")).await;
    call(&bench.app, get("/of/the/clients/own")).await;
    let tracker = bench.board.track(2);
    tracker.begin(lamplighter_protocol::Phase::Read);
    tracker.add_bytes(90);
    tracker.begin(lamplighter_protocol::Phase::Build);
    tracker.runtime(lamplighter_protocol::RuntimeReport {
        kernel: "avx2-f32".to_owned(),
        precision: "f32".to_owned(),
        compared: None,
        unaffordable: None,
    });

    let router = lamplighter_worker::admin::router(&bench.board, bench.page);
    let answer = whole(router.oneshot(get("/metrics")).await.unwrap()).await;
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let samples = parse(&answer.text);
    let expect = |name: &str, value: f64| {
        let name = format!("lamplighter_worker_{name}");
        let found = samples.get(&name).copied();
        assert_eq!(found, Some(value), "{name} in\n{}", answer.text);
    };
    expect(r#"requests_total{route="/v1/embeddings",code="200"}"#, 2.0);
    expect(r#"requests_total{route="/v1/embeddings",code="500"}"#, 2.0);
    expect(r#"requests_total{route="/v1/models/{id}",code="200"}"#, 1.0);
    expect(r#"requests_total{route="unmatched",code="404"}"#, 1.0);
    expect(r#"request_seconds_count{route="/v1/embeddings"}"#, 4.0);
    expect(r#"texts_total{model="other:1"}"#, 2.0);
    expect(r#"tokens_total{model="other:1"}"#, 4.0);
    expect(r#"non_finite_total{model="other:1"}"#, 1.0);
    expect(r#"failed_batches_total{model="other:1"}"#, 2.0);
    expect(r#"model_state{model="other:1",state="Loading"}"#, 1.0);
    expect(r#"model_state{model="other:1",state="Ready"}"#, 0.0);
    expect(r#"model_state{model="embedder:1",state="Pending"}"#, 1.0);
    expect(r#"load_bytes_total{model="other:1",phase="Read"}"#, 90.0);
    for histogram in
        ["queue_seconds", "tokenize_seconds", "infer_seconds", "batch_texts", "batch_tokens"]
    {
        expect(&format!(r#"{histogram}_count{{model="other:1"}}"#), 4.0);
    }
    expect(r#"batch_tokens_sum{model="other:1"}"#, 6.0);
    expect(r#"queued_tokens{model="other:1"}"#, 0.0);
    expect("refusal_seconds_count", 0.0);
    expect(r#"model_info{model="other:1",kernel="avx2-f32",precision="f32"}"#, 1.0);
    expect("in_flight", 0.0);
    expect("queued_texts", 0.0);
    assert!(
        samples.contains_key(r#"lamplighter_worker_load_seconds{model="other:1",phase="Read"}"#)
    );
    assert!(samples.contains_key("process_resident_memory_bytes"));
}

/// Samples by name and labels, after the checks that
/// <https://prometheus.io/docs/specs/om/open_metrics_spec/> asks of a text.
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines: Vec<&str> = text.strip_suffix("# EOF\n").expect("ends with EOF").lines().collect();
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut finished = BTreeSet::new();
    let mut current = String::new();
    for line in lines {
        assert!(!line.contains("_total_total"), "{line}");
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (family, kind) = declared.split_once(' ').expect("a family and its type");
            assert!(kinds.insert(family.to_owned(), kind.to_owned()).is_none(), "{line} twice");
            continue;
        }
        if let Some(help) = line.strip_prefix("# HELP ") {
            let family = help.split(' ').next().unwrap().to_owned();
            assert!(finished.insert(family.clone()), "{line} twice");
            current = family;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a series and its value");
        let name = series.split('{').next().unwrap();
        let suffixes: &[&str] = match kinds.get(&current).map(String::as_str) {
            Some("counter") => &["_total"],
            Some("histogram") => &["_bucket", "_sum", "_count"],
            Some("gauge" | "unknown") => &[""],
            other => panic!("{line}: of type {other:?}"),
        };
        let belongs = suffixes.iter().any(|suffix| name == format!("{current}{suffix}"));
        assert!(belongs, "{line} stands among the samples of {current}");
        let value = value.parse().expect("a number");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
    }
    samples
}
