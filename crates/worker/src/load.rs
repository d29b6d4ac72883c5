//! One model's way from an address to right answers, and all models' ways side by side.
//!
//! A model's phases run one after the other; the models run in parallel, and take turns where more at
//! a time would only be slower: in the order of the manifest, large ones first once they are there. The
//! first one that fails ends the start, because a pod that serves less than its manifest serves nothing.

mod precision;
mod thread;

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lamplighter_artifact::{
    Artifact, ArtifactError, Budget, Digest, Location, Places, fetch, verify,
};
use lamplighter_engine::validation::Case;
use lamplighter_engine::{Engine, Processor, build, prepare, read, transfer_judged, warmup};
use lamplighter_protocol::{
    Device, Failure, Manifest, ModelEntry, ModelFacts, ModelKey, Phase, UnaffordableReport,
    ValidationMode, WarmupReport,
};
use tokio::task::JoinSet;

use crate::board::{Board, Tracker};
use crate::memory::{self, Reserved, Room};
use crate::registry::{Model, Registry};
use crate::{cases, failure, tasks};
use precision::{Affordable, affordable};
use thread::holding;

/// What the loads of a worker have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where downloads are kept.
    pub cache: PathBuf,
    /// Where claims are mounted.
    pub claims: PathBuf,
    /// The digests that models must have, beside what the manifest says.
    pub digests: BTreeMap<ModelKey, Digest>,
    /// The commits that the references of models stood for when they were resolved.
    pub commits: BTreeMap<ModelKey, String>,
    /// Who relies on what is downloaded, for the clean-up of the cache.
    pub user: String,
    /// Where the models run.
    pub device: Device,
    /// How they use the processor, where they run on it.
    pub processor: Processor,
    /// How long one warm-up may take.
    pub warm_up_deadline: Duration,
    /// How many threads read the weights of a model.
    pub threads: NonZeroUsize,
    /// What the models take turns with.
    pub turns: Turns,
    /// The memory that the models' weights may take.
    pub room: Arc<Room>,
}

/// Fetches at a time.
const FETCHES: u64 = 4;

/// What the models of a worker take turns with while they load.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Bytes on their way from stores into the cache.
    pub in_flight: Arc<Budget>,
    /// Loads.
    pub loads: Arc<Budget>,
    /// Fetches. A few at a time keep line and disk busy, and what came first is built meanwhile.
    pub fetches: Arc<Budget>,
    /// From reading to validating: as many as there will be batches at a time when it serves. More
    /// would only take memory, and measure each other. Large models first.
    pub cores: Arc<Budget>,
}

impl Turns {
    /// So many bytes in flight, and so many loads and cores.
    pub fn new(in_flight: u64, loads: u64, cores: u64) -> Self {
        let budget = |units| Arc::new(Budget::new(units));
        Self {
            in_flight: budget(in_flight),
            loads: budget(loads),
            fetches: budget(FETCHES),
            cores: budget(cores),
        }
    }
}

/// Loads every model of the manifest in parallel with `load`; the first failure is the answer.
///
/// A load that panics is [`lamplighter_protocol::Reason::Internal`]. The loads that are still
/// running when one fails are dropped.
pub async fn load_all<F, L>(
    manifest: &Manifest,
    board: &Arc<Board>,
    load: L,
) -> Result<Registry, Failure>
where
    L: Fn(ModelEntry, Tracker) -> F,
    F: Future<Output = Result<Model, Failure>> + Send + 'static,
{
    let mut loads = JoinSet::new();
    let mut tasks = std::collections::HashMap::new();
    for (index, entry) in manifest.models.iter().enumerate() {
        let tracker = board.track(index);
        let task = loads.spawn(load(entry.clone(), tracker));
        tasks.insert(task.id(), index);
    }
    let mut models: Vec<Option<Model>> = manifest.models.iter().map(|_| None).collect();
    while let Some(ended) = loads.join_next_with_id().await {
        let (id, loaded) = match ended {
            Ok((id, loaded)) => (id, loaded),
            Err(lost) => (lost.id(), Err(failure::of_lost_task(&lost))),
        };
        let Some(index) = tasks.get(&id).copied() else {
            continue;
        };
        let tracker = board.track(index);
        match loaded {
            Ok(model) => {
                tracker.pass();
                models[index] = Some(model);
            }
            Err(failed) => {
                let failed = complete(failed, &manifest.models[index], &tracker);
                tracker.fail(failed.clone());
                return Err(failed);
            }
        }
    }
    let loaded = manifest.models.iter().cloned().zip(models);
    Ok(Registry::new(loaded.filter_map(|(entry, model)| Some((entry, model?))).collect()))
}

/// Loads one model through every phase.
pub async fn load_model(
    setup: Setup,
    entry: ModelEntry,
    tracker: Tracker,
) -> Result<Model, Failure> {
    let in_order = tracker.urgency();
    let _load = setup.turns.loads.take(1, in_order).await;
    let fetch = setup.turns.fetches.take(1, in_order).await;
    #[cfg(any(test, feature = "faults"))]
    crate::faults::before_load(&setup.cache, &tracker).await?;
    let artifact = fetch_and_verify(&setup, &entry, &tracker).await?;
    drop(fetch);
    tracker.pause();
    let _core = setup.turns.cores.take(1, artifact.bytes).await;
    let (engine, given_up, memory) = bring_up(&artifact, &entry, &setup, &tracker).await?;
    #[cfg(any(test, feature = "faults"))]
    let engine = crate::faults::before_gates(engine, &tracker).await;
    let facts = ModelFacts {
        digest: artifact.digest.to_string(),
        architecture: engine.facts().architecture.clone(),
        dimensions: engine.facts().gives.numbers() as u64,
        max_tokens: engine.facts().max_tokens as u64,
        parameters: engine.facts().parameters,
        bytes: artifact.bytes,
    };
    tracker.facts(facts.clone());
    tracker.runtime(precision::runtime(engine.as_ref(), given_up, &entry.key()));
    let memory = warm_up(&engine, memory, setup.warm_up_deadline, &tracker).await?;
    let (cases, memory) = validate(&engine, memory, &entry, artifact, &tracker).await?;
    Ok(Model { key: entry.key(), facts, engine, cases, memory: Some(memory) })
}

/// While they are read, all floats that are stored; as 32-bit ones, however they are stored.
fn weights_in_memory(artifact: &Artifact) -> u64 {
    artifact.weights.parameters().saturating_mul(4)
}

async fn fetch_and_verify(
    setup: &Setup,
    entry: &ModelEntry,
    tracker: &Tracker,
) -> Result<Artifact, Failure> {
    let location = Location::parse(&entry.source.uri).map_err(|e| failure::of_artifact(&e))?;
    // Where the bytes still are that were resolved, when the branch has moved on.
    let commit = setup.commits.get(&entry.key());
    let pinned = commit.map_or_else(|| location.clone(), |commit| location.clone().at(commit));
    let expected = expected_digest(setup, entry)?;
    let places = Places {
        cache: setup.cache.clone(),
        claims: setup.claims.clone(),
        image: entry.source.image.clone().map(PathBuf::from),
        credentials: entry.source.credentials.clone().map(PathBuf::from),
        user: Some(setup.user.clone()),
        in_flight: Arc::clone(&setup.turns.in_flight),
    };
    let attempt = async || -> Result<Artifact, ArtifactError> {
        tracker.begin(Phase::Fetch);
        let (name, version, expected) = (&entry.name, &entry.version, expected.as_ref());
        let fetched = match fetch(&pinned, name, version, expected, &places, tracker).await {
            // A history that was rewritten; the digest says whether these are the bytes.
            Err(ArtifactError::NotFound { .. }) if pinned != location => {
                fetch(&location, name, version, expected, &places, tracker).await?
            }
            fetched => fetched?,
        };
        tracker.begin(Phase::Verify);
        verify(fetched, expected, tracker).await
    };
    match attempt().await {
        // Verifying removed the rotten copy, so that a second fetch downloads it again.
        Err(rotten @ ArtifactError::CacheRotten { .. }) => {
            tracing::warn!(model = %entry.key(), error = %rotten, "fetching again");
            attempt().await
        }
        first => first,
    }
    .map_err(|error| failure::of_artifact(&error))
}

/// What the manifest says and what was resolved are the same, if both are there.
fn expected_digest(setup: &Setup, entry: &ModelEntry) -> Result<Option<Digest>, Failure> {
    let resolved = setup.digests.get(&entry.key()).copied();
    let Some(text) = &entry.expected_digest else {
        return Ok(resolved);
    };
    let pinned: Digest = text.parse().map_err(|error| failure::of_artifact(&error))?;
    match resolved {
        Some(found) if found != pinned => {
            let error = ArtifactError::DigestMismatch { expected: pinned, found };
            Err(failure::of_artifact(&error))
        }
        _ => Ok(Some(pinned)),
    }
}

async fn bring_up(
    artifact: &Artifact,
    entry: &ModelEntry,
    setup: &Setup,
    tracker: &Tracker,
) -> Result<(Arc<dyn Engine>, Option<UnaffordableReport>, Reserved), Failure> {
    let in_use = if tracker.comes_later() { memory::usage().unwrap_or_default().now } else { 0 };
    let reserved = {
        let _nobody_compares = setup.room.nobody_compares().await;
        setup.room.reserve(weights_in_memory(artifact), in_use)?
    };
    let root = artifact.root.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&root));
    let (root, threads) = (artifact.root.clone(), setup.threads);
    let files: Vec<String> = artifact.weights.files().into_iter().map(str::to_owned).collect();
    let heard = tracker.clone();
    tracker.begin(Phase::Read);
    let ((weights, stored), reserved) = holding(reserved, Phase::Read, move || {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let stored = AtomicU64::new(0);
        let weights = read(&root, &files, threads, &|bytes| {
            stored.fetch_add(bytes, Ordering::Relaxed);
            heard.add_bytes(bytes);
        })?;
        Ok((weights, stored.into_inner()))
    })
    .await?;
    tracker.begin(Phase::Build);
    let prepared = prepared.await.map_err(|lost| failure::of_lost_task(&lost))?;
    let (built, mut reserved) =
        holding(reserved, Phase::Build, move || build(weights, prepared?)).await?;
    tasks::check(entry.task, &built.facts().architecture, &built.facts().gives)?;
    reserved.shrink_to(built.bytes());
    tracker.add_bytes(stored);
    let verified = artifact.clone();
    tokio::task::spawn_blocking(move || verified.unchanged())
        .await
        .map_err(|lost| failure::of_lost_task(&lost))?
        .map_err(|error| failure::of_artifact(&error))?;
    let device = match setup.device {
        Device::Cpu => lamplighter_engine::Device::Cpu,
        Device::Cuda => lamplighter_engine::Device::Cuda,
    };
    tracker.begin(Phase::Transfer);
    let (floats, twice) = (built.bytes(), built.bytes_twice());
    let processor = setup.processor.clone();
    let Affordable { processor, comparing, given_up } =
        affordable(processor, twice, &setup.room, &entry.key()).await;
    let (plan, asked) = (entry.validation.clone(), artifact.clone());
    let is_right = move |engine: &dyn Engine| precision::is_right(engine, &plan, &asked);
    let transfer = move || {
        let engine = transfer_judged(built, device, processor, &is_right);
        drop(comparing);
        engine
    };
    let (engine, mut reserved) = holding(reserved, Phase::Transfer, transfer).await?;
    // In 32-bit floats, panels are filled up and take a little more than what was stored.
    reserved.shrink_to(engine.bytes().min(floats));
    tracker.add_bytes(stored);
    Ok((Arc::from(engine), given_up, reserved))
}

async fn warm_up(
    engine: &Arc<dyn Engine>,
    memory: Reserved,
    deadline: Duration,
    tracker: &Tracker,
) -> Result<Reserved, Failure> {
    let warmed = Arc::clone(engine);
    let run = if tracker.comes_later() { warmup::warm_up_beside_others } else { warmup::warm_up };
    tracker.begin(Phase::WarmUp);
    let run = move || run(warmed.as_ref(), deadline, &Instant::now);
    let (warmup, memory) = holding(memory, Phase::WarmUp, run).await?;
    if !warmup.settled {
        tracing::warn!("latencies had not settled when the warm-up's time was over");
    }
    tracker.warmup(WarmupReport {
        runs: warmup.runs,
        first_millis: warmup.first.as_secs_f64() * 1_000.0,
        steady_millis: warmup.steady.as_secs_f64() * 1_000.0,
        settled: Some(warmup.settled),
    });
    Ok(memory)
}

/// The cases, to which every answer was right.
async fn validate(
    engine: &Arc<dyn Engine>,
    memory: Reserved,
    entry: &ModelEntry,
    artifact: Artifact,
    tracker: &Tracker,
) -> Result<(Vec<Case>, Reserved), Failure> {
    tracker.begin(Phase::Validate);
    if entry.validation.mode == ValidationMode::Disabled {
        tracker.validation(cases::disabled());
        return Ok((Vec::new(), memory));
    }
    let asked = Arc::clone(engine);
    let plan = entry.validation.clone();
    let (cases, report, memory) = tokio::task::spawn_blocking(move || {
        let cases = cases::collect(&plan, &artifact)?;
        let report = cases::ask(asked.as_ref(), &cases);
        Ok((cases, report, memory))
    })
    .await
    .unwrap_or_else(|lost| Err(failure::of_lost_task(&lost)))?;
    tracker.validation(report.clone());
    cases::judge(entry.validation.mode, &report).map(|()| (cases, memory))
}

pub(crate) fn complete(mut failed: Failure, entry: &ModelEntry, tracker: &Tracker) -> Failure {
    failed.model.get_or_insert_with(|| entry.key());
    failed.phase = failed.phase.or_else(|| tracker.running());
    failed
}
