//! Rendered Kubernetes objects: read from files, made comparable, compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What only Helm adds and nothing selects.
const HELM_LABELS: [&str; 2] = ["app.kubernetes.io/version", "app.kubernetes.io/managed-by"];
/// What tells Helm to leave an object behind.
const KEEP: &str = "helm.sh/resource-policy";
/// What makes an object a hook, such as a test.
const HOOK: &str = "helm.sh/hook";

/// Objects by what identifies them in a cluster.
#[derive(Debug)]
pub(super) struct Objects {
    all: BTreeMap<String, Value>,
}

impl Objects {
    /// Every document of every file of a folder and its folders.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut objects = Self { all: BTreeMap::new() };
        objects.read_folder(folder)?;
        ensure!(!objects.all.is_empty(), "nothing was rendered");
        Ok(objects)
    }

    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        for entry in
            folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                self.read_folder(&path)?;
                continue;
            }
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
                .with_context(|| format!("{} is not YAML", path.display()))?;
            for object in documents.into_iter().filter(|document| !document.is_null()) {
                self.add(object)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, object: Value) -> Result<()> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (Some(version), Some(kind), Some(name)) =
            (text("/apiVersion"), text("/kind"), text("/metadata/name"))
        else {
            anyhow::bail!("an object without apiVersion, kind or name was rendered: {object}");
        };
        let namespace = text("/metadata/namespace").unwrap_or_default();
        let id = format!("{version} {kind} {namespace}/{name}");
        ensure!(self.all.insert(id.clone(), object).is_none(), "{id} was rendered twice");
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that are part of a release, not run beside it.
    pub(super) fn without_hooks(mut self) -> Self {
        self.all.retain(|_, object| object["metadata"]["annotations"].get(HOOK).is_none());
        self
    }

    pub(super) fn without(mut self, kind: &str) -> Self {
        self.all.retain(|_, object| object["kind"] != kind);
        self
    }

    /// What differs from others, one line each; empty when nothing does.
    pub(super) fn differences(&self, others: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, object) in &self.all {
            match others.all.get(id) {
                Some(other) => {
                    compare(id, &comparable(object), &comparable(other), &mut found);
                }
                None => found.push(format!("{id}: only in the first")),
            }
        }
        let missing = others.all.keys().filter(|id| !self.all.contains_key(*id));
        found.extend(missing.map(|id| format!("{id}: only in the second")));
        found
    }

    /// Whether every pod has what the Pod Security level `restricted` asks of it:
    /// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>.
    pub(super) fn check_restricted(&self) -> Result<()> {
        for (id, object) in &self.all {
            let pod = match object["kind"].as_str() {
                Some("Pod") => &object["spec"],
                Some("Deployment") => &object["spec"]["template"]["spec"],
                _ => continue,
            };
            let all = &pod["securityContext"];
            ensure!(all["runAsNonRoot"] == true, "{id}: may run as root");
            ensure!(
                all["seccompProfile"]["type"] == "RuntimeDefault",
                "{id}: has no seccomp profile"
            );
            let containers = pod["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
            ensure!(!containers.is_empty(), "{id}: has no container");
            for container in containers {
                let own = &container["securityContext"];
                ensure!(own["allowPrivilegeEscalation"] == false, "{id}: may escalate privileges");
                ensure!(own["readOnlyRootFilesystem"] == true, "{id}: may write its image");
                ensure!(
                    own["capabilities"]["drop"] == serde_json::json!(["ALL"]),
                    "{id}: keeps capabilities"
                );
            }
        }
        Ok(())
    }
}

/// An object without what only Helm adds.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    for pointer in ["/metadata", "/spec/template/metadata"] {
        let Some(Value::Object(metadata)) = object.pointer_mut(pointer) else { continue };
        for (map, keys) in [("labels", &HELM_LABELS[..]), ("annotations", &[KEEP])] {
            let Some(Value::Object(entries)) = metadata.get_mut(map) else { continue };
            entries.retain(|key, _| !keys.contains(&key.as_str()));
            if entries.is_empty() {
                metadata.remove(map);
            }
        }
    }
    object
}

fn compare(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                let path = format!("{path}.{key}");
                match other.get(key) {
                    Some(other) => compare(&path, value, other, found),
                    None => found.push(format!("{path}: {value} only in the first")),
                }
            }
            for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                found.push(format!("{path}.{key}: {value} only in the second"));
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}[{index}]"), one, other, found);
            }
        }
        _ if one == other => {}
        _ => found.push(format!("{path}: {one} and {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(yaml: &str) -> Objects {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("nested")).unwrap();
        fs::write(folder.path().join("nested/all.yaml"), yaml).unwrap();
        Objects::read(folder.path()).unwrap()
    }

    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: ns, labels: {tier: one, app.kubernetes.io/managed-by: Helm}}
spec: {ports: [{port: 80}]}
";

    #[test]
    fn what_only_helm_adds_is_no_difference() {
        let plain = SERVICE.replace(", app.kubernetes.io/managed-by: Helm", "");
        assert_eq!(objects(SERVICE).differences(&objects(&plain)), Vec::<String>::new());
    }

    #[test]
    fn a_difference_is_named_with_its_place_and_both_values() {
        let other = SERVICE.replace("port: 80", "port: 81");
        assert_eq!(
            objects(SERVICE).differences(&objects(&other)),
            ["v1 Service ns/a.spec.ports[0].port: 80 and 81"]
        );
        let other = SERVICE.replace("tier: one, ", "");
        assert_eq!(
            objects(SERVICE).differences(&objects(&other)),
            ["v1 Service ns/a.metadata.labels: {\"tier\":\"one\"} only in the first"]
        );
    }

    #[test]
    fn an_object_of_one_side_is_named() {
        let both =
            format!("{SERVICE}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: ns}}\n");
        assert_eq!(
            objects(SERVICE).differences(&objects(&both)),
            ["v1 Namespace /ns: only in the second"]
        );
        assert_eq!(
            objects(SERVICE).differences(&objects(&both).without("Namespace")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_pod_that_may_run_as_root_is_refused() {
        let pod =
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}";
        let error = objects(pod).check_restricted().unwrap_err().to_string();
        assert_eq!(error, "v1 Pod /p: may run as root");
    }
}
