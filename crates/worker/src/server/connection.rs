//! One connection, from its first byte to a close that loses no request.
//!
//! In HTTP/1.1 a server that closes an idle connection may cross a request on its way. So a
//! connection is told to close with an answer (`Connection: close`) wherever there is one, and
//! closed while idle only at the very end, when it is shed or when others wait for its place, and then
//! after a moment: whoever asks all the time hears of it in an answer. In HTTP/2 GOAWAY says which requests will still be
//! answered, so it is sent at once
//! (<https://www.rfc-editor.org/rfc/rfc9113#section-6.8>).

use std::convert::Infallible;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Patience;
use super::flight::{Flights, LEAST, Wire, Written};
use super::head::{Head, Headed};
use super::linger::Leftover;
use super::shedding::Member;

/// A connection that was accepted last may have its first request still on the way.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// A client whose next request does not come within this time is idle. One that asks at least so
/// often never has a request cross the close; one that asks less often may, as with every server
/// that closes an idle connection (<https://www.rfc-editor.org/rfc/rfc9112#section-9.5>).
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// What is left of a body of so many bytes has mostly come with its head, and is read after all.
const SHORT: u64 = 4 << 10;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may be. Unfinished ones are the only bytes of a client that no
/// budget counts.
const HEAD_BYTES: usize = 64 << 10;
/// The same in HTTP/2, where fields are counted before they are compressed.
const HTTP2_HEAD_BYTES: u32 = 16 << 10;
/// How long a connection that was told to go and has no request may take to close.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often an HTTP/2 client must show that it is still there.
const PING: Duration = Duration::from_secs(20);
/// How many requests of one HTTP/2 connection run at once.
const STREAMS: u32 = 256;

/// What a listener tells its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// Close with the next answer.
    pub(super) draining: CancellationToken,
    /// Finish what runs, then close.
    pub(super) closing: CancellationToken,
    /// Close now.
    pub(super) cut: CancellationToken,
}

/// A connection as it came in.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    /// None where no TLS is spoken.
    pub(super) tls: Option<TlsAcceptor>,
}

struct Connection {
    signals: Signals,
    /// Another connection waits for a place.
    crowded: Arc<AtomicBool>,
    member: Member,
    flights: Arc<Flights>,
    leftover: Leftover,
    head: Arc<Head>,
    idle: Duration,
    retires: Instant,
    used: AtomicBool,
    first_request: Notify,
    is_http2: Notify,
}

/// Serves a connection until it is closed.
pub(super) async fn serve(
    Accepted { stream, tls }: Accepted,
    router: Router,
    patience: Patience,
    signals: Signals,
    crowded: Arc<AtomicBool>,
    member: Member,
    flights: Arc<Flights>,
) {
    let leftover = Leftover::default();
    let state = Arc::new(Connection {
        signals,
        crowded,
        member,
        flights: Arc::clone(&flights),
        leftover: leftover.clone(),
        head: Arc::default(),
        idle: patience.idle,
        retires: Instant::now() + jittered(patience.age),
        used: AtomicBool::new(false),
        first_request: Notify::new(),
        is_http2: Notify::new(),
    });
    let wire = Wire::new(stream, flights, leftover);
    match tls {
        None => talk(wire, router, patience, state).await,
        Some(acceptor) => {
            if let Some(wire) = state.shake_hands(acceptor, wire).await {
                talk(wire, router, patience, state).await;
            }
        }
    }
}

/// Answers what comes over a connection until it is closed.
async fn talk(
    wire: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    patience: Patience,
    state: Arc<Connection>,
) {
    let answering = Arc::clone(&state);
    let service = service_fn(move |request: Request<Incoming>| {
        answer(Arc::clone(&answering), router.clone(), request)
    });
    let wire = Headed {
        wire,
        head: Arc::clone(&state.head),
        flights: Arc::clone(&state.flights),
        leftover: state.leftover.clone(),
    };
    let builder = builder(patience.idle);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(wire), service));
    let mut farewell = pin!(state.farewell());
    let mut stalled = pin!(state.flights.stalled(patience.write));
    let mut late = pin!(state.head.is_late(patience.head));
    let mut overstayed = pin!(state.overstayed());
    let mut told = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => break ended,
            () = state.signals.cut.cancelled() => return,
            () = stalled.as_mut() => {
                let seconds = patience.write.as_secs();
                tracing::warn!(
                    seconds,
                    bytes = LEAST,
                    "a client took less of its answer than it must in that time: connection closed"
                );
                return;
            }
            () = late.as_mut() => {
                tracing::debug!("a client began the head of a request and did not end it");
                return;
            }
            () = overstayed.as_mut(), if told => return,
            () = farewell.as_mut(), if !told => {
                serving.as_mut().graceful_shutdown();
                told = true;
            }
        }
    };
    if let Err(error) = ended {
        // The client went away, was too slow, or does not speak HTTP: its own affair.
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn builder(idle: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_header_list_size(HTTP2_HEAD_BYTES)
        .max_concurrent_streams(STREAMS);
    builder
}

async fn answer(
    connection: Arc<Connection>,
    router: Router,
    request: Request<Incoming>,
) -> Result<Response<Written>, Infallible> {
    let flight = connection.flights.begin();
    let http2 = request.version() == Version::HTTP_2;
    connection.saw_request(http2);
    let leftover = &connection.leftover;
    let is_short = request.body().size_hint().upper().is_some_and(|bytes| bytes <= SHORT);
    let request =
        request.map(|body| if http2 { Leftover::ignore(body) } else { leftover.watch(body) });
    let mut response = router.oneshot(request).await?;
    // What is left of a long body is not read any more, so that no other request can follow it.
    let is_cut_off = !is_short && connection.leftover.is_there();
    if !http2 && (connection.is_retiring() || is_cut_off) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| flight.write(body, !http2)))
}

impl Connection {
    /// Until it is done the connection is an idle one: it gets no more time and has no more rights.
    async fn shake_hands(&self, acceptor: TlsAcceptor, wire: Wire) -> Option<TlsStream<Wire>> {
        let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(wire));
        let shaken = tokio::select! {
            biased;
            () = self.signals.cut.cancelled() => return None,
            shaken = handshake => shaken,
            () = self.farewell() => return None,
        };
        match shaken {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client spoke no TLS, or none that is spoken here");
                None
            }
            Err(_) => {
                tracing::debug!("a client began a TLS handshake and did not end it");
                None
            }
        }
    }

    fn saw_request(&self, http2: bool) {
        self.head.is_whole(http2);
        self.used.store(true, Ordering::Release);
        self.first_request.notify_one();
        if http2 {
            self.is_http2.notify_one();
        }
    }

    fn is_retiring(&self) -> bool {
        self.signals.draining.is_cancelled()
            || self.member.shed().is_cancelled()
            || self.is_crowded()
            || Instant::now() >= self.retires
    }

    fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    /// Returns when the connection is to finish what runs and close.
    async fn farewell(&self) {
        tokio::select! {
            () = self.goaway() => {}
            () = self.dismissal() => {}
            () = self.silence() => {}
            () = self.flights.sent_away() => {}
        }
    }

    /// HTTP/2 is told as soon as there is a reason.
    async fn goaway(&self) {
        tokio::select! {
            () = self.signals.draining.cancelled() => {}
            () = tokio::time::sleep_until(self.retires.into()) => {}
        }
        self.is_http2.notified().await;
    }

    /// Told to go: a connection when it has been idle for a moment, if its next answer has not closed
    /// it by then; a new one when it had time for its first request.
    async fn dismissal(&self) {
        tokio::select! {
            () = self.signals.closing.cancelled() => {}
            () = self.member.shed().cancelled() => {}
        }
        if !self.used.load(Ordering::Acquire) {
            tokio::select! {
                () = self.first_request.notified() => {}
                () = tokio::time::sleep(FIRST_REQUEST) => return,
            }
        }
        tokio::select! {
            // A GOAWAY loses nothing.
            () = self.is_http2.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }

    /// The read timeout of HTTP/1 begins when the protocol is known, which a client that sends
    /// nothing never makes it.
    async fn silence(&self) {
        tokio::time::sleep(self.idle).await;
        if self.used.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }

    /// To be waited for when the connection was told to go. An HTTP/2 client that does not answer a
    /// GOAWAY, or one with half a head, would stay.
    async fn overstayed(&self) {
        loop {
            tokio::time::sleep(GOODBYE).await;
            if self.flights.are_none() {
                return;
            }
        }
    }
}

/// Four fifths of the age and a random part of the last one.
fn jittered(age: Duration) -> Duration {
    let random = std::hash::RandomState::new().hash_one(());
    let part = u32::try_from(random % 256).unwrap_or_default();
    age * 4 / 5 + age / 5 / 256 * part
}
