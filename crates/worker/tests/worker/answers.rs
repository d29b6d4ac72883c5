//! What answers take until their clients have read them, and on which threads they are made.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use lamplighter_worker::http::{self, Limits};
use lamplighter_worker::serve::Worker;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::support::client::{Answer, Http, call, get, post, whole};
use crate::support::fake::{Fake, MAX_TOKENS};
use crate::support::raw::Raw;
use crate::support::{self, Bench, DEADLINE, manifest, model, serve_args};

/// A text of as many tokens as the engine takes.
fn long() -> String {
    "a ".repeat(MAX_TOKENS)
}

fn all(texts: usize) -> String {
    json!({"inputs": vec![long(); texts], "model": "embedder"}).to_string()
}

fn bench(engine: &Arc<Fake>, limits: Limits) -> Bench {
    Bench::bounded(&[("embedder:1", Arc::clone(engine))], limits, 10_000)
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text);
    assert_eq!(answer.json()["error_type"], "overloaded");
    assert!(answer.text.contains("the answers to other requests"), "{}", answer.text);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_and_the_next_one_is_refused_before_it_is_computed() {
    let engine = Arc::new(Fake::wide(100));
    let bench = bench(&engine, Limits { answers: 200_000, ..support::LIMITS });
    let router = http::router(Arc::clone(&bench.app));
    let ask = || router.clone().oneshot(post("/embed_all", all(4)));
    let mut unread = Vec::new();
    let refused = loop {
        let answer = ask().await.unwrap();
        if answer.status() != StatusCode::OK {
            break whole(answer).await;
        }
        unread.push(answer.into_body());
        assert!(unread.len() < 20, "answers wait without a bound");
    };
    is_refused(&refused);
    assert!(!unread.is_empty(), "the room is given to those who come first");
    assert_eq!(engine.answered.lock().unwrap().len(), 4 * unread.len(), "it was not computed");

    let mut first = unread.remove(0);
    let mut bytes = first.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.frame().await.is_none(), "that was all of it");
    drop(first);
    drop(bytes.split_to(bytes.len() - 1));
    is_refused(&whole(ask().await.unwrap()).await);
    drop(bytes);
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK, "read to the last byte");
    drop(unread);
}

#[tokio::test]
async fn an_answer_for_which_there_is_never_room_is_the_requests_own_fault() {
    let engine = Arc::new(Fake::wide(100));
    let bench = bench(&engine, Limits { answers: 10_000, ..support::LIMITS });
    let answer = call(&bench.app, post("/embed_all", all(4))).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
    assert!(answer.text.contains("at most 10000: send fewer texts"), "{}", answer.text);
    assert!(!answer.headers.contains_key(header::RETRY_AFTER));
    let body = json!({"model": "embedder", "input": "a"}).to_string();
    assert_eq!(call(&bench.app, post("/v1/embeddings", body)).await.status, StatusCode::OK);
}

/// The bytes are counted until the system has the last of them, not until hyper has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_keeps_the_room_of_its_answer() {
    let engine = Arc::new(Fake::wide(2_000));
    let dir = tempfile::tempdir().unwrap();
    let more = ["--max-answer-bytes-in-flight", "55000000", "--drain-delay-seconds", "0"];
    let args = serve_args(dir.path(), &more);
    let worker = Worker::bind(&args, manifest(&["embedder:1"])).await.unwrap();
    let (serving, admin) = (worker.serving_address(), worker.admin_address());
    let stop = CancellationToken::new();
    let load = move |entry, _| {
        let engine = Arc::clone(&engine);
        async move { Ok(model(&entry, engine)) }
    };
    let running = tokio::spawn(worker.run(load, stop.clone()));
    let http = Http::one();
    http.ready_is(admin, StatusCode::OK).await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut slow = Raw(socket.connect(serving).await.unwrap());
    slow.post("/embed_all", &all(64)).await;
    let mut head = [0; 15];
    let read = tokio::time::timeout(DEADLINE, slow.0.read_exact(&mut head)).await;
    read.expect("it is answered").unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let refused = http.post(serving, "/embed_all", None, &all(64)).await.unwrap();
    is_refused(&refused);
    let small = http.embed(serving, "a lamp").await.unwrap();
    assert_eq!(small.status, StatusCode::OK, "there is room for less: {}", small.text);
    let head = slow.answer("]]]").await;
    assert!(head.contains("content-length"), "{head}");
    let answer = http.post(serving, "/embed_all", None, &all(64)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "the room came back: {:.200}", answer.text);
    stop.cancel();
    assert_eq!(running.await.unwrap(), Ok(()));
}

/// Requests whose bodies, or whose answers, are long.
fn long_requests() -> [(&'static str, Request<Body>); 7] {
    let padding = " ".repeat(70 << 10);
    let short = json!({"inputs": "a"});
    let tensor = json!({"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]});
    let many = vec!["a"; 2_000];
    let padded = |body: Value| format!("{padding}{body}");
    [
        ("/embed", padded(short.clone())),
        ("/", padded(short)),
        ("/v1/embeddings", padded(json!({"model": "embedder", "input": "a"}))),
        ("/v2/models/embedder/infer", padded(json!({"inputs": [tensor]}))),
        ("/embed_all", json!({"inputs": many}).to_string()),
        ("/v1/embeddings", json!({"model": "embedder", "input": many}).to_string()),
        (
            "/v2/models/embedder/infer",
            json!({"inputs": [{"name": "text", "shape": [2_000], "datatype": "BYTES", "data": many}]})
                .to_string(),
        ),
    ]
    .map(|(path, body)| (path, post(path, Bytes::from(body))))
}

/// The one thread that may be busy is, so that whatever is left to such threads waits. All else goes on,
/// on the one thread of the runtime.
#[test]
fn no_request_waits_while_a_long_body_is_read_or_a_long_answer_is_made() {
    let mut one = tokio::runtime::Builder::new_current_thread();
    let runtime = one.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let engine = Arc::new(Fake::new());
        let bench = bench(&engine, Limits { body: 1 << 20, ..support::LIMITS });
        let (release, released) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv_timeout(DEADLINE));
        let asked = long_requests().map(|(path, request)| {
            let app = Arc::clone(&bench.app);
            (path, tokio::spawn(async move { call(&app, request).await }))
        });
        let computed = async {
            while engine.answered.lock().unwrap().len() < 6_000 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, computed).await.expect("what had short bodies is computed");
        let body = json!({"model": "embedder", "input": "a"}).to_string();
        for _ in 0..100 {
            let small = call(&bench.app, post("/v1/embeddings", body.clone())).await;
            assert_eq!(small.status, StatusCode::OK, "{}", small.text);
            assert_eq!(call(&bench.app, get("/health")).await.status, StatusCode::OK);
        }
        assert_eq!(engine.split.load(Ordering::Relaxed), 6_100, "no long body was read");
        for (path, asked) in &asked {
            assert!(!asked.is_finished(), "{path}");
        }
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        for (path, asked) in asked {
            let answer = tokio::time::timeout(DEADLINE, asked).await.expect("an answer").unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        }
    });
}
