//! CEL rules of a schema, evaluated with the functions that Kubernetes adds to CEL.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map, Value as CelValue};
use kube_cel::cel::{Context, Program};
use serde_json::Value;

/// The messages of the rules that an object breaks, each with the path of its field.
pub(crate) fn violations(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check("", schema, object, &mut found);
    found
}

/// The messages of all rules of a schema.
pub(crate) fn messages(schema: &Value) -> Vec<String> {
    let mut found: Vec<String> = rules(schema).map(|rule| message(rule).to_owned()).collect();
    for child in schema["properties"].as_object().into_iter().flat_map(serde_json::Map::values) {
        found.extend(messages(child));
    }
    for child in ["items", "additionalProperties"].iter().filter_map(|name| schema.get(*name)) {
        found.extend(messages(child));
    }
    found
}

/// Whether a text matches a pattern, by the same engine as the rules.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    let mut context = Context::default().with_all();
    context.add_variable_from_value("text", text.to_owned());
    context.add_variable_from_value("pattern", pattern.to_owned());
    holds("text.matches(pattern)", &context).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn check(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    for rule in rules(schema) {
        let mut context = Context::default().with_all();
        context.add_variable_from_value("self", to_cel(value));
        let expression = rule["rule"].as_str().expect("a rule has an expression");
        assert!(!expression.contains("oldSelf"), "this walk knows no old object: {expression}");
        let message = message(rule);
        match holds(expression, &context) {
            Ok(true) => {}
            Ok(false) => found.push(format!("{path}: Invalid value: {message}")),
            Err(error) => found.push(format!("{path}: rule {expression}: {error}")),
        }
    }
    match value {
        Value::Object(object) => {
            for (name, field) in object {
                let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
                if let Some(property) = known {
                    check(&format!("{path}.{name}"), property, field, found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(&format!("{path}[{index}]"), &schema["items"], item, found);
            }
        }
        _ => {}
    }
}

fn rules(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten()
}

fn message(rule: &Value) -> &str {
    rule["message"].as_str().expect("every rule has a message")
}

fn holds(expression: &str, context: &Context<'_>) -> Result<bool, String> {
    let program = Program::compile(expression).map_err(|error| error.to_string())?;
    match program.execute(context).map_err(|error| error.to_string())? {
        CelValue::Bool(holds) => Ok(holds),
        other => Err(format!("gives {other:?}, not a boolean")),
    }
}

/// No field of the resource has a name that CEL would need escaped.
fn to_cel(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(truth) => CelValue::Bool(*truth),
        Value::Number(number) => {
            CelValue::Int(number.as_i64().expect("every number is an integer"))
        }
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(object) => {
            let map: HashMap<Key, CelValue> = object
                .iter()
                .map(|(name, field)| (Key::String(Arc::new(name.clone())), to_cel(field)))
                .collect();
            CelValue::Map(Map { map: Arc::new(map) })
        }
    }
}
