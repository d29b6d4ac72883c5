//! Requests, with and without a network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lamplighter_protocol::Report;
use lamplighter_protocol::place::POD_HEADER;
use lamplighter_worker::http::{self, App};
use serde_json::Value;
use tower::ServiceExt as _;

use super::DEADLINE;

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text))
    }

    /// `error.code`, after a check that the failure has OpenAI's shape and no other field.
    pub(crate) fn error_code(&self) -> String {
        let json = self.json();
        let error = json["error"].as_object().expect("an error object");
        let fields: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(fields, ["message", "type", "param", "code"], "{json}");
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{json}");
        error["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn call(app: &Arc<App>, request: Request<Body>) -> Answer {
    let answer = http::router(Arc::clone(app)).oneshot(request).await.unwrap();
    whole(answer).await
}

pub(crate) async fn whole(answer: Response) -> Answer {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(crate) fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

/// A client with a pool of connections, as SDKs have.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<hyper::body::Bytes>>,
}

impl Http {
    pub(crate) fn one() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub(crate) fn two() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).http2_only(true).build_http() }
    }

    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, String> {
        let request = Request::get(format!("http://{address}{path}"));
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub(crate) async fn embed(&self, address: SocketAddr, text: &str) -> Result<Answer, String> {
        self.embed_with(address, "embedder", text).await
    }

    /// As [`Http::embed`], of another model.
    pub(crate) async fn embed_with(
        &self,
        address: SocketAddr,
        model: &str,
        text: &str,
    ) -> Result<Answer, String> {
        let body = serde_json::json!({"model": model, "input": text});
        self.post(address, "/v1/embeddings", None, &body.to_string()).await
    }

    /// JSON for a path, with a bearer's token or without.
    pub(crate) async fn post(
        &self,
        address: SocketAddr,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Result<Answer, String> {
        let mut request = Request::post(format!("http://{address}{path}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request.body(Full::from(body.to_owned())).unwrap()).await
    }

    /// A command to the admin port, for the pod of this uid.
    pub(crate) async fn command(
        &self,
        admin: SocketAddr,
        path: &str,
        pod: Option<&str>,
    ) -> Result<Answer, String> {
        let mut request = Request::post(format!("http://{admin}{path}"));
        if let Some(pod) = pod {
            request = request.header(POD_HEADER, pod);
        }
        self.send(request.body(Full::default()).unwrap()).await
    }

    /// Asks `/status` until the report is as wanted.
    pub(crate) async fn status_when(
        &self,
        admin: SocketAddr,
        wanted: impl Fn(&Report) -> bool,
    ) -> Report {
        let asked = async {
            let mut every = tokio::time::interval(Duration::from_millis(20));
            loop {
                every.tick().await;
                let status = self.get(admin, "/status").await.unwrap().json();
                let report: Report = serde_json::from_value(status).unwrap();
                if wanted(&report) {
                    return report;
                }
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.expect("the report comes to be as wanted")
    }

    async fn send(&self, request: Request<Full<hyper::body::Bytes>>) -> Result<Answer, String> {
        let answer = async {
            loop {
                match self.try_send(request.clone()).await {
                    Err(error) if was_not_processed(&error) => {}
                    answered => return answered,
                }
            }
        };
        tokio::time::timeout(DEADLINE, answer).await.map_err(|_| "no answer in time".to_owned())?
    }

    async fn try_send(&self, request: Request<Full<hyper::body::Bytes>>) -> Result<Answer, String> {
        let answer = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        })
    }

    /// Asks `/readyz` until it has this status.
    pub(crate) async fn ready_is(&self, admin: SocketAddr, status: StatusCode) -> Answer {
        let asked = async {
            let mut every = tokio::time::interval(Duration::from_millis(20));
            loop {
                every.tick().await;
                match self.get(admin, "/readyz").await {
                    Ok(answer) if answer.status == status => return answer,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, asked)
            .await
            .unwrap_or_else(|_| panic!("/readyz never was {status}"))
    }
}

/// A request that met a GOAWAY was not processed, and a client sends it again on a new
/// connection (<https://www.rfc-editor.org/rfc/rfc9113#section-8.7>). This client library
/// leaves that to its caller.
fn was_not_processed(error: &str) -> bool {
    error.contains("SendRequest") && error.contains("GoAway(b\"\", NO_ERROR, Remote)")
}
