//! The real binary, whose models come and go while it serves: the gates, the memory, the requests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use lamplighter_protocol::{Phase, Report};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::artifact::tiny::{HIDDEN, Tensor};
use crate::support::artifact::{Place, Tiny};
use crate::support::client::{Answer, Http};
use crate::support::process::{self, BINARY, Process};

const TOKEN: &str = "wick-and-oil";
/// As the worker's images set it (`WORKER_ALLOCATOR` of xtask): large blocks go back to the system.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "262144")];
const MEBIBYTE: u64 = 1 << 20;
/// Rows of the large model's embedding table, 45 MiB of floats.
const ROWS: usize = 1_474_560;
const LARGE: u64 = (ROWS * HIDDEN * 4) as u64;

/// A model with as many words as a real one, and a table of some size.
fn large() -> Tiny {
    Tiny::new().with(|tiny| {
        tiny.config["vocab_size"] = json!(ROWS);
        let words = tiny.tokenizer["model"]["vocab"].as_object_mut().unwrap();
        for id in words.len()..30_000 {
            words.insert(format!("word{id}"), json!(id));
        }
        let values =
            (0..ROWS * HIDDEN).map(|at| f32::from(u16::try_from(at % 997).unwrap()) / 997.0);
        let table = Tensor::floats(&[ROWS, HIDDEN], values);
        *tiny.tensor("embeddings.word_embeddings.weight") = table;
    })
}

/// A worker that serves `embedder:1` from `small`, and may load others.
struct Running {
    process: Process,
    http: Http,
    small: Place,
}

impl Running {
    async fn start() -> Self {
        let small = Place::new(&Tiny::new());
        small.write_manifest(&[checked(small.entry("embedder"))]);
        let token = small.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        let flags = ["--drain-delay-seconds", "0", "--admin-token-file", token.to_str().unwrap()];
        let mut command = process::serving(BINARY.as_ref(), small.path(), &flags);
        command.envs(ALLOCATOR);
        let process = Process::start_as(command).await;
        let http = Http::one();
        http.ready_is(process.admin, StatusCode::OK).await;
        Self { process, http, small }
    }

    async fn command(&self, path: &str, body: &Value) -> Answer {
        let path = format!("/v2/repository/models/{path}");
        self.http.post(self.process.admin, &path, Some(TOKEN), &body.to_string()).await.unwrap()
    }

    async fn load(&self, version: &str, artifact: &Path) -> Answer {
        self.load_entry(checked(entry(version, artifact))).await
    }

    async fn load_entry(&self, entry: Value) -> Answer {
        self.command("embedder/load", &json!({"parameters": {"config": entry.to_string()}})).await
    }

    async fn is_done(&self, path: &str) {
        let answer = self.command(path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }

    async fn vector(&self, model: &str) -> Vec<f32> {
        let answer = self.http.embed_with(self.process.serving, model, "the lamp").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        serde_json::from_value(answer.json()["data"][0]["embedding"].clone()).unwrap()
    }

    async fn report(&self) -> Report {
        self.http.status_when(self.process.admin, |_| true).await
    }

    async fn used(&self) -> u64 {
        self.report().await.memory.unwrap().used_bytes
    }

    async fn ends_well(self) {
        self.process.terminate();
        let ended = self.process.ended().await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
}

fn entry(version: &str, artifact: &Path) -> Value {
    json!({
        "version": version, "task": "Embedding",
        "source": {"uri": format!("image://{}", artifact.display())},
    })
}

fn checked(mut entry: Value) -> Value {
    entry["validation"] = json!({"cases": [{"name": "same", "check": {"similarity": {
        "texts": ["the lamp", "the lamp"], "atLeast": "0.999",
    }}}]});
    entry
}

#[tokio::test]
async fn a_version_that_comes_later_passes_every_gate_or_does_not_come() {
    let running = Running::start().await;
    let other = Place::new(&large());
    let mut pinned = checked(entry("2", &other.artifact()));
    pinned["expectedDigest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let mut opposite = checked(entry("2", &other.artifact()));
    opposite["validation"]["cases"][0]["check"]["similarity"] =
        json!({"texts": ["the lamp", "the lamp"], "atMost": "-0.5"});
    for (refused, reason) in [
        (pinned, "DigestMismatch"),
        (opposite, "ValidationFailed"),
        (entry("2", &other.artifact()), "NoValidationCases"),
        (entry("2", &other.path().join("nowhere")), "ArtifactNotFound"),
        (
            json!({"version": "2", "task": "Embedding", "source": {"uri": "ftp://a"}}),
            "ManifestInvalid",
        ),
    ] {
        let failed = running.load_entry(refused).await;
        assert_eq!(failed.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", failed.text);
        assert_eq!(failed.json()["failure"]["reason"], reason, "{}", failed.text);
    }
    let small = running.vector("embedder").await;
    let loaded = running.load("2", &other.artifact()).await;
    assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
    let report = running.report().await;
    let phases: Vec<Phase> = report.models[1].phases.iter().map(|timing| timing.phase).collect();
    assert_eq!(phases, Phase::ALL);
    assert!(report.models[1].validation.as_ref().unwrap().cases[0].passed);

    let large = running.vector("embedder:2").await;
    assert_ne!(large, small);
    assert_eq!(running.vector("embedder").await, small, "nobody said that the name means another");
    running.is_done("embedder:2/default").await;
    assert_eq!(running.vector("embedder").await, large);
    assert_eq!(running.vector("embedder:1").await, small, "two at once");
    running.is_done("embedder:1/unload").await;
    assert_eq!(running.vector("embedder").await, large);
    running.ends_well().await;
}

/// Five times the same, because what is left behind once is left behind each time.
#[tokio::test]
async fn an_unload_gives_the_memory_back_each_time() {
    let running = Running::start().await;
    let other = Place::new(&large());
    running.vector("embedder").await;
    let before = running.used().await;
    let mut after = Vec::new();
    for _ in 0..5 {
        let loaded = running.load("2", &other.artifact()).await;
        assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
        for _ in 0..10 {
            running.vector("embedder:2").await;
        }
        let with = running.used().await;
        assert!(with >= before + LARGE, "{with} {before}");
        running.is_done("embedder:2/unload").await;
        after.push(running.used().await);
    }
    let mebibytes: Vec<u64> = after.iter().map(|bytes| bytes / MEBIBYTE).collect();
    println!("{} MiB before, {mebibytes:?} MiB after each unload", before / MEBIBYTE);
    // The allocator keeps room for the small blocks of a tokenizer, in each of its two arenas once.
    assert!(after.iter().all(|bytes| *bytes <= before + 12 * MEBIBYTE), "{before} {after:?}");
    assert!(after[4] <= after[0] + 6 * MEBIBYTE, "{after:?}");
    running.ends_well().await;
}

/// One answer: when it came, how long it took, which model gave it.
struct Timed {
    at: Instant,
    took: Duration,
    model: String,
}

/// Asks without a pause; each answer must be right for the model that it says it is of.
async fn ask(
    serving: std::net::SocketAddr,
    right: Arc<BTreeMap<String, Vec<f32>>>,
    over: Arc<AtomicBool>,
) -> Vec<Timed> {
    let http = Http::one();
    let mut answers = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = http.embed(serving, "the lamp").await.expect("every request is answered");
        let took = begun.elapsed();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let json = answer.json();
        let model = json["model"].as_str().unwrap().to_owned();
        let vector: Vec<f32> =
            serde_json::from_value(json["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(vector, right[&model], "{model}");
        answers.push(Timed { at: Instant::now(), took, model });
    }
    answers
}

/// How many times what answers take without one they may take while a version loads. At rest it is twice
/// at most (`cargo xtask bench reload`); here, clients and other tests share the cores.
const LONGER: u32 = 4;
/// What answers may take in any case: a slice of the scheduler or two.
const SHORT: Duration = Duration::from_millis(10);

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_replace_each_other_under_load_and_no_request_is_lost() {
    let running = Running::start().await;
    let other = Place::new(&large());
    let small = running.small.artifact();
    running.load("2", &other.artifact()).await;
    let mut right = BTreeMap::new();
    for key in ["embedder:1", "embedder:2"] {
        right.insert(key.to_owned(), running.vector(key).await);
    }
    running.is_done("embedder:2/unload").await;
    let (right, over) = (Arc::new(right), Arc::new(AtomicBool::new(false)));
    let clients: Vec<JoinHandle<Vec<Timed>>> = (0..4)
        .map(|_| tokio::spawn(ask(running.process.serving, Arc::clone(&right), Arc::clone(&over))))
        .collect();
    // Without loads, to compare with.
    let calm = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut loads = Vec::new();
    for _ in 0..3 {
        for (comes, goes, artifact) in [("2", "1", &other.artifact()), ("1", "2", &small)] {
            let begun = Instant::now();
            let loaded = running.load(comes, artifact).await;
            assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
            loads.push((begun, Instant::now()));
            running.is_done(&format!("embedder:{comes}/default")).await;
            running.is_done(&format!("embedder:{goes}/unload")).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.await.expect("no request was lost"));
    }

    let between = |from: Instant, to: Instant| {
        let within = move |timed: &&Timed| timed.at >= from && timed.at <= to;
        answers.iter().filter(within).map(|timed| timed.took).collect::<Vec<_>>()
    };
    let mut without = between(calm, loads[0].0);
    let without_count = without.len();
    let without = percentile(&mut without, 99);
    let mut during = Vec::new();
    for (from, to) in &loads {
        let mut of_load = between(*from, *to);
        assert!(!of_load.is_empty(), "requests are answered while a version loads");
        during.push((percentile(&mut of_load, 99), of_load.len()));
    }
    println!("p99 without loads {without:?} of {without_count}, during each load {during:?}");
    // Of the large model's loads the best one: what a neighbour does to the machine falls on one and not
    // on all, and what a load does to requests falls on each.
    let best = during.iter().step_by(2).map(|(p99, _)| *p99).min().unwrap_or_default();
    assert!(best < LONGER * without.max(SHORT), "{best:?} while a version loads, else {without:?}");
    for key in right.keys() {
        assert!(answers.iter().any(|timed| timed.model == *key), "{key} answered");
    }
    running.ends_well().await;
}
