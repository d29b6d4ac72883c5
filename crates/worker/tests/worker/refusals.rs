//! Every way to ask wrongly: the right status, in OpenAI's shape, with words that help.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use lamplighter_protocol::place::POD_HEADER;
use serde_json::{Value, json};

use crate::support::client::call;
use crate::support::fake::Fake;
use crate::support::{Bench, POD};

const EMBEDDINGS: &str = "/v1/embeddings";

fn bench() -> Bench {
    Bench::ready(&Arc::new(Fake::new()))
}

struct Bad {
    body: Body,
    content_type: Option<&'static str>,
    status: StatusCode,
    code: &'static str,
    param: Option<&'static str>,
    says: &'static str,
}

fn bad(
    body: &Value,
    status: u16,
    code: &'static str,
    param: &'static str,
    says: &'static str,
) -> Bad {
    raw(body.to_string(), Some("application/json"), status, code, Some(param), says)
}

fn raw(
    body: impl Into<Body>,
    content_type: Option<&'static str>,
    status: u16,
    code: &'static str,
    param: Option<&'static str>,
    says: &'static str,
) -> Bad {
    Bad {
        body: body.into(),
        content_type,
        status: StatusCode::from_u16(status).unwrap(),
        code,
        param,
        says,
    }
}

fn asks(input: &Value) -> Value {
    json!({"model": "other", "input": input})
}

fn bad_models() -> Vec<Bad> {
    let missing = "missing_required_parameter";
    vec![
        bad(&json!({"input": "a"}), 400, missing, "model", "embedder:2, other, other:1"),
        bad(&json!({"model": null, "input": "a"}), 400, missing, "model", "name one in the field"),
        bad(&json!({"model": 7, "input": "a"}), 400, "invalid_type", "model", "text"),
        bad(&json!({"model": ["other"], "input": "a"}), 400, "invalid_type", "model", "text"),
        bad(&json!({"model": "", "input": "a"}), 404, "model_not_found", "model", "embedder:2"),
        bad(&json!({"model": "nobody", "input": "a"}), 404, "model_not_found", "model", "nobody"),
        bad(&json!({"model": "other:2", "input": "a"}), 404, "model_not_found", "model", "other:2"),
        bad(&json!({"model": "other:", "input": "a"}), 404, "model_not_found", "model", "other:1"),
        bad(&json!({"model": "Other", "input": "a"}), 404, "model_not_found", "model", "Other"),
    ]
}

fn bad_inputs() -> Vec<Bad> {
    let missing = "missing_required_parameter";
    vec![
        bad(&json!({"model": "other"}), 400, missing, "input", "input is missing"),
        bad(&asks(&json!(null)), 400, missing, "input", "input is missing"),
        bad(&asks(&json!("")), 400, "invalid_input", "input", "empty text"),
        bad(&asks(&json!([])), 400, "invalid_input", "input", "input is empty"),
        bad(&asks(&json!(["a", ""])), 400, "invalid_input", "input", "[1] is an empty text"),
        bad(&asks(&json!([[]])), 400, "invalid_input", "input", "[0] is empty"),
        bad(&asks(&json!([[1], []])), 400, "invalid_input", "input", "[1] is empty"),
        bad(&asks(&json!(["a", 1])), 400, "invalid_input", "input", "[1] is of another kind"),
        bad(&asks(&json!([1, "a"])), 400, "invalid_input", "input", "[1] is of another kind"),
        bad(&asks(&json!([["a"]])), 400, "invalid_input", "input", "[0]"),
        bad(&asks(&json!([-1])), 400, "invalid_input", "input", "-1"),
        bad(&asks(&json!([1.5])), 400, "invalid_input", "input", "1.5"),
        bad(&asks(&json!([4_294_967_296_u64])), 400, "invalid_input", "input", "4294967296"),
        bad(
            &asks(&json!([[1], [7, 1_000]])),
            400,
            "invalid_input",
            "input",
            "input[1] has the token 1000",
        ),
        bad(
            &asks(&json!([5_000_000])),
            400,
            "invalid_input",
            "input",
            "has 1000: tokens must come from this model's own tokenizer (/tokenize); with LangChain",
        ),
        bad(&asks(&json!({"text": "a"})), 400, "invalid_input", "input", "object"),
        bad(&asks(&json!(true)), 400, "invalid_input", "input", "true or false"),
        bad(&asks(&json!(3)), 400, "invalid_input", "input", "list"),
        bad(&asks(&json!(vec!["a"; 2_049])), 400, "invalid_input", "input", "2048"),
        bad(&asks(&json!("  ")), 400, "invalid_input", "input", "input[0] cannot be tokenised"),
        bad(
            &asks(&json!(["a", "a ".repeat(17)])),
            400,
            "context_length_exceeded",
            "input",
            "input[1] has 17 tokens, the model reads at most 16",
        ),
        bad(
            &asks(&json!([vec![1; 3], vec![1; 20]])),
            400,
            "context_length_exceeded",
            "input",
            "input[1] has 20 tokens, the model reads at most 16",
        ),
        bad(
            &json!({"model": "other", "input": "a", "encoding_format": "int8"}),
            400,
            "invalid_value",
            "encoding_format",
            "float or base64",
        ),
        bad(
            &json!({"model": "other", "input": "a", "encoding_format": 1}),
            400,
            "invalid_type",
            "encoding_format",
            "float or base64",
        ),
        bad(
            &json!({"model": "other", "input": "a", "dimensions": 4}),
            400,
            "invalid_value",
            "dimensions",
            "cannot have 4 dimensions, only 1 to 3",
        ),
        bad(
            &json!({"model": "other", "input": "a", "dimensions": 0}),
            400,
            "invalid_value",
            "dimensions",
            "dimensions must be a whole number above 0",
        ),
        bad(
            &json!({"model": "other", "input": "a", "dimensions": "3"}),
            400,
            "invalid_type",
            "dimensions",
            "dimensions must be a whole number above 0; it is 3",
        ),
    ]
}

fn bad_bodies() -> Vec<Bad> {
    let good = || asks(&json!("a")).to_string();
    let json = Some("application/json");
    vec![
        raw("", json, 400, "invalid_json", None, "EOF"),
        raw("{", json, 400, "invalid_json", None, "EOF"),
        raw("[]", json, 400, "invalid_json", None, "expected a JSON object"),
        raw(
            "[\"other\", \"a\", null, 3]",
            json,
            400,
            "invalid_json",
            None,
            "expected a JSON object",
        ),
        raw("\"a\"", json, 400, "invalid_json", None, "JSON object"),
        raw("{\"model\": \"other\", \"input\": NaN}", json, 400, "invalid_json", None, "expected"),
        raw(&b"{\"model\": \"\xff\"}"[..], json, 400, "invalid_json", None, "unicode"),
        raw(good() + "{}", json, 400, "invalid_json", None, "trailing"),
        raw("[".repeat(40_000), json, 400, "invalid_json", None, "JSON object"),
        raw(
            format!("{{\"input\": {}", "[".repeat(40_000)),
            json,
            400,
            "invalid_json",
            None,
            "recursion limit",
        ),
        raw(good(), None, 415, "unsupported_media_type", None, "missing"),
        raw(good(), Some("text/plain"), 415, "unsupported_media_type", None, "text/plain"),
        raw(
            good(),
            Some("application/x-www-form-urlencoded"),
            415,
            "unsupported_media_type",
            None,
            "form-urlencoded",
        ),
        raw(" ".repeat(65_537), json, 413, "request_too_large", None, "65536 bytes"),
    ]
}

#[tokio::test]
async fn bad_requests_are_refused_in_openais_shape_and_say_what_is_wrong() {
    let bench = bench();
    let requests = bad_models().into_iter().chain(bad_inputs()).chain(bad_bodies());
    for (row, case) in requests.enumerate() {
        let mut request = Request::post(EMBEDDINGS);
        if let Some(content_type) = case.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = call(&bench.app, request.body(case.body).unwrap()).await;
        assert_eq!(answer.status, case.status, "row {row}: {}", answer.text);
        assert_eq!(answer.error_code(), case.code, "row {row}: {}", answer.text);
        let error = &answer.json()["error"];
        assert_eq!(error["param"].as_str(), case.param, "row {row}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "row {row}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(case.says), "row {row}: {message}");
        assert_eq!(answer.headers[POD_HEADER], POD, "row {row}");
    }
}

#[tokio::test]
async fn json_types_with_parameters_and_suffixes_are_accepted() {
    let bench = bench();
    for content_type in
        ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.openai+json"]
    {
        let request = Request::post(EMBEDDINGS)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(json!({"model": "other", "input": "a"}).to_string()));
        let answer = call(&bench.app, request.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{content_type}");
    }
}

#[tokio::test]
async fn no_route_and_no_method_have_the_same_shape() {
    let bench = bench();
    for (method, path, status, code) in [
        (Method::POST, "/v1/embedding", 404, "unknown_url"),
        (Method::GET, "/v1/models/a/b", 404, "unknown_url"),
        (Method::GET, "/metric", 404, "unknown_url"),
        (Method::GET, EMBEDDINGS, 405, "method_not_allowed"),
        (Method::DELETE, "/v1/models/other", 405, "method_not_allowed"),
        (Method::POST, "/lamplighter/identity", 405, "method_not_allowed"),
    ] {
        let request = Request::builder().method(&method).uri(path);
        let answer = call(&bench.app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert_eq!(answer.error_code(), code, "{method} {path}");
        assert_eq!(answer.headers[POD_HEADER], POD, "{method} {path}");
        if status == 405 {
            assert!(answer.headers.contains_key(header::ALLOW), "{method} {path}");
        }
    }
}
