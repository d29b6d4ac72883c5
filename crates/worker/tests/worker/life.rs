//! The real binary from `golden` to SIGTERM.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use axum::http::StatusCode;
use lamplighter_protocol::place::POD_HEADER;
use lamplighter_protocol::{Failure, ModelState, Phase, Reason, Report, Revalidation, WorkerState};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::metrics::parse;
use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::{self, Process};
use crate::support::{DEADLINE, POD};

pub(crate) async fn record_golden(place: &Place, more: &[&str]) {
    let mut line =
        vec!["golden".to_owned(), "--artifact".to_owned(), place.artifact().display().to_string()];
    line.extend(more.iter().map(ToString::to_string));
    let ended = process::run(&line).await;
    assert!(ended.status.success(), "{ended:?}");
}

fn golden_cases(place: &Place) -> Vec<Value> {
    let golden = fs::read_to_string(place.artifact().join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    assert_eq!(golden["format"], 1);
    golden["cases"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_worker_lives_from_its_manifest_to_sigterm() {
    let place = Place::new(&Tiny::new());
    record_golden(&place, &["--text", "the lamp", "--text", "winter river"]).await;
    let mut entry = place.entry("embedder");
    entry["validation"] = json!({"cases": [{"name": "same", "check": {"similarity": {
        "texts": ["stone", "stone"], "atLeast": "0.999",
    }}}]});
    place.write_manifest(&[entry]);

    // Vectors are recorded in 32 bits.
    let more = ["--drain-delay-seconds", "1", "--precision", "f32"];
    let worker = Process::start(place.path(), &more).await;
    let (serving, admin) = (worker.serving, worker.admin);
    let http = Http::one();
    http.ready_is(admin, StatusCode::OK).await;

    let answer = http.embed(serving, "the lamp").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.headers[POD_HEADER], POD);
    let recorded = &golden_cases(&place)[0];
    assert_eq!(recorded["text"], "the lamp");
    assert_eq!(answer.json()["data"][0]["embedding"], recorded["vector"]);

    let status = http.get(admin, "/status").await.unwrap().json();
    let phases = status["models"][0]["phases"].as_array().unwrap();
    let validated = phases.iter().find(|timing| timing["phase"] == "Validate").unwrap();
    assert!(validated.get("bytes").is_none(), "it handles none: {validated}");
    check_report(&serde_json::from_value(status.clone()).unwrap());
    let identity = http.get(serving, "/lamplighter/identity").await.unwrap().json();
    assert_eq!(identity["podUid"], POD);
    assert_eq!(identity["models"][0]["key"], "embedder:1");
    let samples = parse(&http.get(admin, "/metrics").await.unwrap().text);
    let cases = r#"lamplighter_worker_validation_cases{model="embedder:1",passed="true"}"#;
    assert_eq!(samples.get(cases), Some(&3.0));

    let gone = CancellationToken::new();
    let stream = tokio::spawn({
        let gone = gone.clone();
        async move {
            let http = Http::one();
            let mut answered = 0;
            while !gone.is_cancelled() {
                let answer = http.embed(serving, "stone light").await.expect("an answer");
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
                answered += 1;
            }
            answered
        }
    });
    worker.terminate();
    http.ready_is(admin, StatusCode::SERVICE_UNAVAILABLE).await;
    let more = http.embed(serving, "the lamp").await.unwrap();
    assert_eq!(more.status, StatusCode::OK, "still accepting");
    gone.cancel();
    assert!(stream.await.expect("no request was lost") > 0);
    let ended = worker.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!place.termination_log().exists(), "a good end leaves no last words");
}

fn check_report(report: &Report) {
    assert_eq!(report.state, WorkerState::Ready);
    assert_eq!(report.pod_uid, POD);
    assert_eq!(report.revision, "7c9f0e5b21");
    let [model] = report.models.as_slice() else {
        panic!("one model: {report:?}");
    };
    assert_eq!(model.state, ModelState::Ready);
    let phases: Vec<Phase> = model.phases.iter().map(|timing| timing.phase).collect();
    assert_eq!(phases, Phase::ALL);
    assert!(model.phases.iter().all(|timing| timing.done));
    let bytes_of = |phase: Phase| {
        let timing = model.phases.iter().find(|timing| timing.phase == phase);
        timing.unwrap().bytes
    };
    let facts = model.facts.as_ref().unwrap();
    assert!(bytes_of(Phase::Verify) >= facts.bytes, "every byte is summed");
    let stored = bytes_of(Phase::Read);
    assert!(stored > 0);
    assert_eq!([Phase::Build, Phase::Transfer].map(bytes_of), [stored; 2]);
    assert_eq!([Phase::WarmUp, Phase::Validate].map(bytes_of), [0; 2]);
    assert_eq!(facts.architecture, "BertModel");
    assert!(facts.digest.starts_with("sha256:"));
    let warmup = model.warmup.as_ref().unwrap();
    assert!(warmup.runs > 0 && warmup.settled.is_some(), "{warmup:?}");
    let validation = model.validation.as_ref().unwrap();
    let names: Vec<&str> = validation.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["same", "golden-1", "golden-2"]);
    assert!(validation.cases.iter().all(|case| case.passed));
    let ago = report.validated_seconds_ago.unwrap();
    assert!((0.0..=report.uptime_seconds).contains(&ago), "{ago}");
    assert_eq!(report.revalidation, Some(Revalidation::default()), "no round has ended yet");
}

#[tokio::test]
async fn validation_that_the_user_switched_off_shows_in_the_report() {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["validation"] = json!({"mode": "Disabled"});
    place.write_manifest(&[entry]);
    let worker = Process::start(place.path(), &["--drain-delay-seconds", "0"]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    let status = http.get(worker.admin, "/status").await.unwrap().json();
    let report: Report = serde_json::from_value(status).unwrap();
    assert!(report.models[0].validation.as_ref().unwrap().disabled);
    assert_eq!(report.validated_seconds_ago, None, "nothing was ever asked");
    worker.terminate();
    assert_eq!(worker.ended().await.status.code(), Some(0));
}

/// Guarantees: gates-10.
#[tokio::test]
async fn a_golden_file_of_other_weights_is_refused_and_recording_again_helps() {
    let place = Place::new(&Tiny::new());
    record_golden(&place, &[]).await;
    assert!(golden_cases(&place).len() >= 2, "there are texts without any flag");
    let shifted = Tiny::new().with(|tiny| {
        let name = "encoder.layer.0.output.dense.weight";
        let values: Vec<f32> = tiny.tensor(name).values().iter().map(|value| value * 1.5).collect();
        let shape = tiny.tensor(name).shape.clone();
        *tiny.tensor(name) = crate::support::artifact::tiny::Tensor::floats(&shape, values);
    });
    shifted.write(&place.artifact());
    place.write_manifest(&[place.entry("embedder")]);
    let ended = process::serve_to_end(place.path(), &[]).await;
    assert_eq!(ended.status.code(), Some(1));
    let words = fs::read_to_string(place.termination_log()).unwrap();
    let failure = Failure::from_termination_message(&words).unwrap();
    assert_eq!(failure.reason, Reason::GoldenInvalid);
    assert_eq!(failure.file.as_deref(), Some("golden.json"));

    let texts = place.path().join("texts.txt");
    fs::write(&texts, "the lamp\n\nthe river\n").unwrap();
    record_golden(&place, &["--texts-file", texts.to_str().unwrap()]).await;
    assert_eq!(golden_cases(&place).len(), 2);
    let worker = Process::start(place.path(), &["--drain-delay-seconds", "0"]).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    worker.terminate();
    assert_eq!(worker.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn only_a_second_interrupt_by_hand_ends_a_drain() {
    let place = Place::new(&Tiny::new());
    record_golden(&place, &["--text", "the lamp"]).await;
    place.write_manifest(&[place.entry("embedder")]);
    let mut worker = Process::start(place.path(), &["--drain-delay-seconds", "3600"]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    worker.terminate();
    worker.logged("told to stop").await;
    for _ in 0..2 {
        worker.terminate();
        worker.logged("told to stop again: the drain goes on").await;
    }
    worker.interrupt();
    worker.logged("told to stop again: the drain goes on").await;
    let answer = http.embed(worker.serving, "the lamp").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "still draining");
    worker.interrupt();
    let ended = tokio::time::timeout(DEADLINE, worker.ended()).await.unwrap();
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
}

#[tokio::test]
async fn a_command_line_that_cannot_be_used_leaves_its_reason() {
    let place = Place::new(&Tiny::new());
    for more in
        [["--drain-delay-seconds", "99999999999"], ["--listen", "nowhere"], ["--no-such-flag", "1"]]
    {
        let ended = process::serve_to_end(place.path(), &more).await;
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        let words = fs::read_to_string(place.termination_log()).unwrap();
        let failure = Failure::from_termination_message(&words).expect(&words);
        assert_eq!(failure.reason, Reason::ArgumentsInvalid);
        assert!(failure.message.contains(more[0]), "{failure}");
        fs::remove_file(place.termination_log()).unwrap();
    }
    for asked in ["--help", "--version"] {
        let ended = process::serve_to_end(place.path(), &[asked]).await;
        assert_eq!(ended.status.code(), Some(0), "{asked}: {ended:?}");
        assert!(!place.termination_log().exists(), "{asked} is no failure");
    }
}

#[test]
fn help_whose_reader_has_gone_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(process::BINARY);
    let ended = command.args(["serve", "--help"]).stdout(writer).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}
