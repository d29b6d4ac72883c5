//! What the real binary has in memory while it serves a real model.

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use serde_json::json;

use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::{self, BINARY, Process};

/// As the worker's images set it (`WORKER_ALLOCATOR` of xtask): large blocks go back to the system.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "262144")];
/// Of the process's code, its tokenizer, threads and buffers.
const MORE: u64 = 60 << 20;

fn resident(worker: &Process) -> u64 {
    let status = format!("/proc/{}/status", worker.id().as_raw_nonzero());
    let status = fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
async fn a_real_model_takes_its_weights_and_at_most_sixty_megabytes_more() {
    let artifact = PathBuf::from(std::env::var("LAMPLIGHTER_MINILM").unwrap());
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["source"] = json!({"uri": format!("image://{}", artifact.display())});
    entry["validation"] = json!({"mode": "Disabled"});
    place.write_manifest(&[entry]);
    // In 32-bit floats, as they are stored.
    let more = ["--precision", "f32"];
    let mut command = process::serving(Path::new(BINARY), place.path(), &more);
    command.envs(ALLOCATOR);
    let worker = Process::start_as(command).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    for words in (1..250).step_by(10) {
        let answer = Http::one().embed(worker.serving, &"lamp ".repeat(words)).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    let weights = fs::metadata(artifact.join("model.safetensors")).unwrap().len();
    let resident = resident(&worker);
    println!("{} MB, of which weights {} MB", resident >> 20, weights >> 20);
    assert!(resident > weights && resident <= weights + MORE, "{resident}, weights {weights}");
}
