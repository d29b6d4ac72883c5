//! The rules that a manifest's type cannot hold, each with a manifest that breaks only that one.

use lamplighter_protocol::{Manifest, ManifestError, ModelKey};
use serde_json::{Value, json};

fn model(name: &str, version: &str, default: bool) -> Value {
    json!({
        "name": name,
        "version": version,
        "task": "Embedding",
        "default": default,
        "source": {"uri": "image:///models/tiny"},
    })
}

fn manifest(models: &[Value]) -> Value {
    json!({
        "format": 1,
        "deployment": "default/search",
        "revision": "0a1b2c3d4e",
        "device": "Cpu",
        "models": models,
    })
}

fn with(mut manifest: Value, field: &str, value: Value) -> Value {
    manifest[field] = value;
    manifest
}

fn read(manifest: &Value) -> Result<Manifest, ManifestError> {
    Manifest::from_json(&manifest.to_string())
}

#[test]
fn manifests_that_keep_every_rule_are_read() {
    for models in [
        vec![model("a", "1", false)],
        vec![model("a", "1", true)],
        vec![model("a", "1", false), model("b", "1", false)],
        vec![model("a", "1", false), model("a", "2", true)],
        vec![model("a", "1", true), model("a", "2", false), model("b", "1", true)],
    ] {
        let manifest = manifest(&models);
        read(&manifest).unwrap_or_else(|error| panic!("{manifest}: {error}"));
    }
}

#[test]
fn each_broken_rule_is_named_with_what_breaks_it() {
    let one = || manifest(&[model("a", "1", false)]);
    let table = [
        ("no model", manifest(&[]), "names no model"),
        ("an old format", with(one(), "format", json!(0)), "format 0, this worker reads 1"),
        ("a later format", with(one(), "format", json!(2)), "format 2, this worker reads 1"),
        (
            "a key twice",
            manifest(&[model("a", "1", true), model("a", "1", false)]),
            "a:1 is listed twice",
        ),
        ("an empty name", manifest(&[model("", "1", false)]), r#""" with version "1""#),
        ("an empty version", manifest(&[model("a", "", false)]), r#""a" with version """#),
        ("a colon in a name", manifest(&[model("a:b", "1", false)]), r#""a:b" with version "1""#),
        (
            "a colon in a version",
            manifest(&[model("a", "1:2", false)]),
            r#""a" with version "1:2""#,
        ),
        (
            "two versions without a default",
            manifest(&[model("a", "1", false), model("a", "2", false)]),
            "a has 2 versions and 0 of them",
        ),
        (
            "two defaults of one name",
            manifest(&[model("a", "1", true), model("a", "2", true)]),
            "a has 2 versions and 2 of them",
        ),
        ("an unknown device", with(one(), "device", json!("Tpu")), "Tpu"),
        ("an unknown field", with(one(), "colour", json!("blue")), "colour"),
        ("a missing field", json!({"format": 1, "models": []}), "missing field"),
    ];
    for (rule, manifest, expected) in table {
        let error = read(&manifest).expect_err(rule).to_string();
        assert!(error.contains(expected), "{rule}: {error}");
    }
}

#[test]
fn text_that_is_no_json_is_malformed() {
    for text in ["", "models: []", "[]", "{\"format\":1", "\u{0}"] {
        let error = Manifest::from_json(text).unwrap_err();
        assert!(matches!(error, ManifestError::Malformed(_)), "{text:?}: {error}");
    }
}

#[test]
fn a_key_is_a_name_and_a_version_around_one_colon() {
    let key = ModelKey::try_from("embedder:2.1.0".to_owned()).unwrap();
    assert_eq!((key.name.as_str(), key.version.as_str()), ("embedder", "2.1.0"));
    assert_eq!(key.to_string(), "embedder:2.1.0");
    for text in ["", ":", "embedder", "embedder:", ":2.1.0"] {
        let error = ModelKey::try_from(text.to_owned()).unwrap_err();
        assert!(error.contains("name:version"), "{text:?}: {error}");
    }
}
