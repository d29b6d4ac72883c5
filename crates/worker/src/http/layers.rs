//! What happens around every request, whichever route it is for.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HeaderName;
use axum::middleware::Next;
use axum::response::Response;
use lamplighter_protocol::place::POD_HEADER;
use prometheus_client::metrics::gauge::Gauge;

use super::App;

const POD: HeaderName = HeaderName::from_static(POD_HEADER);
/// Label of requests for no route: their paths are the clients' own, and so without bound.
const NO_ROUTE: &str = "unmatched";

/// Counts and times the request and names the pod in its answer.
pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let metrics = app.board.metrics();
    let _in_flight = Counted::one(metrics.in_flight());
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    response.headers_mut().insert(POD, app.pod.clone());
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    metrics.answered(route, response.status().as_u16(), started.elapsed());
    response
}

/// One more while it lives, also when the client goes away before the answer.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn one(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
