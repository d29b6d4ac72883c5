//! SIGTERM under load: idle connections, a slow request, a steady stream; nothing is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, ModelEntry, Reason};
use lamplighter_worker::board::Tracker;
use lamplighter_worker::serve::Worker;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::client::Http;
use crate::support::fake::{Fake, vector};
use crate::support::raw::Raw;
use crate::support::{DEADLINE, manifest, model, serve_args};

/// How long after `/readyz` turned 503 the last node stops to send here; less than the delay.
const PROPAGATION: Duration = Duration::from_millis(700);

struct Running {
    serving: SocketAddr,
    admin: SocketAddr,
    stop: CancellationToken,
    engine: Arc<Fake>,
    task: JoinHandle<Result<(), Failure>>,
}

async fn start(more: &[&str]) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let args = serve_args(dir.path(), more);
    let worker = Worker::bind(&args, manifest(&["embedder:1"])).await.unwrap();
    let (serving, admin) = (worker.serving_address(), worker.admin_address());
    let stop = CancellationToken::new();
    let engine = Arc::new(Fake::new());
    let served = Arc::clone(&engine);
    let load = move |entry: ModelEntry, _: Tracker| {
        let engine = Arc::clone(&served);
        async move { Ok(model(&entry, engine)) }
    };
    let task = tokio::spawn(worker.run(load, stop.clone()));
    Http::one().ready_is(admin, StatusCode::OK).await;
    Running { serving, admin, stop, engine, task }
}

impl Running {
    /// A good end.
    async fn ended(self) {
        assert_eq!(self.outcome().await, Ok(()));
    }

    async fn outcome(self) -> Result<(), Failure> {
        let ended = tokio::time::timeout(DEADLINE, self.task).await;
        ended.expect("the drain ends").unwrap()
    }

    async fn in_flight_is(&self, requests: u64) {
        let http = Http::one();
        tokio::time::timeout(DEADLINE, async {
            while http.get(self.admin, "/status").await.unwrap().json()["inFlight"] != requests {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the requests are in flight");
    }
}

/// Asks without a pause until the worker is out of the endpoints.
async fn stream(
    http: Http,
    serving: SocketAddr,
    gone: CancellationToken,
    answered: Arc<AtomicUsize>,
) {
    while !gone.is_cancelled() {
        let answer = http.embed(serving, "a lamp").await.expect("an answer to every request");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let found: Vec<f32> =
            serde_json::from_value(answer.json()["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(found, vector("a lamp"));
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Guarantees: drain-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_nothing() {
    let running = start(&["--drain-delay-seconds", "2", "--drain-timeout-seconds", "20"]).await;
    let (serving, admin) = (running.serving, running.admin);
    let http = Http::one();

    let mut idle = Raw::connect(serving).await;
    assert!(idle.list().await.starts_with("http/1.1 200"));
    let mut silent = Raw::connect(serving).await;
    let mut warm = Raw::connect(serving).await;
    let head = warm.list().await;
    assert!(!head.contains("connection: close"), "{head}");
    let slow = tokio::spawn({
        let http = http.clone();
        async move { http.embed(serving, "wait").await }
    });
    running.engine.waits().await;

    let gone = CancellationToken::new();
    let answered = Arc::new(AtomicUsize::new(0));
    let streams: Vec<JoinHandle<()>> = [Http::one(), Http::one(), Http::two(), Http::two()]
        .into_iter()
        .map(|http| tokio::spawn(stream(http, serving, gone.clone(), Arc::clone(&answered))))
        .collect();
    tokio::time::timeout(DEADLINE, async {
        while answered.load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the streams run");

    running.stop.cancel();
    let stopped = Instant::now();
    let draining = http.ready_is(admin, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(draining.json()["reason"], "Draining");
    let head = warm.list().await;
    assert!(head.contains("connection: close"), "{head}");
    warm.is_closed().await;
    let head = Raw::connect(serving).await.list().await;
    assert!(head.starts_with("http/1.1 200"), "new connections are still answered: {head}");
    tokio::time::sleep_until((stopped + PROPAGATION).into()).await;
    gone.cancel();
    for stream in streams {
        stream.await.expect("no request of a stream was lost");
    }
    assert!(stopped.elapsed() < Duration::from_secs(2), "all within the delay");

    idle.is_closed().await;
    silent.is_closed().await;
    assert!(stopped.elapsed() >= Duration::from_secs(2), "idle ones live through the delay");
    assert!(TcpStream::connect(serving).await.is_err(), "the listener is closed");
    assert_eq!(
        http.get(admin, "/livez").await.unwrap().status,
        StatusCode::OK,
        "probes answer until the last request is done"
    );
    assert!(!slow.is_finished());
    running.engine.release();
    let slow = slow.await.unwrap().expect("the slow request is finished");
    assert_eq!(slow.status, StatusCode::OK, "{}", slow.text);
    running.ended().await;
}

/// Guarantees: drain-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_came_last_still_gets_its_first_answer() {
    let running = start(&["--drain-delay-seconds", "0", "--drain-timeout-seconds", "20"]).await;
    // Accepted, or waiting to be: the request follows when the listener is already closed.
    let mut last = Raw::connect(running.serving).await;
    running.stop.cancel();
    let serving = running.serving;
    tokio::time::timeout(DEADLINE, async {
        while TcpStream::connect(serving).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the listener closes");
    let head = last.list().await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    running.ended().await;
}

/// Guarantees: drain-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_begins_after_the_listener_closed_has_its_whole_time() {
    let running = start(&["--drain-delay-seconds", "0", "--drain-timeout-seconds", "4"]).await;
    let mut last = Raw::connect(running.serving).await;
    running.stop.cancel();
    let serving = running.serving;
    tokio::time::timeout(DEADLINE, async {
        while TcpStream::connect(serving).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the listener closes");
    let engine = Arc::clone(&running.engine);
    last.embed("wait").await;
    let head = last.last_answer().await;
    assert!(head.starts_with("http/1.1 504"), "not cut off: {head}");
    running.ended().await;
    engine.release();
}

/// Guarantees: drain-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_ends_is_answered_at_its_deadline_and_not_cut() {
    let running = start(&["--drain-delay-seconds", "0", "--drain-timeout-seconds", "1"]).await;
    let serving = running.serving;
    let stuck = tokio::spawn(async move { Http::one().embed(serving, "wait").await });
    running.in_flight_is(1).await;
    running.stop.cancel();
    let engine = Arc::clone(&running.engine);
    running.ended().await;
    let answer = stuck.await.unwrap().expect("an answer, although there is no vector");
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{}", answer.text);
    engine.release();
}

/// Guarantees: drain-03.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_a_drain_cuts_off_are_counted_in_a_bad_end() {
    let running = start(&["--drain-delay-seconds", "0", "--drain-timeout-seconds", "0"]).await;
    let serving = running.serving;
    let stuck: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { Http::one().embed(serving, "wait").await }))
        .collect();
    // No request: nothing is lost with it.
    let _half = Raw::connect(serving).await.0.write_all(b"GET /v1/mo").await;
    running.in_flight_is(2).await;
    running.stop.cancel();
    let engine = Arc::clone(&running.engine);
    let failure = running.outcome().await.expect_err("requests were lost");
    assert_eq!(failure.reason, Reason::DrainTimeout);
    assert!(failure.message.starts_with("2 requests"), "{failure}");
    for stuck in stuck {
        assert!(stuck.await.unwrap().is_err(), "the client sees that it was cut off");
    }
    engine.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_connections_are_closed_with_an_answer_and_slow_ones_without() {
    let running = start(&[
        "--max-connection-age-seconds",
        "1",
        "--idle-timeout-seconds",
        "2",
        "--drain-delay-seconds",
        "0",
    ])
    .await;
    let mut old = Raw::connect(running.serving).await;
    let mut silent = Raw::connect(running.serving).await;
    let mut slow = Raw::connect(running.serving).await;
    slow.0.write_all(b"GET /v1/models HT").await.unwrap();
    let born = Instant::now();
    tokio::time::timeout(DEADLINE, async {
        while !old.list().await.contains("connection: close") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("an old connection is told to close");
    assert!(born.elapsed() >= Duration::from_millis(700), "{:?}", born.elapsed());
    old.is_closed().await;
    silent.is_closed().await;
    slow.is_closed().await;
    assert!(born.elapsed() < Duration::from_secs(10));
    running.stop.cancel();
    running.ended().await;
}
