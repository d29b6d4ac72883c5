//! A worker that breaks on purpose, for tests of what surrounds it.
//!
//! What happens is a list in the environment variable `WORKER_FAULTS`, with commas between. Its name
//! is one that a `ModelDeployment` may set; those that begin with `LAMPLIGHTER_` are the operator's.
//!
//! | word | what happens |
//! |---|---|
//! | `slow-load=SECONDS` | each model waits so long in its phase Fetch |
//! | `never-ready` | each model stays in its phase `WarmUp` until the start deadline |
//! | `out-of-memory` | memory is filled before the load, until the kernel kills the process |
//! | `fill-cache-at-load=MIB` | a file so large is written to the cache before the load |
//! | `fill-cache=MIB` | the same, one second after the worker became ready |
//! | `crash-after=SECONDS` | the process aborts so long after it became ready |
//! | `poison-after=SECONDS` | so long after it became ready, answers turn wrong for good |
//! | `wrong-answers` | answers are wrong from the beginning |
//! | `revalidate-every=SECONDS` | no fault: the cases are asked again so often |
//!
//! Each process counts anew. A word that is not in the table ends it with exit code 2, because a
//! test whose fault does not happen proves nothing. Faults are for `serve`: the other commands
//! only check the words.

mod harm;
mod list;
mod poison;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lamplighter_engine::Engine;
use lamplighter_protocol::{Failure, Phase, WorkerState};

use crate::board::{Board, Tracker};
use crate::{entry, failure};
pub use list::{Faults, FaultsError};
use poison::Poisonable;

/// Where the list stands.
const ENV_FAULTS: &str = "WORKER_FAULTS";
/// How often it is looked whether the worker is ready.
const LOOK: Duration = Duration::from_millis(10);
/// How long after it became ready the cache is filled.
const BEFORE_FILL: Duration = Duration::from_secs(1);

/// Empty unless [`main`] ran: the program that is shipped has no faults even where it is built
/// with them.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

struct Installed {
    faults: Faults,
    /// Answers are wrong from now on.
    poisoned: Arc<AtomicBool>,
    /// The first of the models that load has done what is done once.
    harmed: AtomicBool,
}

/// As [`entry::main`], with the faults that the environment lists.
pub fn main() -> ExitCode {
    let list = std::env::var_os(ENV_FAULTS).unwrap_or_default();
    match Faults::parse(&list) {
        Ok(faults) => {
            let installed = Installed {
                faults,
                poisoned: Arc::new(AtomicBool::new(faults.wrong_answers)),
                harmed: AtomicBool::new(false),
            };
            // Nothing else installs, and a process has one main.
            INSTALLED.get_or_init(|| installed);
            entry::main()
        }
        Err(error) => {
            let problem = format!("{ENV_FAULTS}: {error}");
            eprintln!("{problem}");
            let line: Vec<OsString> = std::env::args_os().collect();
            entry::unusable(&line, &problem)
        }
    }
}

/// A model is about to be fetched.
pub(crate) async fn before_load(cache: &Path, tracker: &Tracker) -> Result<(), Failure> {
    let Some(Installed { faults, harmed, .. }) = INSTALLED.get() else {
        return Ok(());
    };
    tracker.begin(Phase::Fetch);
    if !harmed.swap(true, Ordering::Relaxed) {
        if let Some(mib) = faults.fill_cache_at_load {
            fill(cache, "at-load", mib).await?;
        }
        if faults.out_of_memory {
            tokio::task::spawn_blocking(harm::out_of_memory)
                .await
                .map_err(|lost| failure::of_lost_task(&lost))?;
        }
    }
    if let Some(time) = faults.slow_load {
        tokio::time::sleep(time).await;
    }
    Ok(())
}

/// A model is in its place, and about to be warmed up and asked its cases.
pub(crate) async fn before_gates(engine: Arc<dyn Engine>, tracker: &Tracker) -> Arc<dyn Engine> {
    let Some(Installed { faults, poisoned, .. }) = INSTALLED.get() else {
        return engine;
    };
    if faults.never_ready {
        tracker.begin(Phase::WarmUp);
        return std::future::pending().await;
    }
    Arc::new(Poisonable::new(engine, Arc::clone(poisoned)))
}

/// How often the cases are asked again.
pub(crate) fn revalidation_interval(given: Option<Duration>) -> Option<Duration> {
    INSTALLED.get().and_then(|installed| installed.faults.revalidate_every).or(given)
}

/// Lets happen what is to happen after the worker became ready. Must be called inside a tokio
/// runtime; does not wait.
pub(crate) fn when_ready(board: &Arc<Board>, cache: &Path) {
    let Some(Installed { faults, poisoned, .. }) = INSTALLED.get() else {
        return;
    };
    tracing::warn!(?faults, "this is the worker of tests: it breaks on purpose");
    if let Some(time) = faults.crash_after {
        after(board, time, async {
            tracing::error!("a fault: the process aborts");
            std::process::abort();
        });
    }
    if let Some(time) = faults.poison_after {
        after(board, time, async {
            tracing::error!("a fault: answers are wrong from now on");
            poisoned.store(true, Ordering::Relaxed);
        });
    }
    if let Some(mib) = faults.fill_cache {
        let cache = cache.to_owned();
        after(board, BEFORE_FILL, async move {
            if let Err(failed) = fill(&cache, "when-ready", mib).await {
                failure::log(&failed);
            }
        });
    }
}

/// Does it so long after the worker became ready; never, if it does not.
fn after(board: &Arc<Board>, time: Duration, fault: impl Future<Output = ()> + Send + 'static) {
    let board = Arc::clone(board);
    tokio::spawn(async move {
        loop {
            match board.state() {
                WorkerState::Starting => tokio::time::sleep(LOOK).await,
                WorkerState::Ready => break,
                WorkerState::Draining | WorkerState::Failed | WorkerState::Unknown => return,
            }
        }
        tokio::time::sleep(time).await;
        fault.await;
    });
}

/// A full disk is what the fault is for, so that it ends nothing here.
async fn fill(cache: &Path, when: &'static str, mib: u64) -> Result<(), Failure> {
    let cache = cache.to_owned();
    let filled = tokio::task::spawn_blocking(move || harm::fill(&cache, when, mib))
        .await
        .map_err(|lost| failure::of_lost_task(&lost))?;
    match filled {
        Ok(path) => tracing::error!(path = %path.display(), mib, "a fault: the cache was filled"),
        Err(error) => tracing::error!(mib, %error, "a fault: the cache is full"),
    }
    Ok(())
}
