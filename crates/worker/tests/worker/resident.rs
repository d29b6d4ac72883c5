//! What the real binary has in memory while it serves a real model.

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

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

/// Bytes of a model's weights while it is served in 32-bit floats, and in bf16: there the matrices of
/// the layers take two bytes a number, and tables and vectors four as ever.
fn weights(artifact: &Path) -> (u64, u64) {
    let file = fs::read(artifact.join("model.safetensors")).unwrap();
    let (length, rest) = file.split_first_chunk().unwrap();
    let header = &rest[..usize::try_from(u64::from_le_bytes(*length)).unwrap()];
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let (mut floats, mut pairs) = (0, 0);
    for (name, tensor) in header {
        // An embedding model has no use for the pooler, and indices are no weights.
        if name.starts_with("pooler.") || tensor["dtype"] != "F32" {
            continue;
        }
        let shape: Vec<u64> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let numbers: u64 = shape.iter().product();
        let is_of_layer = shape.len() == 2 && name.starts_with("encoder.layer.");
        floats += 4 * numbers;
        pairs += if is_of_layer { 2 } else { 4 } * numbers;
    }
    (floats, pairs)
}

/// What the worker has in memory after requests of all lengths, of which each is `step` words longer
/// than the one before, in a precision; and what it says that it computes in.
async fn serving_takes(artifact: &Path, precision: &str, step: usize) -> (u64, Value) {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["source"] = json!({"uri": format!("image://{}", artifact.display())});
    entry["validation"] = json!({"mode": "Disabled"});
    place.write_manifest(&[entry]);
    let more = ["--precision", precision];
    let mut command = process::serving(Path::new(BINARY), place.path(), &more);
    command.envs(ALLOCATOR);
    let worker = Process::start_as(command).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    for words in (1..250).step_by(step) {
        let answer = Http::one().embed(worker.serving, &"lamp ".repeat(words)).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    let status = Http::one().get(worker.admin, "/status").await.unwrap().json();
    (resident(&worker), status["models"][0]["runtime"].clone())
}

#[tokio::test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
async fn a_real_model_takes_its_weights_and_at_most_sixty_megabytes_more() {
    let artifact = PathBuf::from(std::env::var("LAMPLIGHTER_MINILM").unwrap());
    let (floats, pairs) = weights(&artifact);
    // bf16 in software, where the processor has no instructions for it, is slow.
    for (precision, weights, step) in [("f32", floats, 10), ("bf16", pairs, 60)] {
        let (resident, runtime) = serving_takes(&artifact, precision, step).await;
        println!("{precision}: {} MB, of which weights {} MB", resident >> 20, weights >> 20);
        assert_eq!(runtime["precision"], precision, "{runtime}");
        assert!(
            resident > weights && resident <= weights + MORE,
            "{precision} {resident} {weights}"
        );
    }
}
