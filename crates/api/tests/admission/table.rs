//! The table of cases. Its format is described at the top of `cases.yaml`.

use serde::Deserialize;
use serde_json::Value;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The object that patches change; accepted as it is.
    pub(crate) base: Value,
    /// The cases.
    pub(crate) cases: Vec<Case>,
}

/// One object, or one change of an object, and what the apiserver says to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// A sentence.
    pub(crate) name: String,
    /// A merge patch over the base.
    #[serde(default)]
    patch: Value,
    /// For an update: a merge patch over the base that gives the stored object.
    old: Option<Value>,
    /// What the apiserver says.
    pub(crate) expect: Expectation,
}

/// What the apiserver says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Expectation {
    /// It takes the object.
    Accepted,
    /// It refuses the object.
    Refused {
        /// What refuses it.
        layer: Layer,
        /// A part of the message.
        message: String,
    },
}

/// What refuses an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Layer {
    /// Strict decoding or the structural schema.
    Schema,
    /// A CEL rule.
    Rule,
}

impl Table {
    pub(crate) fn load() -> Self {
        serde_saphyr::from_str(include_str!("cases.yaml")).expect("the table is well formed")
    }
}

impl Case {
    pub(crate) fn object(&self, base: &Value) -> Value {
        merged(base, &self.patch)
    }

    pub(crate) fn old(&self, base: &Value) -> Option<Value> {
        self.old.as_ref().map(|old| merged(base, old))
    }
}

/// A JSON merge patch (RFC 7386) applied to a document; an absent patch changes nothing.
fn merged(base: &Value, patch: &Value) -> Value {
    let mut object = base.clone();
    if !patch.is_null() {
        merge(&mut object, patch);
    }
    object
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}
