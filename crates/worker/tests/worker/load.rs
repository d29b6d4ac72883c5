//! The real binary on a small artifact that is broken in one way: the right reason, every time.

use std::fs;

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, Phase, Reason};
use serde_json::json;

use crate::support::artifact::{Place, Tiny, WEIGHTS};
use crate::support::client::Http;
use crate::support::process::{self, Ended, Process};
use crate::support::store::{BUCKET, Store};

/// Runs the worker, which must fail, and returns its last words.
async fn last_words(place: &Place, more: &[&str]) -> (Failure, Ended) {
    let ended = process::serve_to_end(place.path(), more).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let words = fs::read_to_string(place.termination_log()).unwrap();
    let failure = Failure::from_termination_message(&words).expect(&words);
    let logged = ended
        .log
        .iter()
        .any(|line| line["level"] == "ERROR" && line["reason"] == failure.reason.as_str());
    assert!(logged, "the failure is logged too: {ended:?}");
    (failure, ended)
}

async fn fails(tiny: &Tiny, damage: impl FnOnce(&Place)) -> Failure {
    let place = Place::new(tiny);
    place.write_manifest(&[place.entry("embedder")]);
    damage(&place);
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.model.as_ref().unwrap().to_string(), "embedder:1");
    failure
}

/// Guarantees: gates-01.
#[tokio::test]
async fn damage_to_an_artifact_is_named_with_phase_file_and_tensor() {
    let missing = fails(&Tiny::new(), |place| fs::remove_dir_all(place.artifact()).unwrap()).await;
    assert_eq!(missing.reason, Reason::ArtifactNotFound);
    assert_eq!(missing.phase, Some(Phase::Fetch));

    let truncated = fails(&Tiny::new(), |place| {
        let path = place.artifact().join(WEIGHTS);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    })
    .await;
    assert_eq!(truncated.reason, Reason::ArtifactTruncated);
    assert_eq!(truncated.phase, Some(Phase::Verify));
    assert_eq!(truncated.file.as_deref(), Some(WEIGHTS));
    assert!(truncated.expected.is_some() && truncated.found.is_some());

    let tensor = "encoder.layer.1.output.dense.bias";
    let lacking = Tiny::new().with(|tiny| drop(tiny.tensors.remove(tensor)));
    let lacking = fails(&lacking, |_| {}).await;
    assert_eq!(lacking.reason, Reason::TensorMissing);
    assert_eq!(lacking.phase, Some(Phase::Build));
    assert_eq!(lacking.tensor.as_deref(), Some(tensor));

    let foreign = Tiny::new().with(|tiny| tiny.config["architectures"] = json!(["LlamaModel"]));
    let foreign = fails(&foreign, |_| {}).await;
    assert_eq!(foreign.reason, Reason::UnsupportedArchitecture);
    assert_eq!(foreign.found.as_deref(), Some("LlamaModel of the type \"bert\""));
}

/// Guarantees: gates-06.
#[tokio::test]
async fn a_model_that_nobody_could_check_does_not_serve() {
    let failure = fails(&Tiny::new(), |_| {}).await;
    assert_eq!(failure.reason, Reason::NoValidationCases);
    assert_eq!(failure.phase, Some(Phase::Validate));
}

/// Guarantees: gates-04.
#[tokio::test]
async fn a_pinned_digest_that_differs_is_named_with_both() {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    let pinned = format!("sha256:{}", "0".repeat(64));
    entry["expectedDigest"] = json!(pinned);
    place.write_manifest(&[entry]);
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.reason, Reason::DigestMismatch);
    assert_eq!(failure.expected, Some(pinned));
    assert!(failure.found.unwrap().starts_with("sha256:"));
}

/// Guarantees: gates-06.
#[tokio::test]
async fn a_wrong_answer_names_the_case_and_every_case_was_asked() {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    let case = |name: &str, at_least: &str| {
        json!({"name": name, "check": {"similarity": {
            "texts": ["the lamp", "the lamp"], "atLeast": at_least,
        }}})
    };
    let opposite = json!({"name": "opposite", "check": {"similarity": {
        "texts": ["the lamp", "the lamp"], "atMost": "-0.5",
    }}});
    entry["validation"] = json!({"cases": [case("same", "0.999"), opposite, case("again", "0.9")]});
    place.write_manifest(&[entry]);
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.reason, Reason::ValidationFailed);
    assert!(failure.message.contains(r#""opposite""#), "{failure}");
    assert!(failure.message.contains("1 of 3"), "{failure}");
    assert_eq!(failure.expected.as_deref(), Some("cosine at most -0.5"));
    assert!(failure.found.unwrap().starts_with("cosine 1.0"));
}

#[tokio::test]
async fn one_broken_model_of_two_ends_the_worker_and_is_the_one_that_is_named() {
    let good = Place::new(&Tiny::new());
    let bad = Place::new(&Tiny::new());
    fs::remove_file(bad.artifact().join("tokenizer.json")).unwrap();
    let mut first = good.entry("good");
    first["validation"] = json!({"mode": "Disabled"});
    good.write_manifest(&[first, bad.entry("bad")]);
    let (failure, _) = last_words(&good, &[]).await;
    assert_eq!(failure.reason, Reason::ArtifactNotFound);
    assert_eq!(failure.model.unwrap().to_string(), "bad:1");
    assert_eq!(failure.file.as_deref(), Some("tokenizer.json"));
}

#[tokio::test]
async fn what_is_wrong_before_any_model_is_named_as_well() {
    let place = Place::new(&Tiny::new());
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.reason, Reason::ManifestInvalid);
    assert!(failure.file.unwrap().ends_with("manifest.json"));

    place.write_manifest(&[]);
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.reason, Reason::ManifestInvalid);
    assert!(failure.message.contains("no model"), "{failure}");

    let mut elsewhere = place.entry("embedder");
    elsewhere["source"]["uri"] = json!("ftp://org/repo");
    place.write_manifest(&[elsewhere]);
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.reason, Reason::ManifestInvalid);
    assert!(failure.message.contains("s3, gs"), "{failure}");

    // Nothing is downloaded for a device that is not there.
    let mut far = place.entry("embedder");
    far["source"]["uri"] = json!("https://127.0.0.1:1/embedder");
    place.write_manifest_for("Cuda", &[far]);
    let (failure, _) = last_words(&place, &[]).await;
    assert_eq!(failure.reason, Reason::DeviceUnavailable);
    assert_eq!(failure.phase, Some(Phase::Transfer));
}

#[tokio::test]
async fn models_of_the_image_and_of_a_store_are_served_side_by_side() {
    let store = Store::start().await;
    let place = Place::new(&Tiny::new());
    Tiny::new().write(&store.folder("minilm"));
    let case = json!({"cases": [{"name": "near", "check": {"similarity": {
        "texts": ["the lamp", "the lamp light"], "atLeast": "0.1",
    }}}]});
    let (mut near, mut far) = (place.entry("near"), place.entry("far"));
    far["source"] =
        json!({"uri": format!("s3://{BUCKET}/minilm"), "credentials": store.credentials(true)});
    near["validation"] = case.clone();
    far["validation"] = case;
    place.write_manifest(&[near, far]);
    let worker = Process::start(place.path(), &[]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    let mut vectors = Vec::new();
    for model in ["near", "far"] {
        let answer = http.embed_with(worker.serving, model, "winter river").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        vectors.push(answer.json()["data"][0]["embedding"].clone());
    }
    assert_eq!(vectors[0], vectors[1], "they are the same model");
    let cached = fs::read_dir(place.path().join("cache")).unwrap();
    let cached: Vec<_> = cached.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(cached, ["far"], "what is in the image is used where it is");
}
