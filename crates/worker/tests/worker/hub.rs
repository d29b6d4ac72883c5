//! A model of a branch that moves on after it was resolved.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::{Path as Parts, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use lamplighter_protocol::{Failure, Reason, ResolveRecord};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::artifact::{Place, Tiny};
use crate::support::process::{self, Process};

const COMMITS: [&str; 2] =
    ["1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"];

/// The folders of the commits; the last one is every branch.
type Commits = Arc<Mutex<Vec<PathBuf>>>;

/// A Hub with one repository; its address.
async fn start(commits: Commits) -> String {
    let app = Router::new()
        .route("/api/models/org/tiny/revision/{revision}", get(revision))
        .route("/org/tiny/resolve/{commit}/{*path}", get(file))
        .with_state(commits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn revision(
    State(commits): State<Commits>,
    Parts(revision): Parts<String>,
) -> Result<Json<Value>, StatusCode> {
    let commits = commits.lock().unwrap();
    let index = match COMMITS.iter().position(|commit| *commit == revision) {
        None if revision == "main" => commits.len() - 1,
        Some(index) if index < commits.len() => index,
        _ => return Err(StatusCode::NOT_FOUND),
    };
    let siblings: Vec<Value> = files(&commits[index], "")
        .into_iter()
        .map(|path| {
            let size = fs::metadata(commits[index].join(&path)).unwrap().len();
            json!({"rfilename": path, "size": size, "blobId": format!("{index}")})
        })
        .collect();
    Ok(Json(json!({"sha": COMMITS[index], "siblings": siblings})))
}

async fn file(
    State(commits): State<Commits>,
    Parts((commit, path)): Parts<(String, String)>,
) -> Result<Vec<u8>, StatusCode> {
    let index = COMMITS.iter().position(|known| *known == commit).ok_or(StatusCode::NOT_FOUND)?;
    let folder = commits.lock().unwrap()[index].clone();
    fs::read(folder.join(path)).map_err(|_| StatusCode::NOT_FOUND)
}

fn files(folder: &Path, prefix: &str) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder.join(prefix)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            all.extend(files(folder, &format!("{path}/")));
        } else {
            all.push(path);
        }
    }
    all
}

#[tokio::test]
async fn a_pod_that_starts_after_its_branch_has_moved_on_loads_what_was_resolved() {
    let (first, second) = (Place::new(&Tiny::new()), Place::new(&Tiny::new()));
    fs::write(second.artifact().join("README.md"), b"read me").unwrap();
    let commits = Commits::default();
    commits.lock().unwrap().push(first.artifact());
    let place = Place::new(&Tiny::new());
    let credentials = place.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("HF_ENDPOINT"), start(Arc::clone(&commits)).await).unwrap();
    let mut entry = place.entry("embedder");
    entry["source"] = json!({"uri": "hf://org/tiny@main", "credentials": credentials});
    entry["validation"] = json!({"cases": [{"name": "near", "check": {"similarity": {
        "texts": ["the lamp", "the lamp light"], "atLeast": "0.1",
    }}}]});
    place.write_manifest(&[entry]);

    let file = |name: &str| place.path().join(name).display().to_string();
    let (manifest, log) = (file("manifest.json"), file("termination-log"));
    let line = ["resolve", "--model", "embedder:1", "--manifest", &manifest];
    let line = [&line[..], &["--termination-log", &log]].concat();
    process::run(&line.into_iter().map(str::to_owned).collect::<Vec<_>>()).await;
    let words = fs::read_to_string(place.termination_log()).unwrap();
    let record = ResolveRecord::from_termination_message(&words).expect(&words);
    assert_eq!(record.commit.as_deref(), Some(COMMITS[0]));
    commits.lock().unwrap().push(second.artifact());

    let digest = format!("embedder:1={}", record.digest);
    let ended = process::serve_to_end(place.path(), &["--expected-digests", &digest]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let words = fs::read_to_string(place.termination_log()).unwrap();
    let failure = Failure::from_termination_message(&words).expect(&words);
    assert_eq!(failure.reason, Reason::DigestMismatch, "{failure}");

    let commit = format!("embedder:1={}", COMMITS[0]);
    let more = ["--expected-digests", &digest, "--expected-commits", &commit];
    let mut worker = Process::start(place.path(), &more).await;
    // The weights, of which it says how fast they came.
    worker.logged("file received").await;
    worker.logged("every model passed: ready").await;

    // The history is rewritten: the same files, and the commit is gone.
    *commits.lock().unwrap() = vec![first.artifact()];
    fs::remove_dir_all(place.path().join("cache")).unwrap();
    let gone = format!("embedder:1={}", "3".repeat(40));
    let more = ["--expected-digests", &digest, "--expected-commits", &gone];
    let mut worker = Process::start(place.path(), &more).await;
    worker.logged("every model passed: ready").await;
}
