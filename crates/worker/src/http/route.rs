//! A route with what the documents say about it, so that neither can be there without the other.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::App;
use super::family::Family;

type ToSchema = fn(&mut SchemaGenerator) -> Schema;

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    pub(super) request: Option<ToSchema>,
    pub(super) answer: Option<ToSchema>,
    /// A body that can be tried, as JSON with `MODEL` for a model's name.
    pub(super) example: Option<&'static str>,
    /// Whether it answers without a key.
    pub(super) is_open: bool,
    handler: MethodRouter<Arc<App>>,
}

/// The methods that routes here have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Get,
    Post,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

impl Route {
    pub(super) fn get<H, T>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::Get, path, summary, get(handler))
    }

    pub(super) fn post<H, T>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::Post, path, summary, post(handler))
    }

    fn new(
        method: Method,
        path: &'static str,
        summary: &'static str,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        Self {
            method,
            path,
            summary,
            request: None,
            answer: None,
            example: None,
            is_open: false,
            handler,
        }
    }

    /// It takes a JSON body of this type, of which `example` is one.
    pub(super) fn takes<T: JsonSchema>(self, example: &'static str) -> Self {
        Self {
            request: Some(|schemas| schemas.subschema_for::<T>()),
            example: Some(example),
            ..self
        }
    }

    /// It answers with JSON of this type.
    pub(super) fn gives<T: JsonSchema>(self) -> Self {
        Self { answer: Some(|schemas| schemas.subschema_for::<T>()), ..self }
    }

    /// It answers without a key: probes have none.
    pub(super) fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.path)
    }

    pub(super) fn add_to(self, router: Router<Arc<App>>) -> Router<Arc<App>> {
        router.route(self.path, self.handler)
    }
}
