//! A small S3 server over a folder: the model store of the demo and of the stories.
//!
//! The protocol is the work of [`s3s`](https://docs.rs/s3s), the folder layout that of
//! [`s3s-fs`](https://docs.rs/s3s-fs): `<root>/<bucket>/<key>`. Signatures are checked
//! against one pair of keys; `GET /healthz` answers without one.

mod distance;
mod memory;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

pub use distance::Distance;
use distance::Far;
use memory::InMemory;

/// Route that says whether the server answers, without credentials.
pub const HEALTH_ROUTE: &str = "/healthz";

/// How long open requests may take to finish after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What is served and to whom.
#[derive(Clone, Debug)]
pub struct Store {
    /// Folder with one folder per bucket.
    pub root: PathBuf,
    /// The one access key that is known.
    pub access_key: String,
    /// Its secret key.
    pub secret_key: String,
    /// Whether objects are kept in memory, read when it starts and never written.
    pub in_memory: bool,
    /// How far away it is.
    pub distance: Distance,
}

/// Serves until `stop` resolves, then finishes open requests for at most ten seconds.
///
/// Fails when the root folder is not there; a failed accept is logged and survived.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let distance = store.distance;
    let service = signed(store)?;
    let connections = GracefulShutdown::new();
    let server = Builder::new(TokioExecutor::new());
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.as_mut() => break,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                continue;
            }
        };
        let service = service.clone();
        let answering = service_fn(move |request| {
            let service = service.clone();
            async move {
                tokio::time::sleep(distance.latency).await;
                answer(service, request).await
            }
        });
        let socket = Far::new(socket, distance);
        let connection = connections
            .watch(server.serve_connection(TokioIo::new(socket), answering).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_ok() {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with requests open after {DRAIN:?}");
    }
    Ok(())
}

fn signed(store: Store) -> anyhow::Result<S3Service> {
    let root = store.root.display();
    ensure!(store.root.is_dir(), "the store's root {root} is not a folder");
    let mut builder = if store.in_memory {
        S3ServiceBuilder::new(InMemory::read(&store.root)?)
    } else {
        let files = FileSystem::new(&store.root)
            .map_err(|error| anyhow!("the store's root {root} cannot be used: {error:?}"))?;
        S3ServiceBuilder::new(files)
    };
    builder.set_auth(SimpleAuth::from_single(store.access_key, store.secret_key));
    Ok(builder.build())
}

async fn answer(service: S3Service, request: Request<Incoming>) -> Result<HttpResponse, HttpError> {
    if request.uri().path() == HEALTH_ROUTE && request.method() == Method::GET {
        return Ok(HttpResponse::new(Body::from("ok\n".to_owned())));
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().map(str::to_owned);
    let response = service.call(request.map(Body::from)).await?;
    match response.status() {
        status if status.is_server_error() => tracing::error!(%method, path, %status, "answered"),
        StatusCode::FORBIDDEN => tracing::warn!(%method, path, "refused"),
        status if status.is_success() && query.is_none() => {
            tracing::info!(%method, path, "answered");
        }
        status => tracing::debug!(%method, path, %status, "answered"),
    }
    Ok(response)
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// Fails when the process may not install signal handlers.
pub fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
