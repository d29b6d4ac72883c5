//! `POST /shed` on real sockets: connections that are kept idle, kept busy, and HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, ModelEntry};
use lamplighter_worker::board::Tracker;
use lamplighter_worker::serve::Worker;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::client::Http;
use crate::support::fake::Fake;
use crate::support::raw::Raw;
use crate::support::{DEADLINE, POD, manifest, model, serve_args};

/// How an answer with vectors ends.
const VECTORS: &str = "}}";

struct Running {
    serving: SocketAddr,
    admin: SocketAddr,
    stop: CancellationToken,
    engine: Arc<Fake>,
    http: Http,
    task: JoinHandle<Result<(), Failure>>,
}

async fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let line = ["--drain-delay-seconds", "0", "--max-connection-age-seconds", "3600"];
    let args = serve_args(dir.path(), &line);
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
    let http = Http::one();
    http.ready_is(admin, StatusCode::OK).await;
    Running { serving, admin, stop, engine, http, task }
}

impl Running {
    async fn shed(&self) -> u64 {
        let told = self.http.command(self.admin, "/shed", Some(POD)).await.unwrap();
        assert_eq!(told.status, StatusCode::OK, "{}", told.text);
        told.json()["connectionsBeforeShed"].as_u64().unwrap()
    }

    async fn before_shed_is(&self, connections: u64) {
        let wanted = |report: &lamplighter_protocol::Report| {
            report.connections_before_shed == Some(connections)
        };
        self.http.status_when(self.admin, wanted).await;
    }

    async fn ended(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.task).await.expect("the worker ends");
        assert_eq!(ended.unwrap(), Ok(()));
    }
}

/// Guarantees: drain-04.
#[tokio::test]
async fn idle_connections_close_soon_and_later_ones_stay() {
    let running = start().await;
    let mut idle = Raw::connect(running.serving).await;
    idle.embed("a lamp").await;
    let answer = idle.answer(VECTORS).await;
    assert!(!answer.contains("connection: close"), "{answer}");
    // One that has asked nothing yet.
    let mut silent = Raw::connect(running.serving).await;
    let mut marker = Raw::connect(running.serving).await;
    marker.embed("a lamp").await;
    marker.answer(VECTORS).await;

    assert_eq!(running.shed().await, 3);
    idle.is_closed().await;
    silent.is_closed().await;
    marker.is_closed().await;
    running.before_shed_is(0).await;

    let mut later = Raw::connect(running.serving).await;
    for _ in 0..2 {
        later.embed("a lamp").await;
        let answer = later.answer(VECTORS).await;
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    running.before_shed_is(0).await;
    assert_eq!(running.shed().await, 1, "a second call sheds what came since");
    later.is_closed().await;
    assert_eq!(running.shed().await, 0, "repeating it is harmless");
    running.ended().await;
}

/// Guarantees: drain-04.
#[tokio::test]
async fn a_busy_connection_closes_with_its_next_answer_and_is_counted_until_then() {
    let running = start().await;
    let mut busy = Raw::connect(running.serving).await;
    busy.embed("wait").await;
    running.http.status_when(running.admin, |report| report.in_flight == 1).await;
    assert_eq!(running.shed().await, 1);
    assert_eq!(running.shed().await, 1, "it is still there");
    running.before_shed_is(1).await;
    running.engine.release();
    let answer = busy.answer(VECTORS).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    busy.is_closed().await;
    running.before_shed_is(0).await;
    running.ended().await;
}

/// Guarantees: drain-04.
#[tokio::test]
async fn an_http2_connection_is_told_to_go_and_loses_no_request() {
    let running = start().await;
    let http = Http::two();
    http.embed(running.serving, "a lamp").await.unwrap();
    let (slow, serving) = (http.clone(), running.serving);
    let slow = tokio::spawn(async move { slow.embed(serving, "wait").await });
    running.http.status_when(running.admin, |report| report.in_flight == 1).await;
    running.engine.waits().await;
    assert_eq!(running.shed().await, 1);
    // The client has been told by now: this one takes another connection.
    let answer = http.embed(running.serving, "a lamp").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    running.before_shed_is(1).await;
    running.engine.release();
    assert_eq!(slow.await.unwrap().unwrap().status, StatusCode::OK);
    running.before_shed_is(0).await;
    drop(http);
    running.ended().await;
}

/// Between its requests such a client looks idle for less time than a close takes to arrive.
#[tokio::test]
async fn a_client_that_asks_all_the_time_loses_no_request_to_a_shed() {
    let running = start().await;
    for _ in 0..20 {
        let mut client = Raw::connect(running.serving).await;
        client.embed("a lamp").await;
        client.answer(VECTORS).await;
        let client = tokio::spawn(async move {
            loop {
                client.embed("a lamp").await;
                let answer = client.answer(VECTORS).await;
                assert!(answer.starts_with("http/1.1 200"), "{answer}");
                if answer.contains("connection: close") {
                    return;
                }
            }
        });
        running.shed().await;
        tokio::time::timeout(DEADLINE, client).await.expect("it is told to go").unwrap();
    }
    running.before_shed_is(0).await;
    running.ended().await;
}

/// Its connection is idle for most of the time. Were it closed then, one of these requests would
/// find it so.
#[tokio::test]
async fn a_client_that_asks_a_few_times_a_second_loses_no_request_to_a_shed() {
    let running = start().await;
    let clients = (1_u64..=40).map(|number| {
        let (serving, wait) = (running.serving, Duration::from_millis(20 * number));
        tokio::spawn(async move {
            let mut client = Raw::connect(serving).await;
            client.embed("a lamp").await;
            client.answer(VECTORS).await;
            loop {
                tokio::time::sleep(wait).await;
                client.embed("a lamp").await;
                let answer = client.answer(VECTORS).await;
                assert!(answer.starts_with("http/1.1 200"), "{wait:?}: {answer}");
                if answer.contains("connection: close") {
                    return;
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.shed().await;
    for client in clients {
        tokio::time::timeout(DEADLINE, client).await.expect("it is told to go").unwrap();
    }
    running.before_shed_is(0).await;
    running.ended().await;
}

/// A client that would send its next request on this connection would lose it.
#[tokio::test]
async fn an_answer_before_the_bodys_end_says_that_the_connection_closes() {
    let running = start().await;
    let mut client = Raw::connect(running.serving).await;
    client.begin_to_embed(1 << 30).await;
    let refused = client.last_answer().await;
    assert!(refused.starts_with("http/1.1 413"), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    let mut client = Raw::connect(running.serving).await;
    for _ in 0..2 {
        client.embed("").await;
        let refused = client.answer(VECTORS).await;
        assert!(refused.starts_with("http/1.1 400"), "{refused}");
        assert!(!refused.contains("connection: close"), "its body was read: {refused}");
    }
    drop(client);
    running.ended().await;
}

#[tokio::test]
async fn a_shed_for_another_pod_is_refused_and_sheds_nothing() {
    let running = start().await;
    let mut idle = Raw::connect(running.serving).await;
    idle.embed("a lamp").await;
    idle.answer(VECTORS).await;
    for pod in [None, Some(""), Some("another")] {
        let refused = running.http.command(running.admin, "/shed", pod).await.unwrap();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    let report = running.http.status_when(running.admin, |_| true).await;
    assert_eq!(report.connections_before_shed, None, "nobody has shed");
    idle.embed("a lamp").await;
    idle.answer(VECTORS).await;
    drop(idle);
    running.ended().await;
}
