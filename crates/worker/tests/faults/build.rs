//! The worker with faults, built as the images are: no other test needs it, so that cargo does
//! not build it for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The program. The first caller builds it, the others wait.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build)
}

/// The whole workspace and one program of it, because a package alone would be built with other
/// features of its dependencies, and those once more.
fn build() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--workspace", "--features", "lamplighter-worker/faults"])
        .args(["--bin", "lamplighter-worker-faults", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "cargo build ends with {}", built.status);
    let messages = String::from_utf8(built.stdout).unwrap();
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    let programs: Vec<PathBuf> = programs.collect();
    let [program] = programs.as_slice() else {
        panic!("one program is built: {programs:?}");
    };
    program.clone()
}
