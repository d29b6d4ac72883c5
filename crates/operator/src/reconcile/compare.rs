//! Would applying an object change anything?
//!
//! A server-side apply that changes nothing is answered without a write, but it is a request, and
//! one for each child at each event adds up; and an apply that *does* change something for no
//! reason wakes us up again, for ever. Full equality is no test: the apiserver adds defaults,
//! other controllers add fields. So, as in
//! <https://github.com/restatedev/restate-operator/blob/main/src/controllers/ssa.rs>:
//!
//! 1. every field that we would send is there with that value, and
//! 2. every field that we own is still one that we would send. Without this, a field that left
//!    the rendered object, such as an annotation, would stay in the cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

/// Whether applying `rendered` as `manager` would leave `live` as it is. `entries` are the
/// managed fields of the live object.
pub fn is_applied(
    rendered: &Value,
    live: &Value,
    entries: &[ManagedFieldsEntry],
    manager: &str,
) -> bool {
    let ours = entries.iter().find(|entry| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.is_none()
    });
    let Some(fields) = ours.and_then(|entry| entry.fields_v1.as_ref()) else { return false };
    is_there(rendered, live, &fields.0) && owns_only(&fields.0, rendered)
}

/// Every field of `part` is in `whole`, with the same value. `owned` is our `fieldsV1` tree.
fn is_there(part: &Value, whole: &Value, owned: &Value) -> bool {
    match (part, whole) {
        // The apiserver leaves out what is false.
        (Value::Object(part), Value::Object(whole)) => part.iter().all(|(key, value)| {
            let owned = owned.get(format!("f:{key}")).unwrap_or(&Value::Null);
            whole
                .get(key)
                .map_or(*value == Value::Bool(false), |found| is_there(value, found, owned))
        }),
        // An apply keeps foreign items, such as a second owner or another port, so that they are
        // there is no reason to apply again.
        (Value::Array(part), Value::Array(whole)) if is_owned_by_item(owned) => {
            part.iter().all(|item| whole.iter().any(|found| is_part_of(item, found)))
        }
        // Other lists are owned as a whole.
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len()
                && part.iter().zip(whole).all(|(part, whole)| is_part_of(part, whole))
        }
        _ => part == whole,
    }
}

fn is_part_of(part: &Value, whole: &Value) -> bool {
    is_there(part, whole, &Value::Null)
}

/// The list is one of those whose items have owners of their own, by their keys or values.
fn is_owned_by_item(owned: &Value) -> bool {
    owned.as_object().is_some_and(|fields| {
        fields.keys().any(|path| path.starts_with("k:") || path.starts_with("v:"))
    })
}

/// Every field of a `fieldsV1` tree is in `rendered`. The format is described at
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/>: `f:` a
/// field, `k:` an item of a list by its keys, `v:` an item by its value, `.` the thing itself.
fn owns_only(fields: &Value, rendered: &Value) -> bool {
    let Some(fields) = fields.as_object() else { return true };
    fields.iter().all(|(path, below)| match path.split_at_checked(2) {
        Some(("f:", name)) => rendered.get(name).is_some_and(|found| owns_only(below, found)),
        Some(("k:", keys)) => item(rendered, keys).is_some_and(|found| owns_only(below, found)),
        Some(("v:", value)) => serde_json::from_str::<Value>(value)
            .is_ok_and(|value| rendered.as_array().is_some_and(|items| items.contains(&value))),
        Some(_) | None => true,
    })
}

/// The item of a list that has these keys.
fn item<'a>(list: &'a Value, keys: &str) -> Option<&'a Value> {
    let keys: Value = serde_json::from_str(keys).ok()?;
    list.as_array()?.iter().find(|item| is_part_of(&keys, item))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    const MANAGER: &str = "us";

    fn managers(fields: Value) -> Vec<ManagedFieldsEntry> {
        let entry = |manager: &str, operation: &str, fields| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        };
        vec![
            entry("kubectl", "Apply", json!({"f:metadata": {"f:annotations": {"f:theirs": {}}}})),
            entry(MANAGER, "Apply", fields),
        ]
    }

    /// A Service as we render it.
    fn rendered() -> Value {
        json!({
            "metadata": {
                "labels": {"app": "a"},
                "ownerReferences": [{"uid": "u", "controller": true}],
            },
            "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": "serving"}]},
        })
    }

    /// The same as the apiserver keeps it, with defaults and a foreign annotation.
    fn live() -> Value {
        json!({
            "metadata": {
                "labels": {"app": "a"},
                "annotations": {"theirs": "1"},
                "ownerReferences": [{"uid": "u", "controller": true}],
                "resourceVersion": "9",
            },
            "spec": {
                "clusterIP": "10.96.0.7",
                "ports": [
                    {"port": 80, "protocol": "TCP", "targetPort": "serving", "nodePort": 30001},
                ],
            },
        })
    }

    fn owned() -> Value {
        json!({
            "f:metadata": {
                "f:labels": {"f:app": {}},
                "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}},
            },
            "f:spec": {
                "f:ports": {
                    "k:{\"port\":80,\"protocol\":\"TCP\"}":
                        {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}},
                },
            },
        })
    }

    fn unchanged(rendered: &Value, live: &Value, owned: Value) -> bool {
        is_applied(rendered, live, &managers(owned), MANAGER)
    }

    #[test]
    fn defaults_and_foreign_fields_are_no_difference() {
        assert!(unchanged(&rendered(), &live(), owned()));
    }

    #[test]
    fn what_is_false_may_be_left_out_and_must_not_be_true() {
        let mut rendered = rendered();
        rendered["spec"]["publishNotReadyAddresses"] = json!(false);
        let mut owned = owned();
        owned["f:spec"]["f:publishNotReadyAddresses"] = json!({});
        assert!(unchanged(&rendered, &live(), owned.clone()));
        let mut edited = live();
        edited["spec"]["publishNotReadyAddresses"] = json!(true);
        assert!(!unchanged(&rendered, &edited, owned));
    }

    #[test]
    fn a_changed_value_is_a_difference() {
        let mut edited = live();
        edited["spec"]["ports"][0]["targetPort"] = json!("admin");
        assert!(!unchanged(&rendered(), &edited, owned()));
    }

    #[test]
    fn a_missing_field_is_a_difference() {
        let mut edited = live();
        edited["metadata"]["labels"] = json!({});
        assert!(!unchanged(&rendered(), &edited, owned()));
    }

    #[test]
    fn a_foreign_item_beside_ours_is_no_difference() {
        let mut edited = live();
        edited["spec"]["ports"].as_array_mut().unwrap().insert(0, json!({"port": 81}));
        let owners = edited["metadata"]["ownerReferences"].as_array_mut().unwrap();
        owners.insert(0, json!({"uid": "theirs"}));
        assert!(unchanged(&rendered(), &edited, owned()));
        edited["spec"]["ports"][1]["targetPort"] = json!("admin");
        assert!(!unchanged(&rendered(), &edited, owned()));
    }

    #[test]
    fn a_foreign_item_in_a_list_that_is_owned_as_a_whole_is_a_difference() {
        let rendered = json!({"spec": {"ranges": ["a"]}});
        let owned = json!({"f:spec": {"f:ranges": {}}});
        assert!(unchanged(&rendered, &rendered, owned.clone()));
        let edited = json!({"spec": {"ranges": ["a", "b"]}});
        assert!(!unchanged(&rendered, &edited, owned));
    }

    #[test]
    fn a_field_that_we_own_and_no_longer_render_is_a_difference() {
        let mut before = owned();
        before["f:metadata"]["f:annotations"] = json!({"f:ours": {}});
        assert!(!unchanged(&rendered(), &live(), before));
        let mut other_port = owned();
        other_port["f:spec"]["f:ports"] = json!({"k:{\"port\":443,\"protocol\":\"TCP\"}": {}});
        assert!(!unchanged(&rendered(), &live(), other_port));
    }

    #[test]
    fn an_object_that_we_never_applied_is_a_difference() {
        assert!(!is_applied(&rendered(), &live(), &[], MANAGER));
        assert!(!is_applied(&rendered(), &live(), &managers(owned()), "another"));
    }

    #[test]
    fn an_item_owned_by_its_value_must_be_rendered() {
        let rendered = json!({"finalizers": ["a"]});
        assert!(owns_only(&json!({"f:finalizers": {"v:\"a\"": {}}}), &rendered));
        assert!(!owns_only(&json!({"f:finalizers": {"v:\"b\"": {}}}), &rendered));
    }
}
