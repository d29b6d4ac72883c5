//! What there is to ask, for programs (`/openapi.json`) and for people (`/docs`). Both are made of
//! the routes themselves.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::App;
use super::ask::MODEL_HEADER;
use super::class::CLASS_HEADER;
use super::route::{Method, Route, Trait};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/openapi.json", "This document.", openapi).open(),
        Route::get("/docs", "The routes and the models, as a page.", page).open(),
    ]
}

async fn openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| document(&super::routes()).to_string().into());
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], DOCUMENT.clone()).into_response()
}

/// The routes as a document of `OpenAPI` (<https://spec.openapis.org/oas/v3.1.1.html>).
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
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut answer = json!({"description": "It was answered."});
    if let Some(schema) = route.answer {
        answer["content"] = json!({"application/json": {"schema": schema(schemas)}});
    }
    if route.is(Trait::Bytes) {
        answer["content"][BYTES] = bytes_after_json();
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [route.family().name()],
        "summary": route.summary,
        // Either no key or one: a worker may be set up without keys.
        "security": if route.is(Trait::Open) { json!([]) } else { json!([{}, {"bearer": []}, {"header": []}]) },
        "responses": {"200": answer, "default": route.family().described()},
    });
    if route.is(Trait::Computes) {
        for (status, when) in [("429", "Others take all the room."), ("503", "Models are loading.")]
        {
            operation["responses"][status] = to_be_tried_again(route, when);
        }
    }
    let parameters = parameters(route.path).map(|name| parameter(name, "path", ""));
    let parameters: Vec<Value> = parameters.chain(headers(route)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = route.request {
        let mut media = json!({"schema": schema(schemas)});
        if let Some(example) = route.example.and_then(|text| serde_json::from_str(text).ok()) {
            media["example"] = example;
        }
        let mut content = json!({"application/json": media});
        if route.is(Trait::Bytes) {
            content[BYTES] = bytes_after_json();
        }
        let is_required = !route.is(Trait::BodyOptional);
        operation["requestBody"] = json!({"required": is_required, "content": content});
    }
    operation
}

const BYTES: &str = "application/octet-stream";

fn bytes_after_json() -> Value {
    json!({
        "schema": {"type": "string", "format": "binary"},
        "x-note": "JSON of as many bytes as the header inference-header-content-length says, then the \
                   tensors, one after the other.",
    })
}

/// A failure that passes.
fn to_be_tried_again(route: &Route, when: &str) -> Value {
    let mut failure = route.family().described();
    failure["description"] = when.into();
    failure["headers"] = json!({"retry-after": {
        "description": "After so many seconds.",
        "schema": {"type": "integer"},
    }});
    failure
}

/// Headers that a route looks at, beside those of HTTP.
fn headers(route: &Route) -> impl Iterator<Item = Value> {
    let model = route.is(Trait::ModelInHeader).then_some((
        MODEL_HEADER,
        "Which model is meant, `name` or `name:version`, where no field says it.",
    ));
    let class = route.is(Trait::Computes).then_some((
        CLASS_HEADER,
        "How urgent it is: `interactive` or `bulk`; by default by its size.",
    ));
    let length = route.is(Trait::Bytes).then_some((
        "inference-header-content-length",
        "How many bytes of the body are JSON, where bytes of tensors follow it.",
    ));
    let headers = [model, class, length].into_iter().flatten();
    headers.map(|(name, description)| parameter(name, "header", description))
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

fn parameter(name: &str, place: &str, description: &str) -> Value {
    let is_required = place == "path";
    let mut parameter = json!({
        "name": name, "in": place, "required": is_required, "schema": {"type": "string"},
    });
    if !description.is_empty() {
        parameter["description"] = description.into();
    }
    parameter
}

/// Without a key where one is needed, and then without names.
async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Html<String> {
    if !app.lets_in(&headers) {
        return Html(written(&super::routes(), &Names::Hidden, MODEL));
    }
    let served = app.registry().ok();
    let names: Vec<String> = served.as_ref().map_or_else(Vec::new, |registry| {
        registry
            .names()
            .map(|(name, model)| format!("{name} ({})", model.facts.architecture))
            .collect()
    });
    let model = served.as_ref().and_then(|registry| registry.names().next());
    let model = model.map_or(MODEL, |(name, _)| name);
    Html(written(&super::routes(), &Names::Told(names), model))
}

/// Stands for the name of a model.
const MODEL: &str = "MODEL";

/// Names that requests may use.
enum Names {
    Told(Vec<String>),
    /// From who has no key.
    Hidden,
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Lamplighter worker</title>\
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
pre{background:#f4f2ec;padding:.6rem;overflow:auto}code{font-size:.9rem}h3{margin-bottom:.2rem}</style>\
<h1>Lamplighter worker</h1>";

/// The page, with nothing from anywhere else in it.
fn written(routes: &[Route], names: &Names, model: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut add = |text: std::fmt::Arguments<'_>| {
        // A String takes everything.
        let _ = page.write_fmt(text);
    };
    match names {
        Names::Hidden => add(format_args!(
            "<p>Requests need a key, as <code>Authorization: Bearer KEY</code> or <code>x-api-key: \
             KEY</code>; with one, <code>/v1/models</code> lists the names that they may use.</p>"
        )),
        Names::Told(names) if names.is_empty() => {
            add(format_args!("<p>No names may be used yet: models are loading.</p>"));
        }
        Names::Told(names) => {
            add(format_args!("<p>Requests may use these names:</p><ul>"));
            for name in names {
                add(format_args!("<li><code>{}</code></li>", escaped(name)));
            }
            add(format_args!("</ul>"));
        }
    }
    add(format_args!("<p>For programs: <a href=\"/openapi.json\">/openapi.json</a></p>"));
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
    fn the_document_says_how_to_ask() {
        let document = document(&super::super::routes());
        let headers = |path: &str, method: &str| -> BTreeSet<String> {
            let parameters = document["paths"][path][method]["parameters"].as_array();
            let headers = parameters.into_iter().flatten().filter(|it| it["in"] == "header");
            headers.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let of = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert_eq!(headers("/v1/embeddings", "post"), of(&["x-lamplighter-class", "x-model"]));
        assert_eq!(headers("/info", "get"), of(&["x-model"]));
        let infer = "/v2/models/{model}/infer";
        let length = "inference-header-content-length";
        assert_eq!(headers(infer, "post"), of(&[length, "x-lamplighter-class"]));
        assert_eq!(headers("/health", "get"), of(&[]));
        let infer = &document["paths"][infer]["post"];
        for content in [&infer["requestBody"]["content"], &infer["responses"]["200"]["content"]] {
            assert!(content["application/json"].is_object(), "{content}");
            assert_eq!(content["application/octet-stream"]["schema"]["format"], "binary");
        }
        for status in ["429", "503"] {
            assert!(infer["responses"][status]["headers"]["retry-after"].is_object(), "{status}");
        }
        let index = &document["paths"]["/v2/repository/index"]["post"];
        assert_eq!(index["requestBody"]["required"], false);
        assert_eq!(infer["requestBody"]["required"], true);
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        for scheme in infer["security"].as_array().unwrap().iter().skip(1) {
            assert!(schemes.contains_key(scheme.as_object().unwrap().keys().next().unwrap()));
        }
        assert_eq!(schemes["header"]["name"], "x-api-key");
        assert_eq!(document["paths"]["/docs"]["get"]["security"], json!([]));
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
        let page = written(&routes, &Names::Told(vec!["a<b (C)".to_owned()]), "a");
        for route in &routes {
            assert!(page.contains(route.path), "{}", route.path);
        }
        assert!(page.contains("a&lt;b"), "names are escaped");
        for outside in ["<script", "src=", "https://", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        let hidden = written(&routes, &Names::Hidden, MODEL);
        assert!(hidden.contains("x-api-key") && !hidden.contains("Requests may use"));
        let loading = written(&routes, &Names::Told(Vec::new()), MODEL);
        assert!(loading.contains("models are loading"));
    }
}
