//! What happens around every request, whichever route it is for.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{CONTENT_LENGTH, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lamplighter_protocol::place::POD_HEADER;

use super::App;
use super::class;
use super::deadline::Deadline;
use super::error::ApiError;
use super::family::Family;

const POD: HeaderName = HeaderName::from_static(POD_HEADER);
/// Label of requests for no route: their paths are the clients' own, and so without bound.
const NO_ROUTE: &str = "unmatched";

/// Begins the request's time, counts the request, writes a failure as the clients of its route
/// know it, and names the pod in the answer.
pub(super) async fn observe(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let metrics = app.board.metrics();
    let started = Instant::now();
    request.extensions_mut().insert(Deadline::from_now(app.limits.time));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let family = Family::of(request.uri().path());
    let is_post = request.method() == Method::POST;
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if is_post && route.is_some() {
            app.te.failed(&error);
        }
        response = written(response, family.render(&error));
    }
    response.headers_mut().insert(POD, app.pod.clone());
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    metrics.answered(route, response.status().as_u16(), started.elapsed());
    response
}

/// What routing said beside the failure, such as the methods that are allowed, stays.
fn written(unwritten: Response, failure: Response) -> Response {
    let mut headers = unwritten.into_parts().0.headers;
    headers.remove(CONTENT_LENGTH);
    let (mut parts, body) = failure.into_parts();
    headers.extend(std::mem::take(&mut parts.headers));
    parts.headers = headers;
    Response::from_parts(parts, body)
}

/// Asks for a key where one is needed, and reads how urgent the request is. Who only looks needs no
/// key where a route says so; the same path may also be posted to.
pub(super) async fn admit(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let is_open = matches!(*request.method(), Method::GET | Method::HEAD)
        && route.is_some_and(|route| app.open_routes.contains(route.as_str()));
    if !is_open && !app.lets_in(request.headers()) {
        return ApiError::unauthorized().into_response();
    }
    match class::asked(request.headers()) {
        Err(error) => return error.into_response(),
        Ok(class) => {
            if let Some(deadline) = request.extensions_mut().get_mut::<Deadline>() {
                *deadline = deadline.of_class(class);
            }
        }
    }
    next.run(request).await
}
