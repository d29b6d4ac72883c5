//! The serving listener: accepts connections until it is told to stop, then loses none.
//!
//! ```text
//! serving ──SIGTERM──▶ draining ──delay──▶ closing ──all done, or timeout──▶ ended
//!                      still accepts;      listener closed; idle
//!                      answers carry       connections closed,
//!                      Connection: close   running requests finished
//! ```
//!
//! The delay is for the endpoints of the Service: until every node has heard that this pod is
//! not ready, connections still arrive, and each deserves an answer.
//!
//! A connection is told to close earlier when it is old enough or when it is shed.
//!
//! When as many connections are open as may be, others wait in the system's queue. Those that are
//! open are told to close with their next answer, and those that are idle to close at once, the
//! longest idle first, as many as are needed.

mod connection;
mod flight;
mod head;
mod linger;
mod shedding;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use futures::FutureExt as _;
use lamplighter_telemetry::idle::Idlers;
use prometheus_client::metrics::gauge::Gauge;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use connection::{Accepted, PAUSE, Signals};
use flight::Flights;
pub use shedding::Shedding;
pub use tls::{Tls, TlsError};

/// After an accept that failed for want of file descriptors, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much of its answers a connection may have in the system that was not sent yet. The system's
/// own bound is megabytes, of which it tells nothing until a third is gone: a slow reader would look
/// like one that has stopped.
const UNSENT: u32 = 128 << 10;
/// How often it is told while it lasts.
const TELL_AGAIN: Duration = Duration::from_mins(1);
/// How often those are tried that waited when the listener closed: the drain's own time begins
/// after that.
const LAST_TRIES: usize = 10;

/// How many connections there may be and how long they may live.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long to wait for the whole head of a connection's next request.
    pub idle: Duration,
    /// How long a head may take from its first byte.
    pub head: Duration,
    /// After which time a connection is closed with its next answer. Each connection gets up
    /// to a fifth less, so that those that came together do not go together.
    pub age: Duration,
    /// How long a client may take for 64 KiB of its answer, or for its rest.
    pub write: Duration,
    /// How many may be open.
    pub connections: usize,
}

/// What a listener counts.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Open connections.
    pub open: Gauge,
    /// Requests from their parsed head until their answer was written.
    pub in_flight: Gauge,
    /// Open connections by the last shed; also sheds them.
    pub shedding: Shedding,
}

/// What a drain had to cut off when its time was over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cut {
    /// Connections that were still open, with a request in flight or without.
    pub connections: usize,
    /// Requests that were not answered, or whose answer was not written to its end.
    pub requests: usize,
}

/// How a listener ends.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long connections are still accepted.
    pub delay: Duration,
    /// How long running requests may take after that.
    pub timeout: Duration,
}

/// A running listener.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    signals: Signals,
    connections: TaskTracker,
    in_flight: Gauge,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Answers every connection to `listener` from `router`, over TLS if there is a certificate.
    pub fn start(
        listener: TcpListener,
        tls: Option<Arc<Tls>>,
        router: Router,
        patience: Patience,
        figures: Figures,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let signals = Signals::default();
        let connections = TaskTracker::new();
        let in_flight = figures.in_flight.clone();
        let crowded = Arc::new(AtomicBool::new(false));
        let acceptor = Acceptor {
            tls,
            router,
            patience,
            places: Arc::new(Semaphore::new(patience.connections)),
            crowded: Arc::clone(&crowded),
            idlers: Idlers::default(),
            figures,
            signals: signals.clone(),
            connections: connections.clone(),
        };
        let accepting = tokio::spawn(acceptor.run(listener));
        Ok(Self { address, signals, connections, in_flight, accepting })
    }

    /// The bound address, with the port that the system chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains as the head of this module says. Returns what was cut off at the timeout.
    pub async fn drain(self, drain: Drain) -> Cut {
        self.signals.draining.cancel();
        tokio::time::sleep(drain.delay).await;
        self.signals.closing.cancel();
        if let Err(lost) = self.accepting.await {
            tracing::error!(%lost, "a bug: the accepting task was lost");
        }
        self.connections.close();
        let done = tokio::time::timeout(drain.timeout, self.connections.wait()).await;
        if done.is_ok() {
            return Cut::default();
        }
        let cut = Cut {
            connections: self.connections.len(),
            requests: usize::try_from(self.in_flight.get()).unwrap_or_default(),
        };
        self.signals.cut.cancel();
        self.connections.wait().await;
        cut
    }
}

struct Acceptor {
    tls: Option<Arc<Tls>>,
    router: Router,
    patience: Patience,
    places: Arc<Semaphore>,
    /// A connection waits for the place of another one.
    crowded: Arc<AtomicBool>,
    idlers: Idlers,
    figures: Figures,
    signals: Signals,
    connections: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                // Closing first: a flood of connections must not hold the drain up. What waits
                // in the queue is taken below.
                biased;
                () = self.signals.closing.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.serve(stream, self.place().await),
                    // The next one is another one.
                    Err(error) if is_of_the_connection(&error) => {}
                    Err(error) => {
                        if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                            tracing::error!(%error, "no connection can be accepted: they wait");
                            told = Some(Instant::now());
                        }
                        self.pause().await;
                    }
                },
            }
        }
        self.accept_rest(listener).await;
    }

    /// Until others have ended that hold what was missing, or the listener closes. One that is idle
    /// ends at once.
    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            () = self.signals.closing.cancelled() => {}
            never = self.idlers.send_away(PAUSE) => match never {},
        }
    }

    /// A place for the connection that was accepted; more of them wait in the system's queue
    /// meanwhile. None when the listener closes first: who was accepted is served in any case.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        self.crowded.store(true, Ordering::Release);
        let place = tokio::select! {
            biased;
            () = self.signals.closing.cancelled() => None,
            place = Arc::clone(&self.places).acquire_owned() => place.ok(),
            never = self.idlers.send_away(PAUSE) => match never {},
        };
        self.crowded.store(false, Ordering::Release);
        place
    }

    /// Takes the connections that the system has completed and we have not seen yet: closing
    /// the listener would reset them. No place is needed: the system's queue bounds them.
    async fn accept_rest(&self, listener: TcpListener) {
        let rest = async {
            let listener = listener.into_std()?;
            let mut tries = 0;
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(true)?;
                        self.serve(TcpStream::from_std(stream)?, None);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                    Err(error) if is_of_the_connection(&error) => {}
                    Err(_) if tries < LAST_TRIES => {
                        tries += 1;
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    Err(error) => break Err(error),
                }
            }
        };
        if let Err(error) = rest.await {
            tracing::warn!(%error, "connections may have been lost when the listener closed");
        }
    }

    fn serve(&self, stream: TcpStream, place: Option<OwnedSemaphorePermit>) {
        let set = stream.set_nodelay(true);
        let set = set.and_then(|()| SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT));
        if let Err(error) = set {
            tracing::debug!(%error, "a connection was gone before it was served");
            return;
        }
        let open = self.figures.open.clone();
        open.inc();
        let serving = connection::serve(
            Accepted { stream, tls: self.tls.as_ref().map(|tls| tls.acceptor()) },
            self.router.clone(),
            self.patience,
            self.signals.clone(),
            Arc::clone(&self.crowded),
            self.figures.shedding.enter(),
            Flights::new(self.figures.in_flight.clone(), self.idlers.enter()),
        );
        self.connections.spawn(async move {
            // A panic in one connection must not leave the gauge above its truth.
            if std::panic::AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                tracing::error!("a bug: a connection's task panicked");
            }
            open.dec();
            drop(place);
        });
    }
}

/// Errors of the connection itself need no pause; those of the process do.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
#[path = "server_limits_tests.rs"]
mod limits_tests;
#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
