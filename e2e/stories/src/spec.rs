//! The deployments that stories apply: JSON, which kubectl takes as YAML, with the fields that
//! a story changes by name.

use serde_json::{Value, json};

use crate::fixtures::{BUCKET, Variant};

/// Name of the Secret with the store's keys in each story's namespace.
pub const STORE_SECRET: &str = "model-store";
/// Name of the model in [`tiny`].
pub const MODEL: &str = "tiny";

/// A deployment of a variant of the tiny model: one pod that asks for next to nothing, and
/// deadlines of seconds.
pub fn tiny(name: &str, variant: Variant) -> Value {
    json!({
        "apiVersion": "lamplighter.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "models": [{
                "name": MODEL,
                "version": "1.0.0",
                "task": "Embedding",
                "source": {"uri": uri(variant), "secretRef": {"name": STORE_SECRET}},
            }],
            "service": {"type": "NodePort"},
            "worker": {"device": "Cpu", "resources": {
                "requests": {"cpu": "10m", "memory": "48Mi"},
                "limits": {"memory": "256Mi"},
            }},
            "rollout": {
                "progressDeadlineSeconds": 60,
                "drainSeconds": 5,
                "propagationDelaySeconds": 1,
                "rollbackWindowSeconds": 5,
            },
        },
    })
}

/// The address of a variant in the store.
pub fn uri(variant: Variant) -> String {
    format!("s3://{BUCKET}/{}", variant.prefix())
}

/// A deployment with another value at a path such as `/spec/replicas`.
pub trait With {
    /// Sets what is at a JSON pointer; the last part may be new.
    #[must_use]
    fn with(self, pointer: &str, value: Value) -> Self;
}

impl With for Value {
    fn with(mut self, pointer: &str, value: Value) -> Self {
        if let Some(place) = self.pointer_mut(pointer) {
            *place = value;
        } else if let Some((parent, last)) = pointer.rsplit_once('/')
            && let Some(Value::Object(parent)) = self.pointer_mut(parent)
        {
            parent.insert(last.to_owned(), value);
        } else {
            unreachable!("{pointer} is not in {self}");
        }
        self
    }
}
