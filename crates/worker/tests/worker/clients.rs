//! The real worker, asked by the clients that people use.

use std::process::Stdio;

use axum::http::StatusCode;
use serde_json::json;
use tokio::process::Command;

use crate::life::record_golden;
use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::Process;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/test_clients.py");
/// Importing the clients takes most of it.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(3);

#[tokio::test]
#[ignore = "needs the clients: cargo xtask test --only clients sets LAMPLIGHTER_CLIENTS_PYTHON"]
async fn the_clients_of_openai_hugging_face_triton_and_cohere_work() {
    let python = std::env::var("LAMPLIGHTER_CLIENTS_PYTHON").expect("LAMPLIGHTER_CLIENTS_PYTHON");
    let place = Place::new(&Tiny::new());
    record_golden(&place, &["--text", "the lamp"]).await;
    let mut second = place.entry("embedder");
    second["version"] = json!("2");
    second["default"] = json!(true);
    place.write_manifest(&[place.entry("embedder"), second]);
    std::fs::write(place.path().join("keys"), "wick\n").unwrap();
    let keys = place.path().join("keys").display().to_string();
    let worker = Process::start(place.path(), &["--api-keys-file", &keys]).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    let output = Command::new(python)
        .arg(SCRIPT)
        .env("LAMPLIGHTER_SERVING", worker.serving.to_string())
        .env("LAMPLIGHTER_KEY", "wick")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the clients end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    let checks = said.lines().find_map(|line| {
        line.strip_prefix("clients: ")?.strip_suffix(" checks passed")?.parse::<u32>().ok()
    });
    assert!(checks.is_some_and(|checks| checks >= 25), "{said}");
}
