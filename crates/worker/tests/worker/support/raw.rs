//! A connection of our own, for what a client library hides.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::DEADLINE;

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Asks for the list of models; the head of the answer.
    pub(crate) async fn list(&mut self) -> String {
        let request = b"GET /v1/models HTTP/1.1\r\nhost: worker\r\n\r\n";
        self.0.write_all(request).await.unwrap();
        self.answer("]}").await
    }

    /// Asks for the vector of a text.
    pub(crate) async fn embed(&mut self, text: &str) {
        let body = serde_json::json!({"model": "embedder", "input": text}).to_string();
        self.post("/v1/embeddings", &body).await;
    }

    /// Sends JSON to a path.
    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Asks for a vector with a body of so many bytes that are not sent.
    pub(crate) async fn begin_to_embed(&mut self, missing: usize) {
        let request = format!(
            "POST /v1/embeddings HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\n\
             content-length: {missing}\r\n\r\n"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// The head of one answer; its body, which ends so, is read too.
    pub(crate) async fn answer(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let read = self.0.read_buf(&mut bytes);
            let read = tokio::time::timeout(DEADLINE, read).await.expect("an answer").unwrap();
            assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        }
        let text = String::from_utf8(bytes).unwrap();
        text.split("\r\n\r\n").next().unwrap().to_lowercase()
    }

    /// The head of the last answer of this connection.
    pub(crate) async fn last_answer(&mut self) -> String {
        let mut text = String::new();
        let read = self.0.read_to_string(&mut text);
        tokio::time::timeout(DEADLINE, read).await.expect("an answer").unwrap();
        text.split("\r\n\r\n").next().unwrap().to_lowercase()
    }

    pub(crate) async fn is_closed(&mut self) {
        let read = tokio::time::timeout(DEADLINE, self.0.read(&mut [0; 64])).await;
        assert_eq!(read.expect("the worker closes the connection").unwrap(), 0);
    }
}
