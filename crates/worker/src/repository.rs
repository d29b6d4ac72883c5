//! What is done to the models of a running worker when somebody says so: load one more, unload one,
//! let a plain name mean another version. Nothing of it happens by a request for an answer.
//!
//! ```text
//! load ────▶ claim the key ─▶ every gate, in the background ─▶ into the registry ─▶ answer
//! unload ──▶ claim the key ─▶ out of the registry ─▶ wait for who still has it ─▶ drop ─▶ answer
//! ```
//!
//! Whatever comes of it, the worker stays ready and goes on serving what it serves: a load that
//! fails leaves nothing but its reason. What was begun goes on when the one who asked is gone.

mod background;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use lamplighter_protocol::{Failure, ModelEntry, ModelKey, Reason, WorkerState};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Tracker};
use crate::failure;
use crate::http::App;
use crate::load::complete;
use crate::registry::{Model, Refused, Registry};
use background::Background;

/// How often it is looked whether a request still has a model that was unloaded.
const LOOK: Duration = Duration::from_millis(5);

type Load = dyn Fn(ModelEntry, Tracker) -> BoxFuture<'static, Result<Model, Failure>> + Send + Sync;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// One load, with the time that it waits for others.
    pub load: Duration,
    /// The requests that have a model when it is unloaded.
    pub unload: Duration,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// It contradicts what is served.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another command for the same model is under way.
    #[error("{key} is being {doing}; wait until that is done")]
    Busy {
        /// The model.
        key: ModelKey,
        /// What is done to it.
        doing: Doing,
    },
    /// The worker does not serve.
    #[error("the worker is not ready, and only what serves can be changed")]
    NotReady,
    /// The model did not pass its gates.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// Requests that began before still have the model.
    #[error(
        "{key} is unloaded and no request reaches it any more, but requests that began before \
         still had it after {} s; its memory is given back when they are done",
        .waited.as_secs()
    )]
    StillHeld {
        /// The model.
        key: ModelKey,
        /// How long it was waited.
        waited: Duration,
    },
}

/// What is done to a model.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doing {
    /// It passes its gates.
    Loading,
    /// It waits for the last request that has it.
    Unloading,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loading => "loaded",
            Self::Unloading => "unloaded",
        })
    }
}

/// Changes the models of one worker.
pub struct Repository {
    board: Arc<Board>,
    app: Arc<App>,
    deadlines: Deadlines,
    load: OnceLock<Box<Load>>,
    background: Background,
    busy: Mutex<BTreeMap<ModelKey, Doing>>,
    stop: CancellationToken,
}

impl Repository {
    /// Of a worker that has no model yet.
    pub fn new(board: Arc<Board>, app: Arc<App>, deadlines: Deadlines) -> Self {
        Self {
            board,
            app,
            deadlines,
            load: OnceLock::new(),
            background: Background::default(),
            busy: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    /// From now on models can come, by `load`, and go.
    pub fn open<F, L>(&self, load: L)
    where
        L: Fn(ModelEntry, Tracker) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Model, Failure>> + Send + 'static,
    {
        self.load.get_or_init(|| Box::new(move |entry, tracker| Box::pin(load(entry, tracker))));
    }

    /// The worker is ending: loads are given up.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// What is known of the models.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The models of the moment; none before the worker serves.
    pub fn registry(&self) -> Option<Arc<Registry>> {
        self.app.served().borrow().clone()
    }

    /// Loads a model beside those that are served; returns when it is served.
    pub async fn load(self: Arc<Self>, entry: ModelEntry) -> Result<(), CommandError> {
        let key = entry.key();
        let claim = self.claim(&key, Doing::Loading)?;
        if self.registry().ok_or(Refused::NotServing)?.get(&key).is_some() {
            return Err(Refused::Loaded(key).into());
        }
        tracing::info!(model = %key, default = entry.default, "told to load");
        let tracker = self.board.track_later(&entry);
        let loading = tokio::spawn(async move {
            let loaded = claim.repository.pass_gates(entry, tracker).await;
            drop(claim);
            loaded
        });
        let lost = |error| Err(CommandError::Failed(Box::new(failure::of_lost_task(&error))));
        loading.await.unwrap_or_else(lost)
    }

    async fn pass_gates(&self, entry: ModelEntry, tracker: Tracker) -> Result<(), CommandError> {
        let loaded = match self.in_background(&entry, &tracker).await {
            Ok(model) => {
                let with =
                    |registry: &Registry| Ok((registry.with(Arc::new(model), entry.default)?, ()));
                self.app
                    .change(with)
                    .map_err(|refused| Failure::new(Reason::Internal, format!("a bug: {refused}")))
            }
            Err(failed) => Err(failed),
        };
        match loaded {
            Ok(()) => {
                tracker.pass();
                Ok(())
            }
            // Nobody is left to be told, and it is no failure of the model.
            Err(_) if self.stop.is_cancelled() => Err(CommandError::NotReady),
            Err(failed) => {
                let failed = complete(failed, &entry, &tracker);
                failure::log(&failed);
                tracker.fail(failed.clone());
                Err(CommandError::Failed(Box::new(failed)))
            }
        }
    }

    async fn in_background(&self, entry: &ModelEntry, tracker: &Tracker) -> Result<Model, Failure> {
        let load = self.load.get().ok_or_else(|| {
            Failure::new(Reason::Internal, "a bug: nobody said how models are loaded")
        })?;
        let mut loading = self.background.spawn(load(entry.clone(), tracker.clone()))?;
        let given_up = tokio::select! {
            loaded = &mut loading => {
                return loaded.unwrap_or_else(|lost| Err(failure::of_lost_task(&lost)));
            }
            () = self.stop.cancelled() => {
                Failure::new(Reason::Internal, "the worker ends, so that the load was given up")
            }
            () = tokio::time::sleep(self.deadlines.load) => {
                let message = format!(
                    "the model was not loaded within {} s (--start-deadline-seconds)",
                    self.deadlines.load.as_secs()
                );
                Failure::new(Reason::StartDeadlineExceeded, message)
            }
        };
        loading.abort();
        Err(given_up)
    }

    /// Takes a model from new requests at once; returns when the requests that had it are done and
    /// its memory is given back.
    pub async fn unload(self: Arc<Self>, key: ModelKey) -> Result<(), CommandError> {
        let claim = self.claim(&key, Doing::Unloading)?;
        let model = self.app.change(|registry| registry.without(&key))?;
        tracing::info!(model = %key, "told to unload: no new request reaches it");
        self.board.unloading(&key);
        let gone = {
            let key = key.clone();
            tokio::spawn(async move {
                free(model).await;
                claim.repository.board.unloaded(&key);
                claim.repository.app.runner().forget(&key);
                tracing::info!(model = %key, "unloaded");
                drop(claim);
            })
        };
        self.within(gone, &key).await
    }

    async fn within(&self, gone: JoinHandle<()>, key: &ModelKey) -> Result<(), CommandError> {
        let waited = self.deadlines.unload;
        match tokio::time::timeout(waited, gone).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(lost)) => Err(CommandError::Failed(Box::new(failure::of_lost_task(&lost)))),
            Err(_) => {
                let held = CommandError::StillHeld { key: key.clone(), waited };
                tracing::warn!(model = %key, "{held}");
                Err(held)
            }
        }
    }

    /// Lets the plain name mean this version from the next request on.
    pub fn set_default(&self, key: &ModelKey) -> Result<(), CommandError> {
        self.check_ready()?;
        self.app.change(|registry| Ok((registry.with_default(key)?, ())))?;
        tracing::info!(model = %key, "told that the plain name means this version");
        Ok(())
    }

    fn check_ready(&self) -> Result<(), CommandError> {
        if self.board.state() == WorkerState::Ready { Ok(()) } else { Err(CommandError::NotReady) }
    }

    /// The right to load or unload a model, for one at a time.
    fn claim(self: &Arc<Self>, key: &ModelKey, doing: Doing) -> Result<Claim, CommandError> {
        self.check_ready()?;
        let mut busy = self.busy();
        if let Some(doing) = busy.get(key) {
            return Err(CommandError::Busy { key: key.clone(), doing: *doing });
        }
        busy.insert(key.clone(), doing);
        Ok(Claim { repository: Arc::clone(self), key: key.clone() })
    }

    fn busy(&self) -> MutexGuard<'_, BTreeMap<ModelKey, Doing>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Claim {
    repository: Arc<Repository>,
    key: ModelKey,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.repository.busy().remove(&self.key);
    }
}

/// Waits for all who have the model, then for what they left running in its engine, and drops it:
/// when this returns, its memory is given back.
async fn free(mut held: Arc<Model>) {
    let model = loop {
        match Arc::try_unwrap(held) {
            Ok(model) => break model,
            Err(shared) => held = shared,
        }
        tokio::time::sleep(LOOK).await;
    };
    while Arc::strong_count(&model.engine) > 1 {
        tokio::time::sleep(LOOK).await;
    }
    // Taking gigabytes apart may take a while.
    if let Err(lost) = tokio::task::spawn_blocking(move || drop(model)).await {
        tracing::error!(error = %lost, "a model's memory may not be given back");
    }
}
