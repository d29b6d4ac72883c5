//! The worker that breaks on purpose breaks as it is told, and the one that is shipped does not.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod build;
#[expect(dead_code, unused_imports, reason = "the worker's own tests use more of it")]
#[path = "../worker/support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, ModelState, Phase, Reason, Report, WorkerState};
use serde_json::{Value, json};

use support::artifact::{Place, Tiny};
use support::client::Http;
use support::process::{self, BINARY, Ended, Process};
use tokio::process::Command;

const FAULTS: &str = "WORKER_FAULTS";
const ABORTED: Option<i32> = Some(6);

/// An artifact whose one case is a lower bound of a cosine.
fn place() -> Place {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["validation"] = json!({"cases": [{"name": "near", "check": {"similarity": {
        "texts": ["the lamp", "the lamp light"], "atLeast": "0.1",
    }}}]});
    place.write_manifest(&[entry]);
    place
}

fn faulty(place: &Place, faults: &str, more: &[&str]) -> Command {
    let mut line = vec!["--drain-delay-seconds", "0"];
    line.extend(more);
    let mut command = process::serving(build::program(), place.path(), &line);
    command.env(FAULTS, faults);
    command
}

async fn start(place: &Place, faults: &str, more: &[&str]) -> Process {
    Process::start_as(faulty(place, faults, more)).await
}

fn last_words(place: &Place) -> Failure {
    let words = fs::read_to_string(place.termination_log()).unwrap();
    Failure::from_termination_message(&words).expect(&words)
}

fn logged(ended: &Ended, message: &str) -> usize {
    ended.log.iter().filter(|entry| entry["message"] == message).count()
}

async fn embedding(http: &Http, worker: &Process, text: &str) -> Vec<f64> {
    let answer = http.embed(worker.serving, text).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let numbers = &answer.json()["data"][0]["embedding"];
    serde_json::from_value(numbers.clone()).unwrap()
}

/// Cosine of two vectors of length 1.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn contains_the_variable(program: &Path) -> bool {
    let bytes = fs::read(program).unwrap();
    bytes.windows(FAULTS.len()).any(|window| window == FAULTS.as_bytes())
}

#[tokio::test]
async fn the_worker_that_is_shipped_has_no_faults_and_ignores_their_variable() {
    assert!(contains_the_variable(build::program()), "where it is, it is found");
    assert!(!contains_the_variable(Path::new(BINARY)));
    let place = place();
    for list in ["wrong-answers,crash-after=0", "nonsense"] {
        let mut command = process::serving(
            Path::new(BINARY),
            place.path(),
            &["--drain-delay-seconds", "0", "--revalidation-interval-seconds", "1"],
        );
        command.env(FAULTS, list);
        let worker = Process::start_as(command).await;
        let http = Http::one();
        http.ready_is(worker.admin, StatusCode::OK).await;
        let twice = |report: &Report| report.revalidation.is_some_and(|counts| counts.rounds >= 2);
        let report = http.status_when(worker.admin, twice).await;
        assert_eq!(report.revalidation.unwrap().wrong, 0);
        worker.terminate();
        assert_eq!(worker.ended().await.status.code(), Some(0));
    }
}

#[tokio::test]
async fn without_faults_it_is_the_worker_that_is_shipped() {
    let place = place();
    let worker = start(&place, "", &[]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    let ours = embedding(&http, &worker, "winter river").await;
    worker.terminate();
    assert_eq!(worker.ended().await.status.code(), Some(0));

    let worker = Process::start(place.path(), &["--drain-delay-seconds", "0"]).await;
    http.ready_is(worker.admin, StatusCode::OK).await;
    assert_eq!(embedding(&http, &worker, "winter river").await, ours);
}

#[tokio::test]
async fn a_word_that_is_no_fault_ends_the_process_at_once() {
    let place = place();
    for (list, says) in [
        ("never-ready,crash", "\"crash\" is no fault"),
        ("crash-after=soon", "\"crash-after=soon\" must be crash-after=SECONDS"),
    ] {
        let ended = process::to_end(faulty(&place, list, &[])).await;
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        let failure = last_words(&place);
        assert_eq!(failure.reason, Reason::ArgumentsInvalid);
        assert!(failure.message.contains(says), "{failure}");
        let told = ended.log.iter().filter_map(Value::as_str).any(|line| line.contains(says));
        assert!(told, "{ended:?}");
        fs::remove_file(place.termination_log()).unwrap();
    }
}

#[tokio::test]
async fn it_crashes_so_long_after_it_became_ready_and_again_after_each_start() {
    let place = place();
    for _ in 0..2 {
        let worker = start(&place, "crash-after=1", &[]).await;
        Http::one().ready_is(worker.admin, StatusCode::OK).await;
        let ready = Instant::now();
        let ended = worker.ended().await;
        assert_eq!(ended.status.signal(), ABORTED, "{ended:?}");
        assert!(ready.elapsed() > Duration::from_millis(500), "{:?}", ready.elapsed());
        assert_eq!(logged(&ended, "a fault: the process aborts"), 1);
        assert_eq!(logged(&ended, "told to stop"), 0);
        assert!(!place.termination_log().exists(), "a crash leaves no words");
    }
}

#[tokio::test]
async fn answers_that_turn_wrong_are_found_and_end_the_worker() {
    let place = place();
    let worker = start(&place, "poison-after=2", &["--revalidation-interval-seconds", "0"]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    let right = embedding(&http, &worker, "winter river").await;
    assert!((cosine(&right, &right) - 1.0).abs() < 1e-5, "the artifact says that it is normalised");
    let turned = async {
        loop {
            let answer = embedding(&http, &worker, "winter river").await;
            if answer != right {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let wrong = tokio::time::timeout(support::DEADLINE, turned).await.expect("answers turn wrong");
    assert_eq!(wrong.len(), right.len());
    assert!((cosine(&wrong, &wrong) - 1.0).abs() < 1e-5, "it has its length");
    assert!(cosine(&wrong, &right).abs() < 0.99, "{wrong:?} {right:?}");

    let admin = worker.admin;
    http.command(admin, "/validate", Some(support::POD)).await.unwrap();
    let ended = worker.ended().await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(logged(&ended, "asked again: wrong"), 2, "twice in a row: {ended:?}");
    let failure = last_words(&place);
    assert_eq!(failure.reason, Reason::RevalidationFailed);
    assert!(failure.message.contains("\"near\""), "{failure}");
    assert!(failure.found.unwrap().starts_with("cosine -"), "the sign is wrong");
}

#[tokio::test]
async fn the_interval_of_the_environment_is_enough_to_find_wrong_answers() {
    let place = place();
    let mut command = faulty(&place, "poison-after=0", &[]);
    command.env("LAMPLIGHTER_REVALIDATION_INTERVAL_SECONDS", "1");
    let ended = process::to_end(command).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(logged(&ended, "every model passed: ready"), 1);
    assert_eq!(last_words(&place).reason, Reason::RevalidationFailed);
}

#[tokio::test]
async fn wrong_answers_never_become_ready() {
    let place = place();
    let ended = process::to_end(faulty(&place, "wrong-answers", &[])).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(logged(&ended, "every model passed: ready"), 0);
    let failure = last_words(&place);
    assert_eq!(failure.reason, Reason::ValidationFailed);
    assert_eq!(failure.phase, Some(Phase::Validate));
    assert_eq!(failure.model.unwrap().to_string(), "embedder:1");
    assert!(failure.found.unwrap().starts_with("cosine -"), "the sign is wrong");
}

#[tokio::test]
async fn a_worker_that_is_never_ready_stays_in_its_warm_up() {
    let place = place();
    let worker = start(&place, "never-ready", &["--start-deadline-seconds", "3"]).await;
    let http = Http::one();
    let warming = |report: &Report| report.models[0].state == ModelState::WarmingUp;
    let report = http.status_when(worker.admin, warming).await;
    assert_eq!(report.state, WorkerState::Starting);
    let unready = http.get(worker.admin, "/readyz").await.unwrap();
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(unready.text.contains("embedder:1 is in phase WarmUp"), "{}", unready.text);
    assert_eq!(http.get(worker.admin, "/livez").await.unwrap().status, StatusCode::OK);
    let ended = worker.ended().await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let failure = last_words(&place);
    assert_eq!(failure.reason, Reason::StartDeadlineExceeded);
    assert!(failure.message.contains("embedder:1 is in phase WarmUp"), "{failure}");
}

#[tokio::test]
async fn a_slow_load_is_seen_loading_and_becomes_ready() {
    let place = place();
    let worker = start(&place, "slow-load=2", &[]).await;
    let begun = Instant::now();
    let http = Http::one();
    let fetching = |report: &Report| {
        let model = &report.models[0];
        let running = model.phases.last().filter(|timing| !timing.done);
        running.is_some_and(|timing| timing.phase == Phase::Fetch && timing.seconds > 0.5)
    };
    let report = http.status_when(worker.admin, fetching).await;
    assert_eq!(report.models[0].state, ModelState::Loading);
    http.ready_is(worker.admin, StatusCode::OK).await;
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn memory_is_filled_up_to_the_limit_before_anything_is_loaded() {
    let place = place();
    let inner = faulty(&place, "out-of-memory", &[]);
    let inner = inner.as_std();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -v 1500000 && exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(FAULTS, "out-of-memory")
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = process::to_end(limited).await;
    // A limit on addresses is told to the program; the kernel's own limit would have killed it.
    assert_eq!(ended.status.signal(), ABORTED, "{ended:?}");
    let words: Vec<&str> = ended.log.iter().filter_map(Value::as_str).collect();
    assert!(words.contains(&"memory allocation of 1048576 bytes failed"), "{words:?}");
    assert_eq!(logged(&ended, "a fault: memory is being filled"), 1);
    assert_eq!(logged(&ended, "phase ended"), 0, "it was still fetching");
}

#[tokio::test]
async fn the_cache_is_filled_while_it_loads_and_after_it_became_ready() {
    let place = place();
    let cache = place.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let mut worker = start(&place, "fill-cache-at-load=3,fill-cache=2", &[]).await;
    let size = |when: &str| {
        fs::metadata(cache.join(format!(".lamplighter-fault-{when}"))).map(|data| data.len())
    };
    worker.logged("a fault: the cache was filled").await;
    assert_eq!(size("at-load").unwrap(), 3 << 20);
    worker.logged("every model passed: ready").await;
    assert!(size("when-ready").is_err(), "not at once");
    worker.logged("a fault: the cache was filled").await;
    assert_eq!(size("when-ready").unwrap(), 2 << 20);
    worker.terminate();
    assert_eq!(worker.ended().await.status.code(), Some(0));
}
