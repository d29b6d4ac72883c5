//! What worker pods say about themselves. A pod that cannot be asked is a fact like any other: a
//! report informs the status and never decides a rollout.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
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
    /// No answer in time.
    #[error("the pod did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// No connection.
    #[error("the pod cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    /// Another status than 200.
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

    async fn get(&self, address: &str) -> Result<Report, ReportError> {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let uri = format!("http://{host}:{}{}", self.port, place::STATUS_ROUTE)
            .parse::<Uri>()
            .map_err(|source| ReportError::Address { address: address.to_owned(), source })?;
        let answer = self.client.get(uri).await?;
        if answer.status() != StatusCode::OK {
            return Err(ReportError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_BODY);
        let bytes = body.collect().await.map_err(ReportError::Body)?.to_bytes();
        Ok(serde_json::from_slice(&bytes)?)
    }
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
