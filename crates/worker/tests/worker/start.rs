//! A start with a load that the test controls: ready only when all passed, and each failure.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, ModelState, Phase, Reason, Report, WorkerState};
use lamplighter_worker::serve::Worker;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::client::Http;
use crate::support::fake::Fake;
use crate::support::{DEADLINE, manifest, model, serve_args};

async fn bind(models: &[&str], more: &[&str]) -> Worker {
    let dir = tempfile::tempdir().unwrap();
    let args = serve_args(dir.path(), more);
    Worker::bind(&args, manifest(models)).await.unwrap()
}

/// Guarantees: always-02, gates-11.
#[tokio::test]
async fn the_worker_is_ready_when_the_last_model_passed_and_not_before() {
    let worker = bind(&["a:1", "b:1"], &["--drain-delay-seconds", "0"]).await;
    let (serving, admin) = (worker.serving_address(), worker.admin_address());
    let stop = CancellationToken::new();
    let last = Arc::new(Notify::new());
    let engine = Arc::new(Fake::new());
    let load = {
        let last = Arc::clone(&last);
        move |entry: lamplighter_protocol::ModelEntry,
              tracker: lamplighter_worker::board::Tracker| {
            let (last, engine) = (Arc::clone(&last), Arc::clone(&engine));
            async move {
                tracker.begin(Phase::Build);
                if entry.name == "b" {
                    last.notified().await;
                }
                Ok(model(&entry, engine))
            }
        }
    };
    let running = tokio::spawn(worker.run(load, stop.clone()));

    let http = Http::one();
    let waiting = tokio::time::timeout(DEADLINE, async {
        loop {
            let answer = http.get(admin, "/readyz").await.unwrap();
            if answer.text.contains("b:1 is in phase Build") && !answer.text.contains("a:1") {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    });
    let waiting = waiting.await.expect("only b is waited for");
    assert_eq!(waiting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(waiting.json()["reason"], "Loading");
    assert_eq!(http.get(admin, "/livez").await.unwrap().status, StatusCode::OK);
    let early = http.embed(serving, "a").await.unwrap();
    assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
    let report: Report =
        serde_json::from_value(http.get(admin, "/status").await.unwrap().json()).unwrap();
    assert_eq!(report.state, WorkerState::Starting);
    let states: Vec<ModelState> = report.models.iter().map(|model| model.state).collect();
    assert_eq!(states, [ModelState::Ready, ModelState::Loading]);

    last.notify_one();
    http.ready_is(admin, StatusCode::OK).await;
    let models = http.get(serving, "/v1/models").await.unwrap();
    assert_eq!(models.status, StatusCode::OK);
    stop.cancel();
    assert_eq!(running.await.unwrap(), Ok(()));
}

async fn fails_with(more: &[&str], load: fn() -> Result<Fake, Reason>) -> Failure {
    let worker = bind(&["a:1", "b:1"], more).await;
    let never = CancellationToken::new();
    let loading = worker.run(
        move |entry, tracker: lamplighter_worker::board::Tracker| async move {
            tracker.begin(Phase::Read);
            if entry.name == "a" {
                return std::future::pending().await;
            }
            let engine = load().map_err(|reason| Failure::new(reason, "gone"))?;
            Ok(model(&entry, Arc::new(engine)))
        },
        never,
    );
    tokio::time::timeout(DEADLINE, loading)
        .await
        .expect("a failure ends the start while other models still load")
        .expect_err("the start fails")
}

#[tokio::test]
async fn the_first_failure_ends_the_start_and_names_model_and_phase() {
    let failure = fails_with(&[], || Err(Reason::ReadFailed)).await;
    assert_eq!(failure.reason, Reason::ReadFailed);
    assert_eq!(failure.model.unwrap().to_string(), "b:1");
    assert_eq!(failure.phase, Some(Phase::Read));
}

#[tokio::test]
async fn a_load_that_panics_is_an_internal_failure_of_that_model() {
    let failure = fails_with(&[], || panic!("a bug in a load")).await;
    assert_eq!(failure.reason, Reason::Internal);
    assert_eq!(failure.model.unwrap().to_string(), "b:1");
}

#[tokio::test]
async fn a_start_that_takes_too_long_says_what_it_waited_for() {
    let failure = fails_with(&["--start-deadline-seconds", "1"], || Ok(Fake::new())).await;
    assert_eq!(failure.reason, Reason::StartDeadlineExceeded);
    assert!(failure.message.contains("a:1"), "{failure}");
}

/// Guarantees: drain-05.
#[tokio::test]
async fn a_worker_that_is_stopped_while_it_loads_ends_at_once_and_well() {
    let worker = bind(&["a:1"], &["--drain-delay-seconds", "3600"]).await;
    let stop = CancellationToken::new();
    let loading = Arc::new(Notify::new());
    let load = {
        let loading = Arc::clone(&loading);
        move |_, _| {
            let loading = Arc::clone(&loading);
            async move {
                loading.notify_one();
                std::future::pending().await
            }
        }
    };
    let running = tokio::spawn(worker.run(load, stop.clone()));
    loading.notified().await;
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
    assert_eq!(ended.expect("without the drain delay").unwrap(), Ok(()));
}

#[tokio::test]
async fn flags_that_contradict_each_other_are_refused_before_anything_starts() {
    for (flags, says) in [
        (["--request-timeout-seconds", "24"], "--drain-timeout-seconds with 25"),
        (["--max-body-bytes-in-flight", "1000"], "--max-request-bytes is 4194304"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let args = serve_args(dir.path(), &flags);
        let failure = Worker::bind(&args, manifest(&["a:1"])).await.err().unwrap();
        assert_eq!(failure.reason, Reason::ArgumentsInvalid);
        assert!(failure.message.contains(says), "{failure}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut serving = serve_args(dir.path(), &[]);
    serving.listen = taken;
    let mut admin = serve_args(dir.path(), &[]);
    admin.admin_listen = taken;
    for args in [serving, admin] {
        let failure = Worker::bind(&args, manifest(&["a:1"])).await.err().unwrap();
        assert_eq!(failure.reason, Reason::Internal);
        assert!(failure.message.contains(&taken.to_string()), "{failure}");
    }
}
