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
    traits: Vec<Trait>,
    /// The same at another path, which documents leave out.
    alias: Option<&'static str>,
    handler: MethodRouter<Arc<App>>,
}

/// What is true of some routes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trait {
    /// Its body may be left out.
    BodyOptional,
    /// A header may say which model is meant.
    ModelInHeader,
    /// It asks a model to compute, and so may have to wait.
    Computes,
    /// Tensors come and go as bytes, too.
    Bytes,
    /// It answers without a key.
    Open,
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
            traits: Vec::new(),
            alias: None,
            handler,
        }
    }

    /// It takes a JSON body of this type, of which `example` is one.
    pub(super) fn takes<T: JsonSchema>(self, example: &'static str) -> Self {
        Self { request: Some(SchemaGenerator::subschema_for::<T>), example: Some(example), ..self }
    }

    /// As [`Route::takes`], or nothing.
    pub(super) fn may_take<T: JsonSchema>(self, example: &'static str) -> Self {
        self.takes::<T>(example).with(Trait::BodyOptional)
    }

    /// Which model is meant may stand in a header.
    pub(super) fn names_model(self) -> Self {
        self.with(Trait::ModelInHeader)
    }

    /// It asks a model to compute.
    pub(super) fn computes(self) -> Self {
        self.with(Trait::Computes)
    }

    /// Tensors may be bytes behind the JSON, of the request and of the answer.
    pub(super) fn or_bytes(self) -> Self {
        self.with(Trait::Bytes)
    }

    fn with(mut self, one: Trait) -> Self {
        self.traits.push(one);
        self
    }

    pub(super) fn is(&self, one: Trait) -> bool {
        self.traits.contains(&one)
    }

    /// It is at this path, too.
    pub(super) fn also(self, path: &'static str) -> Self {
        Self { alias: Some(path), ..self }
    }

    /// It answers with JSON of this type.
    pub(super) fn gives<T: JsonSchema>(self) -> Self {
        Self { answer: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// It answers without a key: probes have none, nor has who wants to know what there is to ask.
    pub(super) fn open(self) -> Self {
        self.with(Trait::Open)
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.path)
    }

    pub(super) fn add_to(self, router: Router<Arc<App>>) -> Router<Arc<App>> {
        let router = match self.alias {
            Some(path) => router.route(path, self.handler.clone()),
            None => router,
        };
        router.route(self.path, self.handler)
    }
}
