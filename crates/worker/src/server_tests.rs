use std::io::{Read as _, Write as _};

use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

pub(super) const PATIENCE: Patience = Patience {
    idle: Duration::from_secs(10),
    head: Duration::from_secs(10),
    age: Duration::from_secs(10),
    write: Duration::from_secs(10),
    connections: 8,
};
pub(super) const DRAIN: Drain = Drain { delay: Duration::ZERO, timeout: Duration::from_secs(10) };
/// More than the system buffers of one connection on both sides.
pub(super) const LARGE: usize = 64 << 20;

pub(super) struct Served {
    pub(super) server: Server,
    pub(super) figures: Figures,
    pub(super) address: SocketAddr,
}

pub(super) async fn serve(patience: Patience) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let figures = Figures::default();
    let router = Router::new()
        .route("/", get(|| async { "lit" }))
        .route("/large", get(|| async { vec![b'x'; LARGE] }))
        .route("/refuse", post(|| async { (StatusCode::TOO_MANY_REQUESTS, "later") }));
    let server = Server::start(listener, None, router, patience, figures.clone()).unwrap();
    Served { address: server.address(), server, figures }
}

pub(super) async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

pub(super) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it comes to hold");
}

/// The head of an answer, and the connection to read the body from.
pub(super) async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// An answer's head, when its short body was read too.
pub(super) async fn answer(client: &mut TcpStream) -> String {
    let head = head(client).await;
    let mut body = [0; "lit".len()];
    client.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_answer_was_written() {
    let Served { server, figures, address } = serve(PATIENCE).await;
    let mut slow = ask(address, "/large").await;
    let head = head(&mut slow).await;
    assert!(head.contains(&format!("content-length: {LARGE}")), "{head}");
    // The handler is done and nothing more is taken; the answer is not there.
    for _ in 0..20 {
        assert_eq!(figures.in_flight.get(), 1);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut body = vec![0; LARGE];
    slow.read_exact(&mut body).await.unwrap();
    assert!(body.iter().all(|byte| *byte == b'x'), "the pieces are whole and in order");
    until(|| figures.in_flight.get() == 0).await;
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_cut_at_the_drains_end_and_counted() {
    let Served { server, figures, address } = serve(PATIENCE).await;
    let mut stuck = ask(address, "/large").await;
    head(&mut stuck).await;
    // Half a head is no request.
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(b"GET / HT").await.unwrap();
    until(|| figures.open.get() == 2).await;
    let drain = Drain { timeout: Duration::from_millis(100), ..DRAIN };
    let cut = server.drain(drain).await;
    assert_eq!(cut.requests, 1, "{cut:?}");
    assert_eq!((figures.in_flight.get(), figures.open.get()), (0, 0));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_its_connection_and_a_slow_one_does_not() {
    let write = Duration::from_millis(400);
    let Served { server, figures, address } = serve(Patience { write, ..PATIENCE }).await;
    let mut stuck = ask(address, "/large").await;
    let mut slow = ask(address, "/large").await;
    head(&mut stuck).await;
    head(&mut slow).await;
    let begun = std::time::Instant::now();
    let mut left = LARGE;
    let mut piece = vec![0; LARGE / 8];
    while left > 0 {
        let read = tokio::time::timeout(write, slow.read_exact(&mut piece)).await;
        read.expect("it goes on").unwrap();
        left -= piece.len();
        tokio::time::sleep(write / 4).await;
    }
    assert!(begun.elapsed() > write, "slower in all than one pause may be");
    until(|| figures.in_flight.get() == 0).await;
    let mut rest = Vec::new();
    let ended = stuck.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.len() < LARGE, "the stuck one was cut off");
    drop(slow);
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn an_http2_answer_that_is_not_taken_is_in_flight_until_its_connection_is_closed() {
    let write = Duration::from_millis(400);
    let Served { server, figures, address } = serve(Patience { write, ..PATIENCE }).await;
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let large: Uri = format!("http://{address}/large").parse().unwrap();
    let answer = client.get(large).await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(figures.in_flight.get(), 1);
    until(|| figures.in_flight.get() == 0).await;
    assert!(begun.elapsed() >= write / 2, "it was waited for");
    assert!(answer.into_body().collect().await.is_err(), "the answer is cut off, and seen to be");
    let small: Uri = format!("http://{address}/").parse().unwrap();
    let answer = client.get(small).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "lit");
    until(|| figures.in_flight.get() == 0).await;
    drop(client);
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn more_connections_than_there_may_be_wait_and_are_answered_in_turn() {
    let Served { server, figures, address } = serve(Patience { connections: 1, ..PATIENCE }).await;
    let mut first = ask(address, "/").await;
    let answer = answer(&mut first).await;
    assert!(!answer.contains("connection: close"), "nobody wants its place: {answer}");
    let mut second = ask(address, "/").await;
    let told = async {
        loop {
            first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            if self::answer(&mut first).await.contains("connection: close") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("its place is wanted");
    assert!(figures.open.get() <= 1);
    let answer = head(&mut second).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    drop((first, second));
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn a_connection_that_waits_to_be_accepted_is_answered_though_the_listener_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The system completes the connection; no task of this runtime has seen it yet.
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let router = Router::new().route("/", get(|| async { "lit" }));
    let server = Server::start(listener, None, router, PATIENCE, Figures::default()).unwrap();
    server.signals.closing.cancel();

    assert_eq!(server.drain(DRAIN).await, Cut::default());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("lit"), "{answer}");
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_client_that_sends_nothing_does_not_keep_its_place_from_others() {
    let Served { server, figures, address } = serve(Patience { connections: 1, ..PATIENCE }).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    until(|| figures.open.get() == 1).await;
    let begun = std::time::Instant::now();
    let answer = head(&mut ask(address, "/").await).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(begun.elapsed() < PATIENCE.idle / 2, "{:?}", begun.elapsed());
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "it was closed");
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

/// A request for the route that reads no body, without the body.
async fn refused(address: SocketAddr, length: usize) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_before_it_reads_finds_that_it_was_refused() {
    let Served { server, figures, address } = serve(PATIENCE).await;
    let body = vec![b' '; 6 << 20];
    let mut client = refused(address, body.len()).await;
    // The answer is on its way, and the connection about to be closed.
    until(|| figures.in_flight.get() == 0).await;
    client.write_all(&body).await.expect("the body is taken");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("there was no reset");
    assert!(answer.starts_with("HTTP/1.1 429") && answer.ends_with("later"), "{answer}");
    drop(client);
    until(|| figures.open.get() == 0).await;
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn a_client_that_never_closes_its_side_is_waited_for_only_so_long() {
    let Served { server, figures, address } = serve(PATIENCE).await;
    let mut client = refused(address, 1_000).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let begun = std::time::Instant::now();
    assert!(answer.ends_with("later"), "{answer}");
    assert_eq!(figures.open.get(), 1, "more may come");
    until(|| figures.open.get() == 0).await;
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < PATIENCE.idle / 2, "{:?}", begun.elapsed());
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn a_client_whose_body_was_read_after_all_keeps_its_connection_and_delays_no_drain() {
    let Served { server, figures, address } = serve(PATIENCE).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    client.write_all(request).await.unwrap();
    assert!(head(&mut client).await.starts_with("http/1.1 429"));
    client.read_exact(&mut [0; "later".len()]).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answer(&mut client).await.starts_with("http/1.1 200"));
    until(|| figures.in_flight.get() == 0).await;
    let begun = std::time::Instant::now();
    assert_eq!(server.drain(DRAIN).await, Cut::default());
    // The second in which a client may ask again, and not the one after it in which a body may come.
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it was closed");
}
