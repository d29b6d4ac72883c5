//! The definition as users get it: committed, complete, within bounds.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use lamplighter_api::crd;
use serde_json::Value;

/// `kubectl apply` without `--server-side` copies an object into an annotation of at most
/// 262,144 bytes; half of that leaves room to grow.
const MAX_YAML: usize = 128 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn definition() -> Value {
    serde_json::to_value(crd::crd().expect("the definition is valid")).expect("it is JSON")
}

fn schema() -> Value {
    definition()
        .pointer("/spec/versions/0/schema/openAPIV3Schema")
        .expect("the version has a schema")
        .clone()
}

/// Calls `visit` with the path and schema of every property, item and map value.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, visit);
        }
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

fn collect(mut wrong: impl FnMut(&str, &Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        if wrong(path, schema) {
            found.push(path.to_owned());
        }
    });
    found
}

#[test]
fn the_committed_definition_is_the_derived_one() {
    let committed = std::fs::read_to_string(root().join(crd::CRD_PATH)).unwrap_or_default();
    let derived = crd::crd_yaml().expect("the definition is valid");
    assert!(committed == derived, "{} is stale; run `cargo xtask generate`", crd::CRD_PATH);
}

#[test]
fn the_definition_can_be_applied_by_every_kubectl() {
    let yaml = crd::crd_yaml().expect("the definition is valid");
    assert!(yaml.len() < MAX_YAML, "{} bytes", yaml.len());
}

#[test]
fn every_property_is_described() {
    let undescribed = collect(|path, schema| {
        let property = path.rsplit('.').next().is_some_and(|name| !name.ends_with(['[', ']', '}']));
        let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        property && text.trim().len() < "A name.".len()
    });
    assert_eq!(undescribed, Vec::<String>::new());
}

#[test]
fn every_number_is_a_signed_integer() {
    let other = collect(|_, schema| {
        schema["type"] == "number"
            || (schema["type"] == "integer"
                && !matches!(schema["format"].as_str(), Some("int32" | "int64")))
    });
    assert_eq!(other, Vec::<String>::new());
}

#[test]
fn every_enum_value_is_a_pascal_case_word() {
    let other = collect(|_, schema| {
        schema["enum"].as_array().is_some_and(|values| {
            values.iter().any(|value| {
                !value.as_str().is_some_and(|word| {
                    word.starts_with(|c: char| c.is_ascii_uppercase())
                        && word.chars().all(|c| c.is_ascii_alphanumeric())
                })
            })
        })
    });
    assert_eq!(other, Vec::<String>::new());
}

#[test]
fn every_list_of_the_resource_is_bounded() {
    let unbounded = collect(|_, schema| schema["type"] == "array" && schema["maxItems"].is_null());
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn nothing_is_nullable_and_nothing_escapes_the_schema() {
    let open = collect(|_, schema| {
        schema.get("nullable").is_some()
            || schema.get("x-kubernetes-preserve-unknown-fields").is_some()
    });
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn every_rule_has_a_message_that_names_a_field() {
    let silent = collect(|_, schema| {
        schema["x-kubernetes-validations"].as_array().is_some_and(|rules| {
            rules.iter().any(|rule| {
                !rule["message"].as_str().is_some_and(|message| {
                    message.split([':', ' ']).next().is_some_and(|field| !field.is_empty())
                        && message.len() > 20
                })
            })
        })
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn conditions_have_the_limits_of_the_kubernetes_type() {
    let schema = schema();
    let conditions = schema
        .pointer("/properties/status/properties/conditions")
        .expect("the status has conditions");
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
    let item = &conditions["items"]["properties"];
    assert_eq!(item["type"]["maxLength"], 316);
    assert_eq!(item["status"]["enum"], serde_json::json!(["True", "False", "Unknown"]));
    assert_eq!(item["reason"]["minLength"], 1);
    assert_eq!(item["reason"]["maxLength"], 1024);
    assert!(item["reason"]["pattern"].is_string());
    assert_eq!(item["message"]["maxLength"], 32768);
    assert_eq!(item["observedGeneration"]["minimum"].as_f64(), Some(0.0));
    let required = conditions["items"]["required"].as_array().expect("some are required");
    for name in ["lastTransitionTime", "message", "reason", "status", "type"] {
        assert!(required.contains(&name.into()), "{name} is required");
    }
}

#[test]
fn a_field_of_the_design_that_does_nothing_yet_is_not_in_the_schema() {
    let schema = schema();
    let spec = &schema["properties"]["spec"]["properties"];
    let resources = &spec["worker"]["properties"]["resources"]["properties"];
    assert!(resources.get("limits").is_some());
    assert!(resources.get("claims").is_none());
}

/// Guarantees: told-07.
#[test]
fn kubectl_can_scale_list_and_abbreviate_it() {
    let definition = definition();
    let version = &definition["spec"]["versions"][0];
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    assert_eq!(definition["spec"]["names"]["shortNames"], serde_json::json!(["mdpl"]));
    assert_eq!(definition["spec"]["names"]["categories"], serde_json::json!(["lamplighter"]));
    assert_eq!(
        version["subresources"]["scale"],
        serde_json::json!({
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        })
    );
    assert!(version["subresources"]["status"].is_object());
    let columns: Vec<&str> = version["additionalPrinterColumns"]
        .as_array()
        .expect("there are columns")
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(
        columns,
        [
            "Ready",
            "Reason",
            "Replicas",
            "Available",
            "Revision",
            "Phase",
            "Environment",
            "Candidate",
            "Rollback-Until",
            "Message",
            "Age",
        ]
    );
}
