//! What worker pods say about themselves, and what they are asked to do. A pod that cannot be asked
//! is a fact like any other.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lamplighter_protocol::{Report, place};
use tokio::time::timeout;

/// How long a pod may take to answer. Its answer is made from memory.
const DEADLINE: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes. Eight models with 32 cases each stay far below.
const MAX_BODY: usize = 1024 * 1024;

/// Asks pods.
#[derive(Clone)]
pub struct Reporter {
    client: Client<HttpConnector, Empty<Bytes>>,
    port: u16,
}

/// Why a pod's report is not known.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not an address.
    #[error("{address:?} is not the address of a pod: {source}")]
    Address {
        /// What the pod's status says.
        address: String,
        /// What is wrong with it.
        source: http::uri::InvalidUri,
    },
    /// The request cannot be written.
    #[error("the pod cannot be asked: {0}")]
    Request(#[from] http::Error),
    /// Whoever answered did not say which pod it is.
    #[error("the answer does not name its pod; use worker and operator of one release")]
    Anonymous,
    /// No answer in time.
    #[error("the pod did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// No connection.
    #[error("the pod cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    /// Another status than success.
    #[error("the pod answered {0}")]
    Status(StatusCode),
    /// Broken off, or longer than is read.
    #[error("the pod's answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// Not a report.
    #[error("the pod's answer is not a report: {0}; use worker and operator of one release")]
    Malformed(#[from] serde_json::Error),
    /// Another pod has the address by now.
    #[error("the address belongs to pod {0} by now")]
    Other(String),
}

impl Reporter {
    /// Asks workers at their admin port.
    pub fn new() -> Self {
        Self::at_port(place::ADMIN_PORT)
    }

    /// Asks workers at another port.
    pub fn at_port(port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(DEADLINE));
        Self { client: Client::builder(TokioExecutor::new()).build(connector), port }
    }

    /// The report of the pod with this address and uid.
    pub async fn ask(&self, address: &str, uid: &str) -> Result<Report, ReportError> {
        let report =
            timeout(DEADLINE, self.get(address)).await.map_err(|_| ReportError::Timeout)??;
        // Addresses are given to new pods within seconds, and uids never.
        if report.pod_uid == uid { Ok(report) } else { Err(ReportError::Other(report.pod_uid)) }
    }

    /// Asks the pod with this address and uid to close the connections that it has.
    pub async fn shed(&self, address: &str, uid: &str) -> Result<(), ReportError> {
        self.tell(address, uid, place::SHED_ROUTE).await
    }

    /// Asks the pod with this address and uid to prove its answers again.
    pub async fn validate(&self, address: &str, uid: &str) -> Result<(), ReportError> {
        self.tell(address, uid, place::VALIDATE_ROUTE).await
    }

    /// The uid of a pod that answers at a Service's address, over a connection of its own.
    pub async fn identify(&self, address: &str, port: u16) -> Result<String, ReportError> {
        let uri = uri(address, port, place::IDENTITY_ROUTE)?;
        let request = Request::get(uri).header(http::header::CONNECTION, "close");
        let answer = self.answered(request.body(Empty::new())).await?;
        let pod = answer.headers().get(place::POD_HEADER).and_then(|pod| pod.to_str().ok());
        pod.map(str::to_owned).ok_or(ReportError::Anonymous)
    }

    async fn get(&self, address: &str) -> Result<Report, ReportError> {
        let request = Request::get(uri(address, self.port, place::STATUS_ROUTE)?);
        let answer = self.answered(request.body(Empty::new())).await?;
        let body = Limited::new(answer.into_body(), MAX_BODY);
        let bytes = body.collect().await.map_err(ReportError::Body)?.to_bytes();
        Ok(serde_json::from_slice(&bytes)?)
    }

    async fn tell(&self, address: &str, uid: &str, route: &str) -> Result<(), ReportError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri(address, self.port, route)?)
            .header(place::POD_HEADER, uid)
            .body(Empty::new());
        let told = timeout(DEADLINE, self.answered(request));
        told.await.map_err(|_| ReportError::Timeout)?.map(drop)
    }

    async fn answered(
        &self,
        request: http::Result<Request<Empty<Bytes>>>,
    ) -> Result<Response<Incoming>, ReportError> {
        let answer = timeout(DEADLINE, self.client.request(request?))
            .await
            .map_err(|_| ReportError::Timeout)??;
        let status = answer.status();
        if status.is_success() { Ok(answer) } else { Err(ReportError::Status(status)) }
    }
}

fn uri(address: &str, port: u16, route: &str) -> Result<Uri, ReportError> {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:{port}{route}")
        .parse::<Uri>()
        .map_err(|source| ReportError::Address { address: address.to_owned(), source })
}

impl Default for Reporter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A pod that gives every caller this answer; returns its port.
    async fn pod(answer: Vec<u8>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let asked = socket.read(&mut head).await.unwrap();
                assert!(head[..asked].starts_with(b"GET /status HTTP/1.1\r\n"));
                socket.write_all(&answer).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        });
        port
    }

    fn http(status: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn report(uid: &str) -> String {
        serde_json::json!({
            "podUid": uid, "podName": "p", "revision": "r", "workerVersion": "0.1.0",
            "device": "Cpu", "state": "Ready", "uptimeSeconds": 1.5, "inFlight": 0, "models": [],
        })
        .to_string()
    }

    async fn ask(answer: Vec<u8>) -> Result<Report, ReportError> {
        Reporter::at_port(pod(answer).await).ask("127.0.0.1", "uid-1").await
    }

    #[tokio::test]
    async fn a_report_of_the_right_pod_is_read() {
        let report = ask(http("200 OK", &report("uid-1"))).await.unwrap();
        assert_eq!(report.revision, "r");
    }

    #[tokio::test]
    async fn a_report_of_another_pod_at_the_same_address_is_refused() {
        let error = ask(http("200 OK", &report("uid-2"))).await.unwrap_err();
        assert!(matches!(error, ReportError::Other(uid) if uid == "uid-2"));
    }

    #[tokio::test]
    async fn what_is_not_a_report_is_named_as_such() {
        let error = ask(http("503 Service Unavailable", "")).await.unwrap_err();
        assert!(matches!(error, ReportError::Status(StatusCode::SERVICE_UNAVAILABLE)));
        let error = ask(http("200 OK", "<html>")).await.unwrap_err();
        assert!(matches!(error, ReportError::Malformed(_)));
    }

    #[tokio::test]
    async fn an_endless_answer_is_not_read_to_its_end() {
        let body = " ".repeat(MAX_BODY + 1);
        let error = ask(http("200 OK", &body)).await.unwrap_err();
        assert!(matches!(error, ReportError::Body(_)), "{error}");
    }

    #[tokio::test]
    async fn a_pod_that_does_not_listen_is_unreachable() {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let error = Reporter::at_port(port).ask("127.0.0.1", "uid-1").await.unwrap_err();
        assert!(matches!(error, ReportError::Unreachable(_)), "{error}");
    }
}
