//! Calls the serving API at a `NodePort` on the loopback address.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Longest time for one request; a tiny model answers in milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where probes come from. A connection that came before the node's proxy had its rules stays
/// with the connection tracker for two minutes, without a translation; the next connection
/// from the same address and port, some seconds later under load, is refused because of it.
const PROBER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Whether a caller keeps connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connections {
    /// One for each request, so that each is balanced anew.
    Fresh,
    /// Kept and used again, as most clients do.
    Kept,
}

/// A client of one Service.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    port: u16,
    key: Option<String>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status code.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Caller {
    /// A client of `127.0.0.1:<port>`.
    pub fn new(port: u16, connections: Connections) -> Self {
        Self::through(HttpConnector::new(), port, connections)
    }

    /// A client of a port at which nobody may listen yet, with a connection for each request.
    pub fn probe(port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(IpAddr::V4(PROBER)));
        Self::through(connector, port, Connections::Fresh)
    }

    fn through(connector: HttpConnector, port: u16, connections: Connections) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        if connections == Connections::Fresh {
            builder.pool_max_idle_per_host(0);
        }
        Self { client: builder.build(connector), port, key: None }
    }

    /// The same, with an API key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The address in front of every route.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Fails when the connection breaks or the answer does not come within 20 s; any status
    /// is an answer.
    pub async fn get(&self, route: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, route, Bytes::new()).await
    }

    /// As [`Caller::get`], with a JSON body.
    pub async fn post(&self, route: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, route, Bytes::from(body.to_string())).await
    }

    /// The vectors of texts by `POST /v1/embeddings`, in the order of the texts.
    pub async fn embed(&self, model: &str, texts: &[&str]) -> anyhow::Result<Vec<Vec<f64>>> {
        let body = json!({"model": model, "input": texts});
        let answer = self.post("/v1/embeddings", &body).await?.ok()?.json()?;
        let data = answer["data"].as_array().context("the answer has no data")?;
        ensure!(data.len() == texts.len(), "{} vectors for {} texts", data.len(), texts.len());
        (0..)
            .zip(data)
            .map(|(index, item): (u64, _)| {
                ensure!(item["index"] == json!(index), "out of order: {item}");
                serde_json::from_value(item["embedding"].clone()).context("not a vector")
            })
            .collect()
    }

    async fn send(&self, method: Method, route: &str, body: Bytes) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{route}", self.base()))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Full::new(body))?;
        let whole = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(DEADLINE, whole)
            .await
            .with_context(|| format!("{route} was not answered within {DEADLINE:?}"))?
            .with_context(|| format!("{route} broke off"))
    }
}

impl Answer {
    /// The answer itself when its status is 200.
    pub fn ok(self) -> anyhow::Result<Self> {
        if self.status != StatusCode::OK {
            bail!("answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(self)
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header's text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The cosine of two vectors.
pub fn cosine(left: &[f64], right: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}
