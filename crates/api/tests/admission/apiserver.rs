//! The admission of one object, in the order of the apiserver: unknown fields, defaults,
//! structure, rules.

use lamplighter_api::crd;
use serde_json::Value;

use crate::rules;
use crate::structure;
use crate::table::Layer;

/// The definition's schema, ready to admit objects.
pub(crate) struct Apiserver {
    schema: Value,
}

/// Why an object is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What refuses it.
    pub(crate) layer: Layer,
    /// The message, in the words of the apiserver.
    pub(crate) message: String,
}

impl Apiserver {
    pub(crate) fn new() -> Self {
        let definition = crd::crd().expect("the definition is valid");
        let definition = serde_json::to_value(definition).expect("it is JSON");
        let schema = definition
            .pointer("/spec/versions/0/schema/openAPIV3Schema")
            .expect("the version has a schema")
            .clone();
        Self { schema }
    }

    /// The refusals of an object; empty when it is accepted.
    pub(crate) fn admit(&self, object: &Value) -> Vec<Refusal> {
        let stored = self.stored(object);
        let spoken = |layer| move |message| Refusal { layer, message };
        structure::unknown_fields(&self.schema, object)
            .into_iter()
            .chain(structure::violations(&self.schema, &stored))
            .map(spoken(Layer::Schema))
            .chain(rules::violations(&self.schema, &stored).into_iter().map(spoken(Layer::Rule)))
            .collect()
    }

    /// The object as it would be stored: with defaults and without nulls.
    pub(crate) fn stored(&self, object: &Value) -> Value {
        let mut stored = object.clone();
        structure::set_defaults(&self.schema, &mut stored);
        stored
    }

    /// The messages of all rules of the definition.
    pub(crate) fn rule_messages(&self) -> Vec<String> {
        rules::messages(&self.schema)
    }
}
