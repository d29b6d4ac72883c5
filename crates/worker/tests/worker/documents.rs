//! `/openapi.json` and `/docs`, as they are served.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};

use crate::support::Bench;
use crate::support::client::{call, get};
use crate::support::fake::Fake;

#[tokio::test]
async fn every_documented_route_is_one_and_the_page_names_the_models() {
    let bench = Bench::ready(&Arc::new(Fake::new()));
    let document = call(&bench.app, get("/openapi.json")).await;
    assert_eq!(document.headers[header::CONTENT_TYPE], "application/json");
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "other").replace("{model}", "other");
        let path = path.replace("{version}", "1");
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = Request::builder().method(method).uri(&path).body(Body::empty());
            let status = call(&bench.app, request.unwrap()).await.status;
            assert_ne!(status, StatusCode::NOT_FOUND, "{path}");
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            operations += 1;
        }
    }
    assert!(operations > 25, "{operations}");
    let page = call(&bench.app, get("/docs")).await;
    assert!(page.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert!(page.text.contains("<code>embedder:2 (Fake)</code>"), "{}", page.text);
}
