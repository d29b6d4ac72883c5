//! What clients can take from each other and from the process, before any of them shows a key.

use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::tests::{DRAIN, LARGE, PATIENCE, Served, answer, ask, serve, until};
use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
/// What an HTTP/2 client begins with, and no more: no frame of the server's is acknowledged.
const MUTE_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// How long another connection waits for its answer.
async fn is_answered(address: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut client = ask(address, "/").await;
    let answer = tokio::time::timeout(PATIENCE.idle / 2, answer(&mut client)).await;
    assert!(answer.expect("an answer in time").starts_with("http/1.1 200"));
    begun.elapsed()
}

async fn is_open(client: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(50), client.read(&mut [0])).await.is_err()
}

#[tokio::test]
async fn of_idle_connections_as_many_make_room_as_must_and_the_longest_idle_first() {
    let Served { server, address, .. } = serve(Patience { connections: 2, ..PATIENCE }).await;
    let mut later = ask(address, "/").await;
    answer(&mut later).await;
    let mut first = ask(address, "/").await;
    answer(&mut first).await;
    later.write_all(ASK).await.unwrap();
    answer(&mut later).await;
    let waited = is_answered(address).await;
    assert!(waited > PAUSE / 2, "a request may have been on its way: {waited:?}");
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "it was closed, and not reset");
    assert!(is_open(&mut later).await, "one place was enough");
    drop((first, later));
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn an_idle_http2_connection_makes_room_and_loses_no_request() {
    let Served { server, address, .. } = serve(Patience { connections: 1, ..PATIENCE }).await;
    let client: Client<HttpConnector, Empty<bytes::Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri: axum::http::Uri = format!("http://{address}/").parse().unwrap();
    for _ in 0..2 {
        let answer = client.get(uri.clone()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "lit");
        is_answered(address).await;
    }
    drop(client);
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn neither_half_a_head_nor_a_mute_http2_client_keeps_its_place_from_others() {
    for half in [b"GET / HT".as_slice(), MUTE_HTTP2] {
        let Served { server, address, .. } = serve(Patience { connections: 1, ..PATIENCE }).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(half).await.unwrap();
        is_answered(address).await;
        drop(client);
        assert_eq!(server.drain(DRAIN).await, Cut::default());
    }
}

/// A client whose system takes little before the client itself does.
async fn ask_with_a_short_buffer(address: SocketAddr, bytes: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    let mut client = socket.connect(address).await.unwrap();
    client.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    client
}

#[tokio::test]
async fn a_reader_that_trickles_loses_its_connection() {
    let write = Duration::from_millis(400);
    let Served { server, figures, address } = serve(Patience { write, ..PATIENCE }).await;
    let mut client = ask_with_a_short_buffer(address, 4 << 10).await;
    // A third of the least that it must take.
    let trickle = async {
        let mut piece = [0; 1 << 10];
        while client.read_exact(&mut piece).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE.idle / 2, trickle).await.expect("it is cut off");
    assert_eq!(figures.in_flight.get(), 0);
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn a_steady_reader_keeps_its_connection_however_much_the_system_could_hold() {
    let write = Duration::from_secs(1);
    let Served { server, figures, address } = serve(Patience { write, ..PATIENCE }).await;
    let mut client = ask_with_a_short_buffer(address, 256 << 10).await;
    // First in a hurry, so that the system sets more and more aside; then six times the least.
    let mut fast = vec![0; LARGE / 2];
    client.read_exact(&mut fast).await.unwrap();
    let mut piece = vec![0; 32 << 10];
    for _ in 0..50 {
        client.read_exact(&mut piece).await.expect("it goes on");
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    assert_eq!(figures.in_flight.get(), 1, "it is not cut off");
    drop(client);
    until(|| figures.in_flight.get() == 0).await;
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_and_not_stored() {
    let Served { server, address, .. } = serve(PATIENCE).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(395_000));
    client.write_all(head.as_bytes()).await.expect("it is taken");
    let mut answer = String::new();
    let read = client.read_to_string(&mut answer);
    let read = tokio::time::timeout(PATIENCE.idle / 2, read).await;
    read.expect("an answer in time").expect("there was no reset");
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // Half of the most is none too much.
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(32 << 10));
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(self::answer(&mut client).await.starts_with("http/1.1 200"));
    drop(client);
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}

#[tokio::test]
async fn a_head_has_less_time_than_a_connection_may_be_idle() {
    let head = Duration::from_millis(300);
    let Served { server, address, .. } = serve(Patience { head, ..PATIENCE }).await;
    let mut idle = ask(address, "/").await;
    answer(&mut idle).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    let sent = async {
        slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE.idle / 2, sent).await.expect("it is closed");
    assert!(begun.elapsed() >= head, "{:?}", begun.elapsed());
    idle.write_all(ASK).await.unwrap();
    assert!(answer(&mut idle).await.starts_with("http/1.1 200"), "an idle one lives on");
    drop((idle, slow));
    assert_eq!(server.drain(DRAIN).await, Cut::default());
}
