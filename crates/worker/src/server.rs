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

mod connection;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Signals;

/// After an accept that failed for want of file descriptors, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections may live.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long to wait for the whole head of a connection's next request.
    pub idle: Duration,
    /// After which time a connection is closed with its next answer. Each connection gets up
    /// to a fifth less, so that those that came together do not go together.
    pub age: Duration,
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
    accepting: JoinHandle<()>,
}

impl Server {
    /// Answers every connection to `listener` from `router`. `open` counts connections.
    pub fn start(
        listener: TcpListener,
        router: Router,
        patience: Patience,
        open: Gauge,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let signals = Signals::default();
        let connections = TaskTracker::new();
        let acceptor = Acceptor {
            router,
            patience,
            open,
            signals: signals.clone(),
            connections: connections.clone(),
        };
        Ok(Self { address, signals, connections, accepting: tokio::spawn(acceptor.run(listener)) })
    }

    /// The bound address, with the port that the system chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains as the head of this module says. Returns how many connections were cut off at
    /// the timeout.
    pub async fn drain(self, drain: Drain) -> usize {
        self.signals.draining.cancel();
        tokio::time::sleep(drain.delay).await;
        self.signals.closing.cancel();
        if let Err(lost) = self.accepting.await {
            tracing::error!(%lost, "a bug: the accepting task was lost");
        }
        self.connections.close();
        let done = tokio::time::timeout(drain.timeout, self.connections.wait()).await;
        if done.is_ok() {
            return 0;
        }
        let cut = self.connections.len();
        self.signals.cut.cancel();
        self.connections.wait().await;
        cut
    }
}

struct Acceptor {
    router: Router,
    patience: Patience,
    open: Gauge,
    signals: Signals,
    connections: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            tokio::select! {
                // Closing first: a flood of connections must not hold the drain up. What waits
                // in the queue is taken below.
                biased;
                () = self.signals.closing.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.serve(stream),
                    Err(error) => pause_after(&error, &self.signals.closing).await,
                },
            }
        }
        self.accept_rest(listener);
    }

    /// Takes the connections that the system has completed and we have not seen yet: closing
    /// the listener would reset them.
    fn accept_rest(&self, listener: TcpListener) {
        let rest = listener.into_std().and_then(|listener| {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(true)?;
                        self.serve(TcpStream::from_std(stream)?);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
        });
        if let Err(error) = rest {
            tracing::warn!(%error, "connections may have been lost when the listener closed");
        }
    }

    fn serve(&self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
            return;
        }
        let open = self.open.clone();
        open.inc();
        let serving =
            connection::serve(stream, self.router.clone(), self.patience, self.signals.clone());
        self.connections.spawn(async move {
            // A panic in one connection must not leave the gauge above its truth.
            if std::panic::AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                tracing::error!("a bug: a connection's task panicked");
            }
            open.dec();
        });
    }
}

/// Errors of the connection itself need no pause; those of the process do.
async fn pause_after(error: &io::Error, closing: &CancellationToken) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(%error, "a connection could not be accepted");
    tokio::select! {
        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
        () = closing.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_waits_to_be_accepted_is_answered_though_the_listener_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The system completes the connection; no task of this runtime has seen it yet.
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let router = Router::new().route("/", get(|| async { "lit" }));
        let patience = Patience { idle: Duration::from_secs(10), age: Duration::from_secs(10) };
        let server = Server::start(listener, router, patience, Gauge::default()).unwrap();
        server.signals.closing.cancel();

        let drain = Drain { delay: Duration::ZERO, timeout: Duration::from_secs(10) };
        assert_eq!(server.drain(drain).await, 0);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("lit"), "{answer}");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
