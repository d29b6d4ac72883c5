//! Threads for what must not be in the way of requests.
//!
//! A load computes: it sums, converts and packs weights, and warms up. Where all cores answer
//! requests, the kernel gives such a thread about a tenth of what it gives one that answers: enough
//! to come to an end.

use std::io;
use std::sync::{Mutex, PoisonError};

use lamplighter_protocol::{Failure, Reason};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A weight of 110, where 0 has 1024
/// (<https://github.com/torvalds/linux/blob/master/kernel/sched/core.c>, `sched_prio_to_weight`). It
/// is each thread's, not the process's: `setpriority` says so of Linux
/// (<https://man7.org/linux/man-pages/man2/setpriority.2.html>, "C library/kernel differences"), and
/// threads that such a thread starts have it as well.
const NICE: i32 = 10;

/// A runtime whose threads all have a low priority; there is none before it is needed.
#[derive(Debug, Default)]
pub(super) struct Background(Mutex<Option<Runtime>>);

impl Background {
    /// Does it on such threads, what it calls blocking included.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>, Failure> {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = match &mut *runtime {
            Some(runtime) => runtime,
            none => none.insert(start().map_err(|error| {
                let message = format!("there are no threads for loading a model: {error}");
                Failure::new(Reason::ThreadsUnavailable, message)
            })?),
        };
        Ok(runtime.spawn(work))
    }
}

fn start() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .on_thread_start(be_nice)
        .enable_all()
        .build()
}

/// A sandbox may forbid it; a load is then as urgent as a request.
fn be_nice() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "a thread that loads models runs with the priority of requests");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let runtime = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Dropping it would wait, which a thread of another runtime must not.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nice value of the calling thread: field 19 of its `stat`
    /// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
    fn nice() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.split(' ').nth(16).unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_is_started_in_the_background_and_what_that_starts_is_nice_and_nothing_else() {
        let own = nice();
        let background = Background::default();
        let found = background.spawn(async {
            let blocking = tokio::task::spawn_blocking(|| {
                let started = std::thread::spawn(nice).join().unwrap();
                [nice(), started]
            });
            (nice(), blocking.await.unwrap())
        });
        let (worker, blocking) = found.unwrap().await.unwrap();
        let nice = |nice: &String| *nice == NICE.to_string();
        assert!([&worker].into_iter().chain(&blocking).all(nice), "{worker} {blocking:?}");
        assert_eq!(self::nice(), own);
    }
}
