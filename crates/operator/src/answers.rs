//! A look at every answer of the apiserver, between kube's client and the wire: what time it is
//! there, and which watches stand. Nothing is changed on the way.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response, header};
use kube::client::Body;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::server_time::{Answer, ServerTime, parse_date};
use crate::watches::Watches;

/// Who learns from answers; a layer for kube's client.
#[derive(Clone)]
pub struct Answers {
    time: ServerTime,
    watches: Watches,
}

/// A client's service with [`Answers`] looking on.
#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
    answers: Answers,
}

impl Answers {
    /// Answers tell the time to `time` and the success of watches to `watches`.
    pub fn new(time: ServerTime, watches: Watches) -> Self {
        Self { time, watches }
    }
}

impl<S> Layer<S> for Answers {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, answers: self.clone() }
    }
}

impl<S, B> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Answers { time, watches } = self.answers.clone();
        let watched = watched(&request);
        let asked = time.own();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(date) = date(&response) {
                time.hear(&Answer { date, asked, answered: time.own() });
            }
            if let Some(path) = watched.filter(|_| response.status().is_success()) {
                watches.answered(&path, Instant::now());
            }
            Ok(response)
        })
    }
}

/// The path that a request asks to watch.
fn watched(request: &Request<Body>) -> Option<String> {
    let uri = request.uri();
    let is_watch = uri.query()?.split('&').any(|pair| pair == "watch=true");
    (is_watch && request.method() == Method::GET).then(|| uri.path().to_owned())
}

fn date<B>(response: &Response<B>) -> Option<k8s_openapi::jiff::Timestamp> {
    parse_date(response.headers().get(header::DATE)?.to_str().ok()?)
}
