//! The admin listener: probes, metrics and status, apart from the traffic that is served.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long open connections may linger once the listener was told to stop.
const LINGER: Duration = Duration::from_secs(2);

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
    /// Accepting connections failed.
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
    task: JoinHandle<io::Result<()>>,
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
    let stopped = token.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(token.cancelled_owned());
    let task = tokio::spawn(async move {
        tokio::select! {
            ended = serving => ended,
            () = async { stopped.cancelled().await; tokio::time::sleep(LINGER).await } => Ok(()),
        }
    });
    Ok(Admin { address, task })
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
            .unwrap_or_else(|lost| Err(io::Error::other(lost)))
            .map_err(|source| AdminError::Serve { address, source })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::probe::{self, Readiness};

    #[tokio::test]
    async fn the_first_request_after_serve_returns_is_answered_and_cancelling_ends_it() {
        let token = CancellationToken::new();
        let readiness = Readiness::not_ready_yet("Starting", "");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = serve(any, probe::router(readiness), token.clone()).await.unwrap();

        let mut idle = TcpStream::connect(admin.address()).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        idle.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        token.cancel();
        tokio::time::timeout(2 * LINGER, admin.stopped())
            .await
            .expect("an idle keep-alive connection does not hold the listener")
            .unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_named_in_the_error() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap();
        let error = serve(address, Router::new(), CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
