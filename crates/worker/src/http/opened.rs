//! How a request to a model begins, on every route that takes JSON.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use super::ask::Asker;
use super::budget::Share;
use super::deadline::Deadline;
use super::error::ApiError;
use super::{App, body};

/// A request whose body was read, by a worker whose models are there.
pub(super) struct Opened<T> {
    pub(super) ask: T,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Deadline,
    /// Of what was parsed: to be kept as long as that.
    _share: Share,
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for Opened<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        app.registry()?;
        let deadline = Deadline::of(&request)?;
        let headers = request.headers().clone();
        let (ask, share) = body::json(request, app, deadline).await?;
        Ok(Self { ask, headers, deadline, _share: share })
    }
}

impl<T> Opened<T> {
    pub(super) fn asker<'a>(&self, app: &'a App) -> Asker<'a> {
        Asker::new(app, self.deadline)
    }
}
