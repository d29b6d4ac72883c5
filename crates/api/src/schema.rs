//! Schemas of the Kubernetes core types inside the resource, with the bounds that the core
//! types leave to code: CEL's cost estimate needs them, and so does the size of an object.

use k8s_openapi::api::core::v1::{Affinity, EnvFromSource, EnvVar, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Most entries of `limits` and of `requests`.
const MAX_RESOURCES: u32 = 16;
/// Most environment variables.
const MAX_ENV: u32 = 64;
/// Most characters of the value of an environment variable.
const MAX_ENV_VALUE: u32 = 8192;
/// Most `ConfigMap`s and Secrets in `envFrom`, and most tolerations.
const MAX_SOURCES: u32 = 16;
/// Most entries of a map of labels or annotations.
const MAX_LABELS: u32 = 32;
/// Most items of a list deep inside a core type.
const MAX_NESTED: u32 = 128;
/// Most characters of a quantity.
const MAX_QUANTITY: u32 = 32;

/// Environment variables of the worker that are for users to set: see `lamplighter-worker serve --help`.
const WORKER_SETTINGS: &str = "^LAMPLIGHTER_(MAX_[A-Z_]+|(REQUEST|WRITE|IDLE)_TIMEOUT_SECONDS|(COMPUTE|LOAD)_THREADS|MODELS_AT_A_TIME|REVALIDATION_INTERVAL_SECONDS|CORS_ALLOW_ORIGIN)$";

/// A quantity as `resource.Quantity` is validated by CRDs that controller-gen writes:
/// <https://github.com/kubernetes-sigs/controller-tools/blob/main/pkg/crd/known_types.go>.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// `limits` and `requests` of a container. Not `claims`: nothing here declares them for the pod.
pub(crate) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        json!({
            "description": description,
            "type": "object",
            "maxProperties": MAX_RESOURCES,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "pattern": QUANTITY,
                "maxLength": MAX_QUANTITY,
            },
        })
    };
    schema(json!({
        "type": "object",
        "properties": {
            "limits": quantities("The most that the container may use."),
            "requests": quantities("What is reserved for the container; unset: the limits."),
        },
        "x-kubernetes-validations": [
            {
                "rule": "!has(self.limits) || !('nvidia.com/gpu' in self.limits) || (quantity(string(self.limits['nvidia.com/gpu'])).isInteger() && quantity(string(self.limits['nvidia.com/gpu'])).isGreaterThan(quantity('0')))",
                "message": "resources.limits: nvidia.com/gpu must be a whole number of at least 1; remove it for a pod without a GPU",
            },
            {
                "rule": "!has(self.requests) || !('nvidia.com/gpu' in self.requests) || (has(self.limits) && 'nvidia.com/gpu' in self.limits && quantity(string(self.requests['nvidia.com/gpu'])).compareTo(quantity(string(self.limits['nvidia.com/gpu']))) == 0)",
                "message": "resources.requests: nvidia.com/gpu must equal resources.limits; GPUs are not overcommitted, so name them in limits alone",
            },
            {
                "rule": "!has(self.requests) || !has(self.limits) || ['cpu', 'memory'].all(r, !(r in self.requests) || !(r in self.limits) || quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",
                "message": "resources.requests: cpu and memory must not exceed resources.limits; raise the limit or lower the request",
            },
        ],
    }))
}

/// Environment variables, without those that the operator sets itself.
pub(crate) fn env(generator: &mut SchemaGenerator) -> Schema {
    let mut item = core::<EnvVar>(generator);
    let Some(properties) = properties(&mut item) else {
        return schema(item);
    };
    properties.insert(
        "name".to_owned(),
        json!({
            "description": "The name of the variable.",
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
            "pattern": "^[-._a-zA-Z][-._a-zA-Z0-9]*$",
            "x-kubernetes-validations": [{
                "rule": format!(
                    "!(self in ['POD_UID', 'POD_NAME']) && (!self.startsWith('LAMPLIGHTER_') || self.matches('{WORKER_SETTINGS}'))"
                ),
                "message": "env: POD_UID, POD_NAME and names that start with LAMPLIGHTER_ are set by the operator, but for the worker's limits (LAMPLIGHTER_MAX_…, see docs/serving.md); choose another name",
            }],
        }),
    );
    if let Some(Value::Object(value)) = properties.get_mut("value") {
        value.insert("maxLength".to_owned(), json!(MAX_ENV_VALUE));
    }
    if let Some(source) = properties.get_mut("valueFrom") {
        // Reads a file of a volume, and there is no field that would mount one.
        if let Some(sources) = self::properties(source) {
            sources.shift_remove("fileKeyRef");
        }
        if let Value::Object(source) = source {
            source.insert(
                "x-kubernetes-validations".to_owned(),
                json!([{
                    "rule": "[has(self.configMapKeyRef), has(self.fieldRef), has(self.resourceFieldRef), has(self.secretKeyRef)].filter(given, given).size() == 1",
                    "message": "env: valueFrom needs exactly one of configMapKeyRef, fieldRef, resourceFieldRef and secretKeyRef",
                }]),
            );
        }
    }
    if let Value::Object(item) = &mut item {
        item.insert(
            "x-kubernetes-validations".to_owned(),
            json!([{
                "rule": "!has(self.value) || !has(self.valueFrom)",
                "message": "env: a variable has either value or valueFrom",
            }]),
        );
    }
    schema(json!({
        "type": "array",
        "maxItems": MAX_ENV,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }))
}

/// `ConfigMap`s and Secrets whose entries become environment variables.
pub(crate) fn env_from(generator: &mut SchemaGenerator) -> Schema {
    let mut item = core::<EnvFromSource>(generator);
    if let Value::Object(item) = &mut item {
        item.insert(
            "x-kubernetes-validations".to_owned(),
            json!([{
                "rule": "has(self.configMapRef) != has(self.secretRef)",
                "message": "envFrom: each entry needs exactly one of configMapRef and secretRef",
            }]),
        );
    }
    schema(json!({"type": "array", "maxItems": MAX_SOURCES, "items": item}))
}

/// Taints that a pod tolerates.
pub(crate) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let item = core::<Toleration>(generator);
    schema(json!({"type": "array", "maxItems": MAX_SOURCES, "items": item}))
}

/// Where pods must or should run.
pub(crate) fn affinity(generator: &mut SchemaGenerator) -> Schema {
    schema(core::<Affinity>(generator))
}

/// Label values, for a node selector.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    text_map(63)
}

/// Annotation values.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    text_map(4096)
}

/// Conditions with the limits of `metav1.Condition`, which the generated type does not carry:
/// <https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go>.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut item = core::<Condition>(generator);
    let limits = [
        (
            "type",
            json!({
                "maxLength": 316,
                "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            }),
        ),
        ("status", json!({"enum": ["True", "False", "Unknown"]})),
        (
            "reason",
            json!({
                "minLength": 1,
                "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            }),
        ),
        ("message", json!({"maxLength": 32768})),
        ("observedGeneration", json!({"minimum": 0})),
    ];
    if let Some(properties) = properties(&mut item) {
        for (name, limits) in limits {
            if let (Some(Value::Object(property)), Value::Object(limits)) =
                (properties.get_mut(name), limits)
            {
                property.extend(limits);
            }
        }
    }
    schema(json!({
        "type": "array",
        "maxItems": 16,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }))
}

fn text_map(max_length: u32) -> Schema {
    schema(json!({
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": {"type": "string", "maxLength": max_length},
    }))
}

fn schema(value: Value) -> Schema {
    match value {
        Value::Object(map) => map.into(),
        other => Schema::try_from(other).unwrap_or_default(),
    }
}

fn properties(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}

/// The schema of a core type, its lists bounded, and its descriptions cut to their first sentence
/// and left out for the items of lists: the whole text is in the Kubernetes API reference and would triple the definition.
fn core<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut value = generator.subschema_for::<T>().to_value();
    condense(&mut value);
    value
}

fn condense(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = first_sentence(description).to_owned();
            }
            if object.get("type").is_some_and(|kind| kind == "array") {
                object.entry("maxItems").or_insert_with(|| json!(MAX_NESTED));
                // What the list is for is said at the list.
                if let Some(Value::Object(item)) = object.get_mut("items") {
                    item.shift_remove("description");
                }
            }
            object.values_mut().for_each(condense);
        }
        Value::Array(items) => items.iter_mut().for_each(condense),
        _ => {}
    }
}

/// The text up to the first full stop that ends a sentence, or up to the first line break. A
/// leading "Required." is left out: the schema says so already.
fn first_sentence(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("Required. ").unwrap_or(line);
    let end = line.match_indices(". ").map(|(at, _)| at + 1).find(|&at| {
        !["e.g.", "i.e.", "etc."].iter().any(|abbreviation| line[..at].ends_with(abbreviation))
    });
    line[..end.unwrap_or(line.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::first_sentence;

    #[test]
    fn a_description_ends_with_its_first_sentence() {
        assert_eq!(first_sentence("One thing. Another."), "One thing.");
        assert_eq!(first_sentence("Things, e.g. this. More."), "Things, e.g. this.");
        assert_eq!(first_sentence("First line\n\nmore"), "First line");
        assert_eq!(first_sentence("Required. A list. More."), "A list.");
        assert_eq!(first_sentence(""), "");
    }
}
