//! `lamplighter-worker serve`: the whole life of a worker.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_engine::{Cores, Kernel, Processor};
use lamplighter_protocol::{Device, Failure, Manifest, ModelEntry, Phase, Reason, WorkerState};
use lamplighter_telemetry::admin::{self, Admin};
use lamplighter_telemetry::metrics::{Page, Registry as MetricsRegistry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::TokenFile;
use crate::arguments::{self, Contradiction};
use crate::board::{Board, Identity, Tracker};
use crate::cli::{LimitArgs, ServeArgs};
use crate::failure;
use crate::handover;
use crate::http::keys::Keys;
use crate::http::{self, App, Extras, Limits, TeMetrics};
use crate::lifecycle::Event;
use crate::load::{Setup, Turns, load_all, load_model};
use crate::manifest;
use crate::memory::{self, Room};
use crate::metrics::Metrics;
use crate::registry::{Model, Registry};
use crate::repository::{Deadlines, Repository};
use crate::revalidate::until_wrong;
use crate::run::Runner;
use crate::server::{Cut, Drain, Figures, Patience, Server, Tls};

/// How much longer than a request may take an unload waits for those that have the model.
const UNLOAD_MARGIN: Duration = Duration::from_secs(5);

/// How long the head of a request may take from its first byte. Clients send one at once.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Reads the manifest, loads its models, serves them until `stop` is cancelled, and drains.
pub async fn serve(args: &ServeArgs, stop: CancellationToken) -> Result<(), Failure> {
    let manifest = manifest::read(&args.manifest)?;
    if manifest.device == Device::Cuda {
        handover::to_program_for_gpus(&stop).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
    for wrong in Kernel::wrong() {
        tracing::error!(kernel = wrong.kernel, "{wrong}");
    }
    let setup = Setup {
        cache: args.cache_dir.clone(),
        claims: args.claims_dir.clone(),
        digests: args.expected_digests.iter().cloned().collect(),
        commits: args.expected_commits.iter().cloned().collect(),
        user: manifest.user(),
        device: manifest.device,
        processor: processor(&args.limits, &manifest)?,
        warm_up_deadline: args.warm_up_deadline_seconds,
        threads: load_threads(args, &manifest),
        turns: turns(args, &manifest),
        room: Arc::new(Room::new(room(manifest.device))),
    };
    let later = Setup {
        threads: NonZeroUsize::MIN,
        turns: Turns::new(args.load.max_download_bytes_in_flight, 1, 1),
        ..setup.clone()
    };
    let worker = Worker::bind(args, manifest).await?;
    #[cfg(any(test, feature = "faults"))]
    crate::faults::when_ready(&worker.board, &args.cache_dir);
    let load = move |entry, tracker: Tracker| {
        // One after the other and without helpers, while others are served.
        let setup = if tracker.comes_later() { &later } else { &setup };
        load_model(setup.clone(), entry, tracker)
    };
    worker.run(load, stop).await
}

fn keys(path: &Path) -> Result<Arc<Keys>, Failure> {
    Keys::from_file(path.to_owned()).map_err(|error| {
        let message = format!(
            "{}: {error}; in a pod it is the entry of the Secret that worker.apiKeys names",
            path.display()
        );
        Failure::new(Reason::ApiKeysUnusable, message)
    })
}

/// On a GPU, models need no cores of their own.
fn processor(limits: &LimitArgs, manifest: &Manifest) -> Result<Processor, Failure> {
    let cores = match manifest.device {
        Device::Cpu => {
            NonZeroUsize::new(threads(limits, manifest.device)).unwrap_or(NonZeroUsize::MIN)
        }
        Device::Cuda => NonZeroUsize::MIN,
    };
    let cores = Cores::new(cores)
        .map_err(|error| no_threads(format!("cannot start a thread for each core: {error}")))?;
    let kernel =
        arguments::kernel(limits, manifest.precision, manifest.device).map_err(contradiction)?;
    Ok(Processor { kernel, cores })
}

/// Threads for each model: what the container may use, not what the host has, over as many models as
/// are read at a time.
fn load_threads(args: &ServeArgs, manifest: &Manifest) -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = args.load.load_threads.map_or(cores, count);
    let models = manifest.models.len().min(threads(&args.limits, manifest.device)).max(1);
    NonZeroUsize::new(all / models).unwrap_or(NonZeroUsize::MIN)
}

/// What is missing is said before anything is downloaded for it.
async fn is_there(device: Device) -> Result<(), Failure> {
    let check = move || match device {
        Device::Cpu => lamplighter_engine::Device::Cpu.check(),
        Device::Cuda => lamplighter_engine::Device::Cuda.check(),
    };
    let checked = tokio::task::spawn_blocking(check).await;
    checked
        .map_err(|lost| failure::of_lost_task(&lost))?
        .map_err(|error| failure::of_engine(&error, Phase::Transfer))
}

/// On a GPU, weights are in the host's memory one model at a time at least, and not for long.
fn room(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => memory::limit(),
        Device::Cuda => None,
    }
}

fn turns(args: &ServeArgs, manifest: &Manifest) -> Turns {
    let all = manifest.models.len() as u64;
    let loads = args.load.models_at_a_time.map_or(all, u64::from);
    let cores = threads(&args.limits, manifest.device) as u64;
    Turns::new(args.load.max_download_bytes_in_flight, loads.max(1), cores.max(1))
}

/// How often the cases are asked again; never, where it is 0.
fn revalidation_interval(args: &ServeArgs) -> Option<Duration> {
    let interval = Some(args.revalidation_interval_seconds).filter(|interval| !interval.is_zero());
    #[cfg(any(test, feature = "faults"))]
    let interval = crate::faults::revalidation_interval(interval);
    interval
}

/// A worker whose listeners are bound: probes are answered from here on, requests with 503.
pub struct Worker {
    manifest: Manifest,
    board: Arc<Board>,
    app: Arc<App>,
    repository: Arc<Repository>,
    admin: Admin,
    admin_stop: CancellationToken,
    server: Server,
    start_deadline: Duration,
    drain: Drain,
    revalidation_interval: Option<Duration>,
}

impl Worker {
    /// Binds the admin listener, then the serving one.
    pub async fn bind(args: &ServeArgs, manifest: Manifest) -> Result<Self, Failure> {
        let limits = &args.limits;
        let (body, bodies) = arguments::body_bytes(limits).map_err(contradiction)?;
        let time = arguments::request_time(args).map_err(contradiction)?;
        let mut registry = MetricsRegistry::default();
        let metrics = Metrics::new(&mut registry);
        let te = TeMetrics::new(&mut registry, &metrics);
        let page = Page::new(registry);
        let keys = args.access.api_keys_file.as_deref().map(keys).transpose()?;
        let identity = Identity {
            pod_uid: args.pod_uid.clone(),
            pod_name: args.pod_name.clone(),
            revision: manifest.revision.clone(),
            device: manifest.device,
        };
        let board = Arc::new(Board::new(identity, &manifest, metrics.clone()));
        let token = args.admin_token_file.as_deref().map(TokenFile::open).transpose()?;
        let threads = threads(limits, manifest.device);
        let runner = Runner::new(threads, count(limits.max_queued_texts), metrics.clone());
        let runner = runner.map_err(no_threads)?;
        let limits_of_requests = Limits {
            body,
            bodies,
            answers: count(limits.max_answer_bytes_in_flight),
            bytes_per_token: count(limits.max_bytes_per_token),
            time,
        };
        let origins = args.access.cors_allow_origin.clone();
        let extras = Extras { keys, origins, metrics: Some(page.clone()), te };
        let app = Arc::new(App::new(Arc::clone(&board), runner, limits_of_requests, extras));
        let deadlines =
            Deadlines { load: args.start_deadline_seconds, unload: time + UNLOAD_MARGIN };
        let repository = Repository::new(Arc::clone(&board), Arc::clone(&app), deadlines);
        let repository = Arc::new(repository);

        let admin_stop = CancellationToken::new();
        let routes = crate::admin::router(&board, page)
            .merge(crate::admin::repository::router(&repository, token));
        let admin =
            admin::serve(args.admin_listen, routes, admin_stop.clone()).await.map_err(internal)?;

        let patience = Patience {
            idle: limits.idle_timeout_seconds,
            head: HEAD_TIME,
            age: limits.max_connection_age_seconds,
            write: limits.write_timeout_seconds,
            connections: count(limits.max_connections),
        };
        let server = listen(args.listen, tls(args)?, &app, patience, &board).await?;
        tracing::info!(
            serving = %server.address(),
            admin = %admin.address(),
            revision = manifest.revision,
            models = manifest.models.len(),
            "listening"
        );
        Ok(Self {
            manifest,
            board,
            app,
            repository,
            admin,
            admin_stop,
            server,
            start_deadline: args.start_deadline_seconds,
            drain: Drain { delay: args.drain_delay_seconds, timeout: args.drain_timeout_seconds },
            revalidation_interval: revalidation_interval(args),
        })
    }

    /// Where requests are answered.
    pub fn serving_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where probes are answered.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Loads with `load`, serves until `stop` is cancelled or a model turns wrong, and drains. Models
    /// that come later are loaded with it, too.
    pub async fn run<F, L>(self, load: L, stop: CancellationToken) -> Result<(), Failure>
    where
        L: Fn(ModelEntry, Tracker) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Model, Failure>> + Send + 'static,
    {
        let started = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            started = self.start(&load) => Some(started),
        };
        let wrong = match started {
            Some(Ok(registry)) => {
                self.app.open(registry);
                self.repository.open(load);
                self.board.happened(Event::AllPassed);
                self.board.tell_start();
                tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    wrong = self.until_wrong() => Some(wrong),
                }
            }
            Some(Err(failed)) => {
                self.board.happened(Event::StartFailed);
                return Err(failed);
            }
            None => {
                tracing::info!("told to stop before the models were ready");
                None
            }
        };
        self.end(wrong).await
    }

    /// Why the worker must end although nobody told it to.
    async fn until_wrong(&self) -> Failure {
        let (served, runner) = (self.app.served(), self.app.runner());
        until_wrong(&served, runner, &self.board, self.revalidation_interval).await
    }

    async fn start<F, L>(&self, load: &L) -> Result<Registry, Failure>
    where
        L: Fn(ModelEntry, Tracker) -> F,
        F: Future<Output = Result<Model, Failure>> + Send + 'static,
    {
        let loads = async {
            is_there(self.manifest.device).await?;
            load_all(&self.manifest, &self.board, load).await
        };
        tokio::time::timeout(self.start_deadline, loads).await.unwrap_or_else(|_| {
            let message = format!(
                "the models were not ready within {} s: {}",
                self.start_deadline.as_secs(),
                self.board.waiting_for()
            );
            Err(Failure::new(Reason::StartDeadlineExceeded, message))
        })
    }

    /// The probes answer until the last request is done.
    async fn end(self, wrong: Option<Failure>) -> Result<(), Failure> {
        self.repository.close();
        let was_ready = self.board.state() == WorkerState::Ready;
        match &wrong {
            None => {
                self.board.happened(Event::ToldToStop);
            }
            Some(failed) => {
                tracing::warn!(reason = %failed.reason, "a model turned wrong: draining");
                self.board.turned_wrong(failed);
            }
        }
        let drain = Drain {
            // No endpoint ever named a pod that was never ready.
            delay: if was_ready { self.drain.delay } else { Duration::ZERO },
            ..self.drain
        };
        let cut = self.server.drain(drain).await;
        self.admin_stop.cancel();
        self.admin.stopped().await.map_err(internal)?;
        match wrong {
            None => judge(cut, drain.timeout),
            Some(failed) => {
                let Cut { connections, requests } = cut;
                tracing::info!(connections, requests, "drained; these were cut off");
                Err(failed)
            }
        }
    }
}

/// A request that was cut off was lost, which must not look like a good end. A connection that
/// was cut off without one lost nothing.
fn judge(cut: Cut, timeout: Duration) -> Result<(), Failure> {
    let Cut { connections, requests } = cut;
    if requests == 0 {
        tracing::info!(connections, "drained: no request was lost");
        return Ok(());
    }
    let message = format!(
        "{requests} requests on {connections} connections were cut off: they were not answered \
         {} s after the listener closed; raise --drain-timeout-seconds \
         (spec.rollout.drainSeconds) if clients need longer",
        timeout.as_secs()
    );
    Err(Failure::new(Reason::DrainTimeout, message))
}

async fn listen(
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    app: &Arc<App>,
    patience: Patience,
    board: &Board,
) -> Result<Server, Failure> {
    let cannot = |error| internal(format!("cannot listen on {address} for requests: {error}"));
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let router = http::router(Arc::clone(app));
    let metrics = board.metrics();
    let figures = Figures {
        open: metrics.connections().clone(),
        in_flight: metrics.in_flight().clone(),
        shedding: board.shedding().clone(),
    };
    Server::start(listener, tls, router, patience, figures).map_err(cannot)
}

/// The certificate of the serving listener; none if there is to be none.
fn tls(args: &ServeArgs) -> Result<Option<Arc<Tls>>, Failure> {
    match (&args.access.tls_cert_file, &args.access.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let tls = Tls::from_files(certificate.clone(), key.clone()).map_err(unusable)?;
            Ok(Some(tls))
        }
        // The command line asks for both or none.
        _ => Ok(None),
    }
}

/// A file that the command line names and that cannot be used.
fn unusable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::ArgumentsInvalid, error.to_string())
}

/// While one batch is on a GPU, the next is prepared for it. More at a time would only be smaller.
const THREADS_OF_GPU: usize = 2;

/// On the processor what the container may use, not what the host has.
fn threads(limits: &LimitArgs, device: Device) -> usize {
    match (limits.compute_threads, device) {
        (Some(threads), _) => usize::try_from(threads).unwrap_or(1),
        (None, Device::Cpu) => std::thread::available_parallelism().map_or(1, usize::from),
        (None, Device::Cuda) => THREADS_OF_GPU,
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn contradiction(flags: Contradiction) -> Failure {
    Failure::new(Reason::ArgumentsInvalid, flags.to_string())
}

fn no_threads(error: impl std::fmt::Display) -> Failure {
    let message = format!("{error}; see --compute-threads and the pod's limit of processes");
    Failure::new(Reason::ThreadsUnavailable, message)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, error.to_string())
}
