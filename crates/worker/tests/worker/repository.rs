//! The models of a running worker change by commands, with loads that the test controls.

mod commands;
mod refusals;
mod waiting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use lamplighter_engine::validation::{Case, Check};
use lamplighter_protocol::{Failure, ModelEntry, ModelState, Phase, Reason, Report};
use lamplighter_worker::board::Tracker;
use lamplighter_worker::registry::Model;
use lamplighter_worker::serve::Worker;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::parse;
use crate::support::client::{Answer, Http};
use crate::support::fake::{Fake, Lent, vector};
use crate::support::{DEADLINE, manifest, model, serve_args};

const TOKEN: &str = "wick-and-oil";

/// A worker with `embedder:1` and `other:1`, whose later loads do what their version says: `slow`
/// waits to be let go on, `broken` fails, `panic` panics, `endless` never ends.
struct Running {
    serving: SocketAddr,
    admin: SocketAddr,
    token_file: PathBuf,
    go_on: Arc<Notify>,
    engines: Arc<Mutex<BTreeMap<String, Arc<Fake>>>>,
    http: Http,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Failure>>,
    _dir: tempfile::TempDir,
}

impl Running {
    async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, TOKEN).unwrap();
        let mut line = vec!["--admin-token-file", token_file.to_str().unwrap()];
        line.extend(["--drain-delay-seconds", "0", "--revalidation-interval-seconds", "0"]);
        line.extend(["--compute-threads", "2"]);
        line.extend(more);
        let args = serve_args(dir.path(), &line);
        let worker = Worker::bind(&args, manifest(&["embedder:1", "other:1"])).await.unwrap();
        let (serving, admin) = (worker.serving_address(), worker.admin_address());
        let go_on = Arc::new(Notify::new());
        let engines: Arc<Mutex<BTreeMap<String, Arc<Fake>>>> = Arc::default();
        let load = {
            let (go_on, engines) = (Arc::clone(&go_on), Arc::clone(&engines));
            move |entry: ModelEntry, tracker: Tracker| {
                load(entry, tracker, Arc::clone(&go_on), Arc::clone(&engines))
            }
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(load, stop.clone()));
        let http = Http::one();
        http.ready_is(admin, StatusCode::OK).await;
        Self { serving, admin, token_file, go_on, engines, http, stop, task, _dir: dir }
    }

    async fn command(&self, path: &str, body: &Value) -> Answer {
        let path = format!("/v2/repository/{path}");
        self.http.post(self.admin, &path, Some(TOKEN), &body.to_string()).await.unwrap()
    }

    async fn load(&self, key: &str) -> Answer {
        let (name, version) = key.split_once(':').unwrap();
        let path = format!("models/{name}/load");
        let config = config(version);
        self.command(&path, &json!({"parameters": {"config": config.to_string()}})).await
    }

    async fn unload(&self, name: &str) -> Answer {
        self.command(&format!("models/{name}/unload"), &json!({})).await
    }

    /// `name:version state reason` of each model of the index, a star at the defaults.
    async fn index(&self) -> Vec<String> {
        let models = self.command("index", &json!({})).await.json();
        let line = |model: &Value| {
            let text = |field: &str| model[field].as_str().unwrap().to_owned();
            let star = if model["default"] == true { "*" } else { "" };
            let (name, version) = (text("name"), text("version"));
            let line = format!("{name}:{version}{star} {} {}", text("state"), text("reason"));
            line.trim_end().to_owned()
        };
        models.as_array().unwrap().iter().map(line).collect()
    }

    async fn index_has(&self, wanted: &str) {
        let asked = async {
            while !self.index().await.iter().any(|line| line == wanted) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, asked).await;
        assert!(in_time.is_ok(), "never {wanted:?}: {:?}", self.index().await);
    }

    /// The key of the model that answers to this name, or the error's code.
    async fn answers(&self, name: &str) -> Result<String, String> {
        let answer = self.http.embed_with(self.serving, name, "a lamp").await.unwrap();
        if answer.status == StatusCode::OK {
            Ok(answer.json()["model"].as_str().unwrap().to_owned())
        } else {
            Err(answer.error_code())
        }
    }

    async fn report(&self) -> Report {
        self.http.status_when(self.admin, |_| true).await
    }

    fn engine(&self, key: &str) -> Arc<Fake> {
        Arc::clone(&self.engines.lock().unwrap()[key])
    }

    /// A command that goes on while the test does something else.
    fn meanwhile(&self, path: &str, body: Value) -> JoinHandle<Answer> {
        let (http, admin) = (Http::one(), self.admin);
        let path = format!("/v2/repository/{path}");
        tokio::spawn(async move {
            http.post(admin, &path, Some(TOKEN), &body.to_string()).await.unwrap()
        })
    }

    /// A request that its engine holds back until it is released.
    async fn held_back(&self, model: &str) -> JoinHandle<Result<Answer, String>> {
        let (http, serving, model) = (Http::one(), self.serving, model.to_owned());
        let request = tokio::spawn(async move { http.embed_with(serving, &model, "wait").await });
        self.http.status_when(self.admin, |report| report.in_flight == 1).await;
        request
    }

    async fn ends(self) -> Result<(), Failure> {
        tokio::time::timeout(DEADLINE, self.task).await.expect("the worker ends").unwrap()
    }

    async fn stops_well(self) {
        self.stop.cancel();
        assert_eq!(self.ends().await, Ok(()));
    }
}

fn config(version: &str) -> Value {
    json!({"version": version, "task": "Embedding", "source": {"uri": "image:///nowhere"}})
}

async fn load(
    entry: ModelEntry,
    tracker: Tracker,
    go_on: Arc<Notify>,
    engines: Arc<Mutex<BTreeMap<String, Arc<Fake>>>>,
) -> Result<Model, Failure> {
    tracker.begin(Phase::Build);
    match entry.version.as_str() {
        "slow" => go_on.notified().await,
        "broken" => return Err(Failure::new(Reason::TensorMissing, "no pooler")),
        "panic" => panic!("a bug in a load"),
        "endless" => return std::future::pending().await,
        _ => {}
    }
    let engine = Arc::new(Fake::new());
    engines.lock().unwrap().insert(entry.key().to_string(), Arc::clone(&engine));
    let case = |name: &str, text: &str| Case {
        name: name.to_owned(),
        check: Check::Vector { text: text.to_owned(), expected: vector(text), min_cosine: 0.99 },
    };
    let cases = match entry.version.as_str() {
        "asked" => vec![case("first", "check")],
        "held" => vec![case("held", "wait"), case("after", "a lamp")],
        _ => Vec::new(),
    };
    let given = model(&entry, Arc::new(Fake::new()));
    Ok(Model { engine: Arc::new(Lent(engine)), cases, ..given })
}
