//! Threads of the real binary: as many as the container has cores, or as it is told to have; and a typed
//! end where the system gives fewer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, Reason};
use serde_json::json;

use crate::support::DEADLINE;
use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::{self, Process};

fn place() -> Place {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["validation"] = json!({"mode": "Disabled"});
    place.write_manifest(&[entry]);
    place
}

/// One of the cores that this process may run on.
fn a_core() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim().split([',', '-']).next().unwrap().to_owned()
}

fn names(worker: &Process) -> Vec<String> {
    let tasks = PathBuf::from(format!("/proc/{}/task", worker.id().as_raw_nonzero()));
    let names = fs::read_dir(tasks).unwrap().map(|task| {
        // A thread may end while it is looked at.
        fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    });
    names.collect()
}

/// The names of a worker's threads, once all have theirs: a thread gives it to itself, and has that of
/// the main one before.
async fn threads(worker: &Process) -> Vec<String> {
    let named = async {
        loop {
            let names = names(worker);
            if names.iter().filter(|name| name.starts_with("lamplighter")).count() == 1 {
                return names;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, named).await.expect("the threads begin")
}

/// A process that may use one core has one, however many the machine has. The standard library looks
/// at the cores that a process may run on and at the quotas of its cgroups, of both versions
/// (<https://doc.rust-lang.org/std/thread/fn.available_parallelism.html>).
#[tokio::test]
async fn a_batch_runs_for_each_core_that_the_process_may_use_or_as_many_as_a_flag_says() {
    let place = place();
    let on_one = format!("exec taskset --cpu-list {}", a_core());
    for (more, computing, tokenizing) in [(&[][..], 1, 2), (&["--compute-threads", "3"], 3, 3)] {
        let worker = process::serving_after(&on_one, place.path(), more);
        let worker = Process::start_as(worker).await;
        Http::one().ready_is(worker.admin, StatusCode::OK).await;
        let names = threads(&worker).await;
        let count = |begin| names.iter().filter(|name| name.starts_with(begin)).count();
        assert_eq!((count("compute-"), count("tokenize-")), (computing, tokenizing), "{names:?}");
    }
}

/// A cgroup whose processes may use so much of the machine's cores, as those of a container with a CPU
/// limit (<https://docs.kernel.org/admin-guide/cgroup-v2.html>,
/// <https://docs.kernel.org/scheduler/sched-bwc.html>). Removed when dropped.
struct Quota(PathBuf);

impl Quota {
    fn of_one_core() -> Self {
        const PERIOD: &str = "100000";
        let name = format!("lamplighter-quota-{}", std::process::id());
        let legacy = Path::new("/sys/fs/cgroup/cpu");
        let (above, files): (&Path, &[(&str, &str)]) = if legacy.exists() {
            (legacy, &[("cpu.cfs_period_us", PERIOD), ("cpu.cfs_quota_us", PERIOD)])
        } else {
            let root = Path::new("/sys/fs/cgroup");
            let given = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap();
            assert!(given.contains("cpu"), "the machine gives cgroups no controller for the CPU");
            (root, &[("cpu.max", "100000 100000")])
        };
        let quota = Self(above.join(name));
        fs::create_dir(&quota.0).expect("root makes a cgroup");
        for (file, value) in files {
            fs::write(quota.0.join(file), value).expect("the cgroup has a quota");
        }
        quota
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let begun = Instant::now();
        // A process that was killed is in it for a moment still.
        while let Err(error) = fs::remove_dir(&self.0) {
            if begun.elapsed() > DEADLINE {
                eprintln!("{} stays: {error}", self.0.display());
                return;
            }
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
#[ignore = "makes a cgroup, which takes root"]
async fn a_batch_runs_for_each_core_of_the_containers_limit_however_many_the_machine_has() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(cores > 1, "a machine of one core has no less to give");
    let place = place();
    let quota = Quota::of_one_core();
    let within = format!("echo $$ >{}/cgroup.procs; exec", quota.0.display());
    for (before, expected) in [(within.as_str(), 1), ("exec", cores)] {
        let worker = process::serving_after(before, place.path(), &[]);
        let worker = Process::start_as(worker).await;
        Http::one().ready_is(worker.admin, StatusCode::OK).await;
        let names = threads(&worker).await;
        let count = names.iter().filter(|name| name.starts_with("compute-")).count();
        assert_eq!(count, expected, "{names:?}");
        worker.terminate();
        worker.ended().await;
    }
}

#[tokio::test]
async fn a_worker_that_cannot_have_its_threads_ends_with_a_reason_that_says_so() {
    let place = place();
    // Stacks of a gibibyte, of which there is room for a few dozen.
    let little = "ulimit -v 33554432; exec env RUST_MIN_STACK=1073741824 TOKIO_WORKER_THREADS=1";
    let more = ["--compute-threads", "1000"];
    let ended = process::to_end(process::serving_after(little, place.path(), &more)).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let words = fs::read_to_string(place.termination_log()).unwrap();
    let failure = Failure::from_termination_message(&words).expect(&words);
    assert_eq!(failure.reason, Reason::ThreadsUnavailable);
    assert!(failure.message.starts_with("the thread compute-"), "{failure}");
}
