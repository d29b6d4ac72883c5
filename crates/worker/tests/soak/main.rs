//! Under a load that never ends, the worker takes no more of the machine than it did at first.
//!
//! Some seconds with every test run, which show that the load is answered. How memory goes takes
//! longer to see: `cargo xtask soak` runs as long as it is told, judges it, and draws it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod load;
mod plot;
mod reload;
mod samples;
mod slope;
#[expect(dead_code, unused_imports, reason = "the worker's own tests use more of it")]
#[path = "../worker/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use load::{Counts, Pace, Target, client};
use samples::{Rest, Sample, Verdict};
use serde_json::json;
use support::artifact::{Place, Tiny};
use support::client::Http;
use support::process::{self, BINARY, Process};
use tokio::task::JoinHandle;

/// Below this, the process has not settled long enough to be judged.
const JUDGED: u64 = 60;
const CLIENTS: u64 = 4;
const BODY: usize = 256 << 10;
/// Pools let a thread go after it had nothing to do for ten seconds
/// (<https://docs.rs/tokio/latest/tokio/runtime/struct.Builder.html#method.thread_keep_alive>).
const RESTED: Duration = Duration::from_secs(12);
/// Until nothing changes for that long.
const TO_REST: Duration = Duration::from_mins(1);
/// What the worker's images set, so that freed tensors go back to the system.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "262144")];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The artifact that is served: a tiny one unless another is named.
fn place() -> (Place, PathBuf) {
    let place = Place::new(&Tiny::new());
    let artifact = std::env::var_os("LAMPLIGHTER_SOAK_ARTIFACT");
    let artifact = artifact.map_or_else(|| place.artifact(), PathBuf::from);
    place.write_manifest(&[entry(&artifact, "1", true)]);
    (place, artifact)
}

fn entry(artifact: &Path, version: &str, default: bool) -> serde_json::Value {
    json!({
        "name": "embedder",
        "version": version,
        "task": "Embedding",
        "default": default,
        "source": {"uri": format!("image://{}", artifact.display())},
        "validation": {"cases": [{"name": "near", "check": {"similarity": {
            "texts": ["the lamp", "the lamp light"], "atLeast": "0.1",
        }}}]},
    })
}

async fn start(place: &Place, more: &[&str]) -> Process {
    let body = BODY.to_string();
    let mut line = vec!["--drain-delay-seconds", "0", "--max-request-bytes", &body];
    line.extend(more);
    let mut command = process::serving(Path::new(BINARY), place.path(), &line);
    command.envs(ALLOCATOR);
    let worker = Process::start_as(command).await;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;
    worker
}

async fn target(worker: &Process) -> Target {
    let models = Http::one().get(worker.serving, "/v1/models").await.unwrap().json();
    let longest = models["data"][0]["max_model_len"].as_u64().unwrap();
    Target { serving: worker.serving, model: "embedder".to_owned(), longest, body: BODY }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_never_ends_takes_no_more_than_it_did_at_first() {
    let time = Duration::from_secs(setting("LAMPLIGHTER_SOAK_SECONDS", 5));
    let reloads = setting("LAMPLIGHTER_SOAK_RELOADS", 3);
    let (place, artifact) = place();
    let token = reload::token(&place);
    let worker = start(&place, &["--admin-token-file", token.to_str().unwrap()]).await;
    let target = target(&worker).await;
    // What is started for a first reload stays for the next ones.
    reload::once(worker.admin, &artifact, 1).await.unwrap();
    let is_judged = time.as_secs() >= JUDGED;
    let before = rest(&worker, is_judged).await;

    let every = Pace::new(setting("LAMPLIGHTER_SOAK_RATE", 0), CLIENTS);
    let is_reloading = Arc::new(AtomicBool::new(false));
    let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let (counts, stop) = (Arc::clone(&counts), Arc::clone(&stop));
            tokio::spawn(client(target.clone(), seed, every, counts, stop))
        })
        .collect();
    let flag = Arc::clone(&is_reloading);
    let reloads = tokio::spawn(reload::every(worker.admin, artifact, time, reloads, flag));
    let ended = || clients.iter().any(JoinHandle::is_finished);
    let samples = watch(&worker, time, &is_reloading, ended).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap().unwrap();
    }
    let reloads = reloads.await.unwrap().unwrap();
    let after = rest(&worker, is_judged).await;
    worker.terminate();
    assert_eq!(worker.ended().await.status.code(), Some(0), "no request was cut off");
    match Verdict::of(&samples, before, after) {
        Some(verdict) => tell(&samples, &verdict, &counts, reloads, is_judged),
        None => assert!(!is_judged, "nearly all the time models were reloaded: ask for fewer"),
    }
    for count in [&counts.answered, &counts.given_up, &counts.refused] {
        assert!(count.load(Ordering::Relaxed) > 0, "{counts:?}");
    }
}

/// What the process has once that has not changed for some time; at once, where it is not judged.
async fn rest(worker: &Process, is_judged: bool) -> Rest {
    let look = || Sample::take(pid(worker), 0.0).unwrap().rest();
    let (begun, mut seen, mut since) = (Instant::now(), look(), Instant::now());
    while is_judged && since.elapsed() < RESTED {
        assert!(begun.elapsed() < TO_REST, "the worker does not come to rest: {seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

fn pid(worker: &Process) -> i32 {
    worker.id().as_raw_nonzero().get()
}

/// A sample each second, or more where there are few; ends early when a client has given up.
async fn watch(
    worker: &Process,
    time: Duration,
    is_reloading: &AtomicBool,
    ended: impl Fn() -> bool,
) -> Vec<Sample> {
    let pid = pid(worker);
    let begun = Instant::now();
    let mut every = tokio::time::interval((time / 60).min(Duration::from_secs(1)));
    let mut samples = Vec::new();
    while begun.elapsed() < time && !ended() {
        every.tick().await;
        let before = is_reloading.load(Ordering::Acquire);
        let mut sample = Sample::take(pid, begun.elapsed().as_secs_f64()).unwrap();
        sample.is_reloading = before || is_reloading.load(Ordering::Acquire);
        samples.push(sample);
    }
    samples
}

fn tell(samples: &[Sample], verdict: &Verdict, counts: &Counts, reloads: u64, is_judged: bool) {
    let problems = if is_judged { verdict.problems() } else { Vec::new() };
    let line = format!(
        "soak: {:.0} s, {}, {reloads} reloads; {}; {} problems",
        verdict.seconds,
        counts.line(),
        verdict.line(),
        problems.len()
    );
    // Not println!, which a test harness keeps for itself.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    if let Some(path) = std::env::var_os("LAMPLIGHTER_SOAK_PLOT") {
        std::fs::write(&path, plot::svg(samples, &line)).unwrap();
    }
    assert_eq!(problems, [""; 0]);
}
