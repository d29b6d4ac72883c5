//! A real S3 server over a folder, which remembers what it was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// Whom it answers.
pub(crate) const KEYS: (&str, &str) = ("lamp", "wick-and-oil");
pub(crate) const BUCKET: &str = "models";

/// How many bytes of which object were answered with.
type Sent = Arc<Mutex<Vec<(String, u64)>>>;

/// Of which sessions the keys were that requests came with.
type Sessions = Arc<Mutex<BTreeSet<String>>>;

pub(crate) struct Store {
    dir: tempfile::TempDir,
    address: SocketAddr,
    sent: Sent,
    sessions: Sessions,
}

impl Store {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root").join(BUCKET)).unwrap();
        let files = FileSystem::new(dir.path().join("root")).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEYS.0, KEYS.1));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, sessions) = (Sent::default(), Sessions::default());
        tokio::spawn(accept(listener, service, Arc::clone(&sent), Arc::clone(&sessions)));
        Self { dir, address, sent, sessions }
    }

    /// The folder of the objects below a prefix.
    pub(crate) fn folder(&self, prefix: &str) -> PathBuf {
        let folder = self.dir.path().join("root").join(BUCKET).join(prefix);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A folder of credentials, with the right secret or with another one.
    pub(crate) fn credentials(&self, right: bool) -> PathBuf {
        let folder = self.dir.path().join(format!("credentials-{right}"));
        fs::create_dir_all(&folder).unwrap();
        let secret = if right { KEYS.1 } else { "water" };
        let write = |name: &str, value: &str| fs::write(folder.join(name), value).unwrap();
        write("AWS_ACCESS_KEY_ID", KEYS.0);
        write("AWS_SECRET_ACCESS_KEY", secret);
        write("AWS_ENDPOINT_URL", &self.url());
        folder
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Of which sessions keys were used.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.sessions.lock().unwrap().iter().cloned().collect()
    }

    /// Forgets what it was asked for before.
    pub(crate) fn forget(&self) {
        self.sent.lock().unwrap().clear();
    }

    /// How many bytes of the objects with this name were answered with.
    pub(crate) fn sent(&self, name: &str) -> u64 {
        let sent = self.sent.lock().unwrap();
        let of_name = sent.iter().filter(|(path, _)| Path::new(path).ends_with(name));
        of_name.map(|(_, bytes)| bytes).sum()
    }
}

async fn accept(listener: TcpListener, service: S3Service, sent: Sent, sessions: Sessions) {
    let server = Builder::new(TokioExecutor::new());
    while let Ok((socket, _)) = listener.accept().await {
        let (service, sent, sessions) = (service.clone(), Arc::clone(&sent), Arc::clone(&sessions));
        let answering = service_fn(move |request: Request<Incoming>| {
            let session = request.headers().get("x-amz-security-token");
            let session = session.and_then(|token| token.to_str().ok()).map(str::to_owned);
            sessions.lock().unwrap().extend(session);
            answer(service.clone(), Arc::clone(&sent), request)
        });
        let connection = server.serve_connection(TokioIo::new(socket), answering).into_owned();
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    service: S3Service,
    sent: Sent,
    request: Request<Incoming>,
) -> Result<HttpResponse, HttpError> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = service.call(request.map(Body::from)).await?;
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    if method == Method::GET && response.status().is_success() {
        sent.lock().unwrap().push((path, length.unwrap_or_default()));
    }
    Ok(response)
}
