//! A connection that sends nothing twice.

use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use lamplighter_protocol::place::POD_HEADER;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::record::Outcome;

/// Longest time for one request, slow readers included.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// How long a slow reader takes.
const SLOW: Duration = Duration::from_secs(2);

/// How an answer is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// As soon as it is there.
    Whole,
    /// After some time.
    Slow,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
    pod: Option<String>,
    is_last: bool,
}

/// A vector, and whose it is.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) pod: String,
    pub(super) vector: Vec<f64>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(super) async fn open(port: u16) -> Result<Self, Outcome> {
        let refused = |error: &dyn std::fmt::Display| Outcome::Refused(error.to_string());
        let stream =
            TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| refused(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
        let driver = tokio::spawn(async move {
            // What went wrong is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { sender, driver, pod: None, is_last: false })
    }

    /// Neither side has ended it between two requests.
    pub(super) fn is_open(&self) -> bool {
        !self.is_last && !self.sender.is_closed()
    }

    pub(super) fn pod(&self) -> Option<&str> {
        self.pod.as_deref()
    }

    pub(super) async fn embed(
        &mut self,
        model: &str,
        text: &str,
        reading: Reading,
    ) -> Result<Answer, Outcome> {
        let broken = |error: &dyn std::fmt::Debug| Outcome::Broken(format!("{error:?}"));
        let body = Bytes::from(json!({"model": model, "input": text}).to_string());
        let request = Request::post("/v1/embeddings")
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        let answer = self.sender.send_request(request).await.map_err(|error| broken(&error))?;
        let text_of = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let pod = text_of(POD_HEADER);
        self.is_last = text_of("connection").eq_ignore_ascii_case("close");
        self.pod = Some(pod.clone());
        let status = answer.status();
        let body = read(answer.into_body(), reading).await.map_err(|error| broken(&error))?;
        if status != StatusCode::OK {
            return Err(Outcome::Status(status.as_u16()));
        }
        Ok(Answer { pod, vector: vector(&body)? })
    }
}

async fn read(mut body: Incoming, reading: Reading) -> Result<Vec<u8>, hyper::Error> {
    if reading == Reading::Slow {
        tokio::time::sleep(SLOW).await;
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        whole.extend(frame?.into_data().unwrap_or_default());
    }
    Ok(whole)
}

fn vector(body: &[u8]) -> Result<Vec<f64>, Outcome> {
    let garbled = || Outcome::Garbled(String::from_utf8_lossy(body).chars().take(200).collect());
    let answer: Value = serde_json::from_slice(body).map_err(|_| garbled())?;
    serde_json::from_value(answer["data"][0]["embedding"].clone()).map_err(|_| garbled())
}
