//! A fake engine, a worker around it, and clients.

pub(crate) mod artifact;
pub(crate) mod client;
pub(crate) mod fake;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lamplighter_protocol::{Manifest, ModelEntry, ModelFacts};
use lamplighter_telemetry::metrics::Page;
use lamplighter_worker::board::{Board, Identity};
use lamplighter_worker::cli::{Cli, Command, ServeArgs};
use lamplighter_worker::http::cors::Allowed;
use lamplighter_worker::http::keys::Keys;
use lamplighter_worker::http::{App, Extras, Limits, TeMetrics};
use lamplighter_worker::lifecycle::Event;
use lamplighter_worker::metrics::Metrics;
use lamplighter_worker::registry::{Model, Registry};
use lamplighter_worker::run::Runner;
use serde_json::{Value, json};

use fake::Fake;

/// Nothing in these tests takes longer on a machine that is not broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const POD: &str = "3f1c9a52-pod";
pub(crate) const LIMITS: Limits = Limits {
    body: 64 << 10,
    bodies: 1 << 20,
    answers: 16 << 20,
    bytes_per_token: 256,
    time: DEADLINE,
};

/// A pod that serves this manifest.
pub(crate) fn identity(manifest: &Manifest) -> Identity {
    Identity {
        pod_uid: POD.to_owned(),
        pod_name: "search-0".to_owned(),
        revision: manifest.revision.clone(),
        device: manifest.device,
    }
}

/// A manifest of models given as `name:version`, the ones with a star being defaults.
pub(crate) fn manifest(keys: &[&str]) -> Manifest {
    let models: Vec<Value> = keys
        .iter()
        .map(|key| {
            let (name, version) = key.trim_end_matches('*').split_once(':').unwrap();
            json!({
                "name": name,
                "version": version,
                "task": "Embedding",
                "default": key.ends_with('*'),
                "source": {"uri": "image:///nowhere"},
            })
        })
        .collect();
    let manifest = json!({
        "format": 1,
        "deployment": "default/search",
        "revision": "7c9f0e5b21",
        "device": "Cpu",
        "models": models,
    });
    Manifest::from_json(&manifest.to_string()).unwrap()
}

/// A model that passed every gate, without any gate.
pub(crate) fn model(entry: &ModelEntry, engine: Arc<Fake>) -> Model {
    Model {
        key: entry.key(),
        facts: ModelFacts {
            digest: format!("sha256:{}", entry.version.repeat(3)),
            architecture: "Fake".to_owned(),
            dimensions: fake::DIMENSIONS as u64,
            max_tokens: fake::MAX_TOKENS as u64,
            parameters: 1,
            bytes: 1,
        },
        engine,
        cases: Vec::new(),
        memory: None,
    }
}

/// Who may ask.
#[derive(Default)]
struct Access {
    keys: Option<Arc<Keys>>,
    origins: Vec<Allowed>,
}

/// The serving routes without a listener.
pub(crate) struct Bench {
    pub(crate) app: Arc<App>,
    pub(crate) page: Page,
    pub(crate) board: Arc<Board>,
    manifest: Manifest,
}

impl Bench {
    /// Two versions of one model and another model; nothing is loaded yet.
    pub(crate) fn loading(limits: Limits, max_texts: usize) -> Self {
        Self::of(
            manifest(&["embedder:1", "embedder:2*", "other:1"]),
            limits,
            max_texts,
            Access::default(),
        )
    }

    fn of(manifest: Manifest, limits: Limits, max_texts: usize, access: Access) -> Self {
        let mut registry = lamplighter_telemetry::metrics::Registry::default();
        let metrics = Metrics::new(&mut registry);
        let te = TeMetrics::new(&mut registry, &metrics);
        let page = Page::new(registry);
        let board = Arc::new(Board::new(identity(&manifest), &manifest, metrics.clone()));
        let runner = Runner::new(2, max_texts, metrics).unwrap();
        let Access { keys, origins } = access;
        let extras = Extras { keys, origins, metrics: Some(page.clone()), te };
        Self {
            app: Arc::new(App::new(Arc::clone(&board), runner, limits, extras)),
            page,
            board,
            manifest,
        }
    }

    /// As [`Bench::loading`], and every model is served by this engine.
    pub(crate) fn ready(engine: &Arc<Fake>) -> Self {
        let bench = Self::loading(LIMITS, 3_000);
        bench.open(engine);
        bench
    }

    /// These models, each by its engine.
    pub(crate) fn serving(models: &[(&str, Arc<Fake>)]) -> Self {
        Self::guarded(models, None)
    }

    /// These models, within limits.
    pub(crate) fn bounded(models: &[(&str, Arc<Fake>)], limits: Limits, texts: usize) -> Self {
        Self::with(models, limits, texts, Access::default())
    }

    /// These models, for those who have a key.
    pub(crate) fn guarded(models: &[(&str, Arc<Fake>)], keys: Option<Arc<Keys>>) -> Self {
        Self::with(models, LIMITS, 3_000, Access { keys, ..Access::default() })
    }

    /// These models, for those who have a key, also in pages of these origins.
    pub(crate) fn open_to(
        origins: &[&str],
        models: &[(&str, Arc<Fake>)],
        keys: Option<Arc<Keys>>,
    ) -> Self {
        let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        Self::with(models, LIMITS, 3_000, Access { keys, origins })
    }

    fn with(models: &[(&str, Arc<Fake>)], limits: Limits, texts: usize, access: Access) -> Self {
        let names: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
        let bench = Self::of(manifest(&names), limits, texts, access);
        bench.open_with(models.iter().map(|(_, engine)| Arc::clone(engine)));
        bench
    }

    pub(crate) fn open(&self, engine: &Arc<Fake>) {
        self.open_with(std::iter::repeat_n(Arc::clone(engine), self.manifest.models.len()));
    }

    fn open_with(&self, engines: impl Iterator<Item = Arc<Fake>>) {
        let models = self.manifest.models.iter().zip(engines);
        let models = models.map(|(entry, engine)| (entry.clone(), model(entry, engine)));
        self.app.open(Registry::new(models.collect()));
        self.board.happened(Event::AllPassed);
    }
}

/// Arguments of a worker on ports that the system chooses, with its files in `dir`.
pub(crate) fn serve_args(dir: &Path, more: &[&str]) -> ServeArgs {
    let mut line = vec!["lamplighter-worker".to_owned()];
    line.extend(serve_line(dir));
    line.extend(more.iter().map(ToString::to_string));
    match Cli::try_parse_from(line).unwrap().command {
        Command::Serve(args) => *args,
        _ => unreachable!("the line says serve"),
    }
}

pub(crate) fn serve_line(dir: &Path) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut line = vec!["serve".to_owned()];
    for (flag, value) in [
        ("--listen", "127.0.0.1:0".to_owned()),
        ("--admin-listen", "127.0.0.1:0".to_owned()),
        ("--manifest", file("manifest.json")),
        ("--termination-log", file("termination-log")),
        ("--cache-dir", file("cache")),
        ("--claims-dir", file("claims")),
        ("--pod-uid", POD.to_owned()),
        ("--pod-name", "search-0".to_owned()),
    ] {
        line.extend([flag.to_owned(), value]);
    }
    line
}
