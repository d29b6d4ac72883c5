//! What is refused before it is read, and what of a client's own words comes back to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, header};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt as _, StreamExt as _, stream};
use lamplighter_worker::http::Limits;
use serde_json::{Value, json};

use crate::support::client::{Answer, call, post};
use crate::support::fake::Fake;
use crate::support::{self, Bench, DEADLINE};

const EMBEDDINGS: &str = "/v1/embeddings";
const LIMITS: Limits = Limits { body: 1_000, bodies: 1_500, ..support::LIMITS };

fn bench(limits: Limits, engine: &Arc<Fake>) -> Arc<Bench> {
    let bench = Bench::loading(limits, 2);
    bench.open(engine);
    Arc::new(bench)
}

/// A body whose bytes the test sends.
fn sent_later() -> (UnboundedSender<Bytes>, Body) {
    let (sender, receiver) = unbounded();
    (sender, Body::from_stream(receiver.map(Ok::<_, Infallible>)))
}

/// A body that counts how often it is asked for bytes.
fn watched(asked: &Arc<AtomicUsize>) -> Body {
    let asked = Arc::clone(asked);
    let bytes = stream::repeat_with(move || {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from_static(&[b' '; 100]))
    });
    Body::from_stream(bytes)
}

fn of_length(length: usize, body: Body) -> Request<Body> {
    let mut request = post(EMBEDDINGS, body);
    request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    request
}

fn is_refused(answer: &Answer, code: &str) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text);
    assert_eq!(answer.error_code(), code);
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    let seconds: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
}

#[tokio::test]
async fn bodies_that_have_no_room_together_are_refused_before_they_are_read() {
    let bench = bench(LIMITS, &Arc::new(Fake::new()));
    let (sender, body) = sent_later();
    let first = of_length(1_000, body);
    let holding = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { call(&bench.app, first).await }
    });
    // Its bytes are set aside with its head, so that the next one finds 500 left.
    tokio::task::yield_now().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = call(&bench.app, of_length(501, watched(&asked))).await;
    is_refused(&answer, "too_many_bytes");
    assert_eq!(asked.load(Ordering::Relaxed), 0, "not a byte was read");

    let answer = call(&bench.app, post(EMBEDDINGS, watched(&asked))).await;
    is_refused(&answer, "too_many_bytes");
    assert_eq!(asked.load(Ordering::Relaxed), 6, "read as far as there was room");

    let short = json!({"model": "other", "input": "a"}).to_string();
    let answer = call(&bench.app, post(EMBEDDINGS, short.clone())).await;
    assert_eq!(answer.status, StatusCode::OK, "what fits is answered: {}", answer.text);

    sender.unbounded_send(short.clone().into()).unwrap();
    drop(sender);
    assert_eq!(holding.await.unwrap().status, StatusCode::OK);
    let padded = format!("{short}{}", " ".repeat(1_000 - short.len()));
    let answer = call(&bench.app, of_length(1_000, padded.into())).await;
    assert_eq!(answer.status, StatusCode::OK, "the room came back: {}", answer.text);
}

#[tokio::test]
async fn what_bodies_only_announce_takes_little_room_from_others() {
    let limits = Limits { body: 200_000, bodies: 200_000, ..support::LIMITS };
    let bench = bench(limits, &Arc::new(Fake::new()));
    let silent: Vec<_> = (0..3)
        .map(|_| {
            let (sender, body) = sent_later();
            let (bench, request) = (Arc::clone(&bench), of_length(200_000, body));
            (sender, tokio::spawn(async move { call(&bench.app, request).await }))
        })
        .collect();
    tokio::task::yield_now().await;
    let short = json!({"model": "other", "input": "a"}).to_string();
    let answer = call(&bench.app, post(EMBEDDINGS, short)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for (sender, task) in silent {
        drop(sender);
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_which_nothing_more_comes_is_waited_for_only_so_long() {
    let limits = Limits { time: Duration::from_mins(1), ..LIMITS };
    let bench = bench(limits, &Arc::new(Fake::new()));
    let (sender, body) = sent_later();
    let begun = tokio::time::Instant::now();
    let request = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { call(&bench.app, post(EMBEDDINGS, body)).await }
    });
    for _ in 0..3 {
        sender.unbounded_send(Bytes::from_static(b" ")).unwrap();
        tokio::time::sleep(Duration::from_secs(9)).await;
    }
    let answer = request.await.unwrap();
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{}", answer.text);
    assert!(answer.text.contains("nothing more of the body came for 10 s"), "{}", answer.text);
    assert_eq!(begun.elapsed().as_secs(), 28);
}

#[tokio::test]
async fn a_full_queue_refuses_before_the_body_is_read() {
    let engine = Arc::new(Fake::new());
    let bench = bench(LIMITS, &engine);
    let waiting = tokio::spawn({
        let bench = Arc::clone(&bench);
        let body = json!({"model": "other", "input": ["wait", "a"]}).to_string();
        async move { call(&bench.app, post(EMBEDDINGS, body)).await }
    });
    let queued = bench.board.metrics().queued_texts().clone();
    tokio::time::timeout(DEADLINE, async {
        while queued.get() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first request is admitted");
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = call(&bench.app, post(EMBEDDINGS, watched(&asked))).await;
    is_refused(&answer, "queue_full");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    engine.release();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
}

/// A request is refused in the poll that it is first looked at: whatever else the worker does, there is
/// nothing that it waits for.
#[tokio::test]
async fn a_refusal_waits_for_nothing_while_every_thread_is_busy() {
    let engine = Arc::new(Fake::new());
    let bench = bench(LIMITS, &engine);
    let waiting = tokio::spawn({
        let bench = Arc::clone(&bench);
        let body = json!({"model": "other", "input": ["wait", "wait"]}).to_string();
        async move { call(&bench.app, post(EMBEDDINGS, body)).await }
    });
    let queued = bench.board.metrics().queued_texts().clone();
    tokio::time::timeout(DEADLINE, async {
        while queued.get() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first request is admitted");
    let body = json!({"model": "other", "input": "a"}).to_string();
    for _ in 0..1_000 {
        let answer = call(&bench.app, post(EMBEDDINGS, body.clone())).now_or_never();
        let answer = answer.expect("answered when it was first looked at");
        is_refused(&answer, "queue_full");
        let millis: u64 = answer.headers["retry-after-ms"].to_str().unwrap().parse().unwrap();
        assert!((1..=60_000).contains(&millis));
    }
    engine.release();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
    assert_eq!(engine.answered.lock().unwrap().len(), 2, "what was refused was not computed");
}

#[tokio::test]
async fn a_text_that_could_never_be_read_uncut_is_refused_before_it_is_split() {
    let engine = Arc::new(Fake::new());
    let bench = bench(Limits { bytes_per_token: 4, ..LIMITS }, &engine);
    // The engine reads 16 tokens. Blanks are none, so that no count of tokens would refuse it.
    let ask = |blanks: usize, more: Value| {
        let mut body = json!({"inputs": format!("a{}", " ".repeat(blanks)), "model": "other"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post("/embed", body.to_string())
    };
    let refused = call(&bench.app, ask(64, json!({"truncate": false}))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text);
    assert_eq!(refused.json()["error_type"], "tokenizer");
    assert!(refused.text.contains("inputs[0] has 65 bytes"), "{}", refused.text);
    let body = json!({"model": "other", "input": " ".repeat(65)}).to_string();
    let refused = call(&bench.app, post(EMBEDDINGS, body)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(refused.error_code(), "context_length_exceeded");
    assert_eq!(engine.split.load(Ordering::Relaxed), 0);
    for (blanks, more) in [(63, json!({"truncate": false})), (64, json!({}))] {
        let taken = call(&bench.app, ask(blanks, more)).await;
        assert_eq!(taken.status, StatusCode::OK, "{}", taken.text);
    }
    assert_eq!(engine.split.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_may_say_how_urgent_it_is() {
    let bench = Bench::ready(&Arc::new(Fake::new()));
    let body = json!({"model": "other", "input": "a"}).to_string();
    for (class, status) in [
        ("bulk", StatusCode::OK),
        ("interactive", StatusCode::OK),
        ("idle", StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
    ] {
        let mut request = post(EMBEDDINGS, body.clone());
        request.headers_mut().insert("x-lamplighter-class", class.parse().unwrap());
        let answer = call(&bench.app, request).await;
        assert_eq!(answer.status, status, "{class:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_body_and_the_answer_share_one_time() {
    let engine = Arc::new(Fake::new());
    let time = Duration::from_secs(1);
    let bench = bench(Limits { time, ..LIMITS }, &engine);
    let (sender, body) = sent_later();
    let begun = Instant::now();
    let asking = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { call(&bench.app, post(EMBEDDINGS, body)).await }
    });
    // A client that takes most of the time to send.
    tokio::time::sleep(time * 4 / 5).await;
    let body = json!({"model": "other", "input": "wait"}).to_string();
    sender.unbounded_send(body.into()).unwrap();
    drop(sender);
    let answer = asking.await.unwrap();
    assert_eq!(answer.error_code(), "deadline_exceeded");
    assert!(begun.elapsed() < time * 3 / 2, "the time began anew: {:?}", begun.elapsed());
    engine.release();
}

#[tokio::test]
async fn what_a_client_sent_comes_back_shortened() {
    let bench = Bench::ready(&Arc::new(Fake::new()));
    let long = "ö".repeat(10_000);
    let ask = |body: Value| post(EMBEDDINGS, body.to_string());
    let model = |id: &str| Request::get(format!("/v1/models/{id}")).body(Body::empty()).unwrap();
    let with_type = Request::post(EMBEDDINGS)
        .header(header::CONTENT_TYPE, "x".repeat(10_000))
        .body(Body::empty());
    let at = |method: Method, path: &str| {
        Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
    };
    let shout = Method::from_bytes("A".repeat(10_000).as_bytes()).unwrap();
    for request in [
        ask(json!({"model": long, "input": "a"})),
        ask(json!({"model": "other", "input": "a", "dimensions": long})),
        ask(json!({"model": "other", "input": "a", "encoding_format": long})),
        ask(json!(long)),
        model(&"a".repeat(10_000)),
        with_type.unwrap(),
        at(Method::GET, &format!("/{}", "a".repeat(10_000))),
        at(shout.clone(), "/a"),
        at(shout, EMBEDDINGS),
    ] {
        let answer = call(&bench.app, request).await;
        assert!(answer.status.is_client_error(), "{}", answer.text);
        assert!(!answer.error_code().is_empty());
        let json = answer.json();
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains('…') && message.len() < 600, "{} bytes", message.len());
    }
    let answer = call(&bench.app, ask(json!({"model": "other", "input": [-1e300]}))).await;
    let json = answer.json();
    assert!(json["error"]["message"].as_str().unwrap().len() < 600);
}
