//! What there is to ask, for programs (`/openapi.json`) and for people (`/docs`). Both are made of
//! the routes themselves.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::App;
use super::route::{Method, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/openapi.json", "This document.", openapi),
        Route::get("/docs", "The routes and the models, as a page.", page),
    ]
}

async fn openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| document(&super::routes()).to_string().into());
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], DOCUMENT.clone()).into_response()
}

/// The routes as an OpenAPI document (<https://spec.openapis.org/oas/v3.1.1.html>).
fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = SchemaGenerator::new(settings);
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name()] = operation(route, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lamplighter worker",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut answer = json!({"description": "It was answered."});
    if let Some(schema) = route.answer {
        answer["content"] = json!({"application/json": {"schema": schema(schemas)}});
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [route.family().name()],
        "summary": route.summary,
        // Either no key or one: a worker may be set up without keys.
        "security": if route.is_open { json!([]) } else { json!([{}, {"key": []}]) },
        "responses": {"200": answer, "default": route.family().described()},
    });
    let parameters: Vec<Value> = parameters(route.path).map(parameter).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = route.request {
        let mut media = json!({"schema": schema(schemas)});
        if let Some(example) = route.example.and_then(|text| serde_json::from_str(text).ok()) {
            media["example"] = example;
        }
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": media}});
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    [&[route.method.name()][..], &words].concat().join("_")
}

/// The names in the braces of a path.
fn parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

async fn page(State(app): State<Arc<App>>) -> Html<String> {
    let names: Vec<String> = app.served().map_or_else(Vec::new, |registry| {
        registry
            .names()
            .map(|(name, model)| format!("{name} ({})", model.facts.architecture))
            .collect()
    });
    let model = app.served().and_then(|registry| registry.names().next());
    let model = model.map_or("MODEL", |(name, _)| name);
    Html(written(&super::routes(), &names, model))
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Lamplighter worker</title>\
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
pre{background:#f4f2ec;padding:.6rem;overflow:auto}code{font-size:.9rem}h3{margin-bottom:.2rem}</style>\
<h1>Lamplighter worker</h1>";

/// The page, with nothing from anywhere else in it.
fn written(routes: &[Route], names: &[String], model: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut add = |text: std::fmt::Arguments<'_>| {
        // A String takes everything.
        let _ = page.write_fmt(text);
    };
    add(format_args!("<p>Requests may use these names:</p><ul>"));
    for name in names {
        add(format_args!("<li><code>{}</code></li>", escaped(name)));
    }
    if names.is_empty() {
        add(format_args!("<li>none yet: models are loading</li>"));
    }
    add(format_args!("</ul><p>For programs: <a href=\"/openapi.json\">/openapi.json</a></p>"));
    let mut family = None;
    for route in routes {
        if family.replace(route.family()) != Some(route.family()) {
            add(format_args!("<h2>{}</h2>", route.family().name()));
        }
        let method = route.method.name().to_uppercase();
        let summary = escaped(route.summary);
        add(format_args!("<h3><code>{method} {}</code></h3><p>{summary}</p>", route.path));
        add(format_args!("<pre>{}</pre>", escaped(&curl(route, model))));
    }
    page
}

fn curl(route: &Route, model: &str) -> String {
    let path = route.path.replace("{id}", model).replace("{model}", model);
    let path = path.replace("{version}", "VERSION");
    let mut line = format!("curl http://127.0.0.1:8080{path}");
    match (route.method, route.example) {
        (Method::Get, _) => {}
        (Method::Post, None) => line.push_str(" -X POST"),
        (Method::Post, Some(example)) => {
            let body = example.replace("MODEL", model);
            line.push_str(" -H 'content-type: application/json' \\\n  -d '");
            line.push_str(&body);
            line.push('\'');
        }
    }
    line
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_in_the_document_with_an_answer_and_a_failure() {
        let routes = super::super::routes();
        let document = document(&routes);
        let mut ids = BTreeSet::new();
        for route in &routes {
            let operation = &document["paths"][route.path][route.method.name()];
            assert!(operation["responses"]["200"].is_object(), "{}", route.path);
            let failure = &operation["responses"]["default"]["content"]["application/json"];
            assert!(failure["schema"].is_object(), "{}", route.path);
            assert_eq!(operation["requestBody"].is_object(), route.request.is_some());
            assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
        }
        let paths: BTreeSet<&str> = routes.iter().map(|route| route.path).collect();
        assert_eq!(document["paths"].as_object().unwrap().len(), paths.len());
        assert!(ids.len() > 25, "{}", ids.len());
    }

    #[test]
    fn every_reference_leads_somewhere_and_examples_are_json() {
        let routes = super::super::routes();
        let document = document(&routes);
        let text = document.to_string();
        let mut references = 0;
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 10, "{references}");
        for route in &routes {
            if let Some(example) = route.example {
                assert!(serde_json::from_str::<Value>(example).is_ok(), "{example}");
            }
        }
    }

    #[test]
    fn the_page_names_every_route_and_loads_nothing() {
        let routes = super::super::routes();
        let page = written(&routes, &["a<b (C)".to_owned()], "a");
        for route in &routes {
            assert!(page.contains(route.path), "{}", route.path);
        }
        assert!(page.contains("a&lt;b"), "names are escaped");
        for outside in ["<script", "src=", "https://", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
