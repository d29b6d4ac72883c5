//! SIGTERM under load: idle connections, a slow request, a steady stream; nothing is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lamplighter_protocol::{Failure, ModelEntry, Reason};
use lamplighter_worker::board::Tracker;
use lamplighter_worker::serve::Worker;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::client::Http;
use crate::support::fake::{self, Fake, vector};
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
    start_with(Fake::new(), more).await
}

async fn start_with(engine: Fake, more: &[&str]) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let args = serve_args(dir.path(), more);
    let worker = Worker::bind(&args, manifest(&["embedder:1"])).await.unwrap();
    let (serving, admin) = (worker.serving_address(), worker.admin_address());
    let stop = CancellationToken::new();
    let engine = Arc::new(engine);
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
        self.in_flight(|found| found == requests).await;
    }

    async fn in_flight(&self, wanted: impl Fn(u64) -> bool) {
        let http = Http::one();
        tokio::time::timeout(DEADLINE, async {
            loop {
                let status = http.get(self.admin, "/status").await.unwrap().json();
                if status["inFlight"].as_u64().is_some_and(&wanted) {
                    return;
                }
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

/// What 200 requests a second leave between two of one of four streams.
const EVERY: Duration = Duration::from_millis(20);

/// Asks at a steady pace, whatever the last answer took, until the worker is out of the endpoints; how
/// many requests those were.
async fn steady(http: Http, serving: SocketAddr, gone: CancellationToken) -> usize {
    let mut every = tokio::time::interval(EVERY);
    let mut asked = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = gone.cancelled() => break,
            _ = every.tick() => {
                let http = http.clone();
                asked.push(tokio::spawn(async move { http.embed(serving, "a lamp").await }));
            }
        }
    }
    let count = asked.len();
    for asked in asked {
        let answer = asked.await.unwrap().expect("an answer to every request");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    count
}

/// Asks for megabytes, and takes seconds to read them; how many bytes came.
async fn read_slowly(version: Version, serving: SocketAddr) -> usize {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = TokioIo::new(socket.connect(serving).await.unwrap());
    let body = json!({"inputs": vec!["a ".repeat(fake::MAX_TOKENS); 64], "model": "embedder"});
    let request = Request::post(format!("http://{serving}/embed_all"))
        .version(version)
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body.to_string()))
        .unwrap();
    let answer = if version == Version::HTTP_2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let (head, mut body) = answer.expect("a slow client is answered, too").into_parts();
    assert_eq!(head.status, StatusCode::OK);
    let mut came = 0;
    let mut pause_at = 0;
    while let Some(frame) = body.frame().await {
        came += frame.expect("all of the answer comes").into_data().unwrap().len();
        if came > pause_at {
            pause_at = came + (1 << 20);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let length = head.headers["content-length"].to_str().unwrap().parse();
    assert_eq!(Ok(came), length, "to its last byte");
    came
}

/// Guarantees: drain-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_200_requests_a_second_of_every_kind_of_client_fails_none() {
    let (delay, timeout) = (Duration::from_secs(2), Duration::from_secs(20));
    let flags = ["--drain-delay-seconds", "2", "--drain-timeout-seconds", "20"];
    let running = start_with(Fake::wide(2_000), &flags).await;
    let serving = running.serving;
    let mut idle = Raw::connect(serving).await;
    assert!(idle.list().await.starts_with("http/1.1 200"));
    let mut silent = Raw::connect(serving).await;
    let slow = [Version::HTTP_11, Version::HTTP_2, Version::HTTP_11]
        .map(|version| tokio::spawn(read_slowly(version, serving)));
    let gone = CancellationToken::new();
    let streams = [Http::one(), Http::one(), Http::two(), Http::two()]
        .map(|http| tokio::spawn(steady(http, serving, gone.clone())));
    running.in_flight(|found| found >= 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    running.stop.cancel();
    let stopped = Instant::now();
    tokio::time::sleep(PROPAGATION).await;
    gone.cancel();
    let mut requests = 0;
    for stream in streams {
        requests += stream.await.expect("no request of a stream was lost");
    }
    let asked_for = Duration::from_secs(1) + PROPAGATION;
    assert!(requests as u128 >= asked_for.as_millis() / 5, "{requests} in {asked_for:?}");
    idle.is_closed().await;
    silent.is_closed().await;
    for slow in slow {
        let came = slow.await.expect("no answer to a slow client was cut off");
        assert!(came > 5 << 20, "{came} bytes");
    }
    running.ended().await;
    let took = stopped.elapsed();
    assert!(took < delay + timeout + Duration::from_secs(1), "{took:?}");
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
