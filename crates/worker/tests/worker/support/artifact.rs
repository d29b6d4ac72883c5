//! A small artifact on disk, its manifest, and damage to it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

#[expect(dead_code, reason = "the engine's tests use more of it")]
#[path = "../../../../engine/tests/support/mod.rs"]
pub(crate) mod tiny;

pub(crate) use tiny::{Tiny, WEIGHTS};

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(path, to.join(name)).unwrap();
        }
    }
}

/// A folder with an artifact in `model/` and room for a worker's files.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(tiny: &Tiny) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.artifact()).unwrap();
        tiny.write(&place.artifact());
        place
    }

    /// With one of the tiny models of the engine's tests.
    pub(crate) fn of_family(name: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/families");
        copy(&families.join(name), &place.artifact());
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn artifact(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    pub(crate) fn termination_log(&self) -> PathBuf {
        self.dir.path().join("termination-log")
    }

    /// The artifact as one model of a manifest.
    pub(crate) fn entry(&self, name: &str) -> Value {
        json!({
            "name": name,
            "version": "1",
            "task": "Embedding",
            "source": {"uri": format!("image://{}", self.artifact().display())},
        })
    }

    pub(crate) fn write_manifest(&self, models: &[Value]) {
        self.write_manifest_for("Cpu", models);
    }

    pub(crate) fn write_manifest_for(&self, device: &str, models: &[Value]) {
        let manifest = json!({
            "format": 1,
            "deployment": "default/search",
            "revision": "7c9f0e5b21",
            "device": device,
            "models": models,
        });
        fs::write(self.dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    }
}
