//! What happens around every request, whichever route it is for.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HeaderName;
use axum::middleware::Next;
use axum::response::Response;
use lamplighter_protocol::place::POD_HEADER;

use super::App;
use super::deadline::Deadline;

const POD: HeaderName = HeaderName::from_static(POD_HEADER);
/// Label of requests for no route: their paths are the clients' own, and so without bound.
const NO_ROUTE: &str = "unmatched";

/// Begins the request's time, counts the request and names the pod in its answer.
pub(super) async fn observe(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let metrics = app.board.metrics();
    let started = Instant::now();
    request.extensions_mut().insert(Deadline::from_now(app.limits.time));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    response.headers_mut().insert(POD, app.pod.clone());
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    metrics.answered(route, response.status().as_u16(), started.elapsed());
    response
}
