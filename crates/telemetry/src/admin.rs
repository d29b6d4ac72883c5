//! The admin listener: probes, metrics and status, apart from the traffic that is served.
//!
//! Whoever reaches it may ask, so what it can take is bounded: each connection gets one answer, and
//! there are [`CONNECTIONS`] at most. When more come, those are closed first that have asked nothing,
//! so that a probe is answered in any crowd.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::idle::{Idler, Idlers};

/// How long open connections may linger once the listener was told to stop.
const LINGER: Duration = Duration::from_secs(2);
/// How many may be open.
const CONNECTIONS: usize = 64;
/// How long a connection may take for the head of its request, in bytes and in time.
const HEAD: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 << 10;
/// How long where others wait.
const HEAD_IN_A_CROWD: Duration = Duration::from_millis(100);
/// After an accept that failed for want of file descriptors, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin listener does not work.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} for probes and metrics: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The task that accepts connections was lost, which is a bug.
    #[error("the listener for probes and metrics on {address} failed: {source}")]
    Serve {
        /// The address it listened on.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A running admin listener.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Binds `address` and answers from `router` until `token` is cancelled.
///
/// Returns as soon as the socket is bound, so that the first probe already finds it.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    token: CancellationToken,
) -> Result<Admin, AdminError> {
    let bind = |source| AdminError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let task = tokio::spawn(accept(listener, router, token));
    Ok(Admin { address, task })
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let idlers = Idlers::default();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for probes and metrics was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
            never = idlers.send_away(HEAD_IN_A_CROWD) => match never {},
        };
        let answering = answer(stream, router.clone(), idlers.enter(), stop.clone());
        connections.spawn(async move {
            answering.await;
            drop(place);
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LINGER, ended).await.is_err() {
        tracing::debug!("connections for probes and metrics were cut off");
    }
}

/// Answers one request. No second one is waited for: those who ask here ask every few seconds.
async fn answer(stream: TcpStream, router: Router, idler: Idler, stop: CancellationToken) {
    let service = service_fn(|request: Request<Incoming>| {
        idler.is_busy();
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        () = idler.sent_away() => None,
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None if idler.is_waiting() => return,
        None => serving.await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for probes and metrics ended with an error");
    }
}

impl Admin {
    /// The bound address, with the port that the system chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the listener has ended: after its token was cancelled, or on failure.
    pub async fn stopped(self) -> Result<(), AdminError> {
        let address = self.address;
        self.task
            .await
            .map_err(|lost| AdminError::Serve { address, source: io::Error::other(lost) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::probe::{self, Readiness};

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const DEADLINE: Duration = Duration::from_secs(10);
    const ASK: &[u8] = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";

    async fn start(token: &CancellationToken) -> Admin {
        let readiness = Readiness::not_ready_yet("Starting", "");
        serve(ANY, probe::router(readiness), token.clone()).await.unwrap()
    }

    async fn silent(admin: &Admin) -> TcpStream {
        TcpStream::connect(admin.address()).await.unwrap()
    }

    async fn answer(admin: &Admin) -> String {
        let asking = async {
            let mut client = silent(admin).await;
            client.write_all(ASK).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("an answer in time")
    }

    #[tokio::test]
    async fn the_first_request_after_serve_returns_is_answered_and_cancelling_ends_it() {
        let token = CancellationToken::new();
        let admin = start(&token).await;
        let mut half = silent(&admin).await;
        half.write_all(b"GET /li").await.unwrap();
        let answer = answer(&admin).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");

        token.cancel();
        tokio::time::timeout(LINGER / 2, admin.stopped())
            .await
            .expect("a client that asks nothing does not hold the listener")
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_being_answered_is_answered_though_the_listener_stops() {
        let asked = Arc::new(Semaphore::new(0));
        let told = Arc::clone(&asked);
        let slow = || async move {
            told.add_permits(1);
            tokio::time::sleep(LINGER / 10).await;
            "done"
        };
        let token = CancellationToken::new();
        let router = Router::new().route("/livez", axum::routing::get(slow));
        let admin = serve(ANY, router, token.clone()).await.unwrap();
        let stop = async {
            let _asked = asked.acquire().await.unwrap();
            token.cancel();
        };
        let (answer, ()) = tokio::join!(answer(&admin), stop);
        assert!(answer.ends_with("done"), "{answer}");
        admin.stopped().await.unwrap();
    }

    #[tokio::test]
    async fn a_crowd_that_asks_nothing_keeps_no_probe_from_its_answer() {
        let token = CancellationToken::new();
        let admin = start(&token).await;
        let mut crowd = Vec::new();
        for _ in 0..4 * CONNECTIONS {
            let mut one = silent(&admin).await;
            one.write_all(b"GET /").await.unwrap();
            crowd.push(one);
        }
        let begun = tokio::time::Instant::now();
        let answer = answer(&admin).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(begun.elapsed() < HEAD / 2, "{:?}", begun.elapsed());
        let mut open = 0;
        for one in &mut crowd {
            let read = tokio::time::timeout(Duration::from_millis(1), one.read(&mut [0])).await;
            open += usize::from(read.is_err());
        }
        assert!((1..=CONNECTIONS).contains(&open), "{open} are open");
        token.cancel();
        admin.stopped().await.unwrap();
    }

    #[tokio::test]
    async fn a_head_that_is_late_or_too_long_closes_its_connection() {
        let token = CancellationToken::new();
        let admin = start(&token).await;
        let mut long = silent(&admin).await;
        let head = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(HEAD_BYTES));
        long.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        long.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 431");

        let mut late = silent(&admin).await;
        late.write_all(b"GET /li").await.unwrap();
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let closed = tokio::time::timeout(2 * HEAD, late.read(&mut [0])).await;
        assert_eq!(closed.expect("it is closed").unwrap_or(0), 0);
        assert!(begun.elapsed() > HEAD / 2, "{:?}", begun.elapsed());
        token.cancel();
        admin.stopped().await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_named_in_the_error() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap();
        let error = serve(address, Router::new(), CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
