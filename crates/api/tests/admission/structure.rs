//! Structural schemas: defaults, unknown fields, and the keywords that the definition uses, with
//! messages like those of the apiserver.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::rules;

/// Fields of every object that no schema names.
const OBJECT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Sets defaults and drops nulls, as the apiserver does before it validates.
pub(crate) fn set_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, field| !field.is_null());
            for (name, property) in properties(schema) {
                if let (Some(default), false) = (property.get("default"), object.contains_key(name))
                {
                    object.insert(name.clone(), default.clone());
                }
                if let Some(field) = object.get_mut(name) {
                    set_defaults(property, field);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                set_defaults(&schema["items"], item);
            }
        }
        _ => {}
    }
}

/// Fields that strict decoding refuses.
pub(crate) fn unknown_fields(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, field) in object.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(property) => find_unknown(name, property, field, &mut found),
            None if OBJECT_FIELDS.contains(&name.as_str()) => {}
            None => found.push(name.clone()),
        }
    }
    found.iter().map(|path| format!("unknown field \"{path}\"")).collect()
}

fn find_unknown(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, field) in object {
                let path = format!("{path}.{name}");
                let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
                match known {
                    Some(property) => find_unknown(&path, property, field, found),
                    None => found.push(path),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_unknown(&format!("{path}[{index}]"), &schema["items"], item, found);
            }
        }
        _ => {}
    }
}

/// What the schema's keywords refuse.
pub(crate) fn violations(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check("", schema, object, &mut found);
    found
}

fn check(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    if !has_type(schema, value) {
        found.push(format!("{path}: Invalid value: {value}: must be of type {}", schema["type"]));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        found.push(format!("{path}: Unsupported value: {value}"));
    }
    match value {
        Value::Object(object) => check_object(path, schema, object, found),
        Value::Array(items) => check_list(path, schema, items, found),
        Value::String(text) => check_text(path, schema, text, found),
        Value::Number(number) => {
            check_number(path, schema, number.as_f64().unwrap_or_default(), found);
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some(other) => {
            panic!("the definition uses the type {other}, which this walk does not know")
        }
        None => value.is_string() || value.is_i64() || value.is_object(),
    }
}

fn check_object(path: &str, schema: &Value, object: &Map<String, Value>, found: &mut Vec<String>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push(format!("{}: Required value", join(path, name)));
        }
    }
    if let Some(most) = limit(schema, "maxProperties")
        && object.len() > most
    {
        found.push(format!("{path}: Too many: {}: must have at most {most} items", object.len()));
    }
    for (name, field) in object {
        let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
        if let Some(property) = known {
            check(&join(path, name), property, field, found);
        }
    }
}

fn check_list(path: &str, schema: &Value, items: &[Value], found: &mut Vec<String>) {
    if let Some(most) = limit(schema, "maxItems")
        && items.len() > most
    {
        found.push(format!("{path}: Too many: {}: must have at most {most} items", items.len()));
    }
    if let Some(fewest) = limit(schema, "minItems")
        && items.len() < fewest
    {
        found.push(format!("{path} in body should have at least {fewest} items"));
    }
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let key: Vec<String> = keys.iter().map(|key| item[*key].to_string()).collect();
        if !keys.is_empty() && !seen.insert(key) {
            found.push(format!("{path}: Duplicate value"));
        }
        check(&path, &schema["items"], item, found);
    }
}

fn check_text(path: &str, schema: &Value, text: &str, found: &mut Vec<String>) {
    let length = text.chars().count();
    if let Some(most) = limit(schema, "maxLength")
        && length > most
    {
        found.push(format!("{path}: Too long: may not be more than {most} bytes"));
    }
    if let Some(fewest) = limit(schema, "minLength")
        && length < fewest
    {
        found.push(format!("{path} in body should be at least {fewest} chars long"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !rules::matches(text, pattern)
    {
        found.push(format!("{path} in body should match '{pattern}'"));
    }
}

fn check_number(path: &str, schema: &Value, number: f64, found: &mut Vec<String>) {
    if let Some(least) = schema["minimum"].as_f64()
        && number < least
    {
        found.push(format!("{path} in body should be greater than or equal to {least}"));
    }
    if let Some(most) = schema["maximum"].as_f64()
        && number > most
    {
        found.push(format!("{path} in body should be less than or equal to {most}"));
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn limit(schema: &Value, keyword: &str) -> Option<usize> {
    schema[keyword].as_u64().and_then(|limit| usize::try_from(limit).ok())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
