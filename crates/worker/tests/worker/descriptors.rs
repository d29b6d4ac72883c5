//! A worker that has no file descriptor left for another connection.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::{Ended, Process};
use crate::support::raw::Raw;

const WAITING: &str = "no connection can be accepted: they wait";

/// What a worker may take to close the connection of an answer on its admin port.
const CLOSED: Duration = Duration::from_millis(300);

async fn start() -> (Process, Http) {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["validation"] = json!({"mode": "Disabled"});
    place.write_manifest(&[entry]);
    let worker = Process::start(place.path(), &["--drain-delay-seconds", "0"]).await;
    let http = Http::one();
    http.ready_is(worker.admin, StatusCode::OK).await;
    (worker, http)
}

/// From now on the worker has descriptors for `more` connections.
async fn leave(more: usize, worker: &Process) {
    tokio::time::sleep(CLOSED).await;
    let limit = limit_for(more, worker);
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    prlimit(Some(worker.id()), Resource::Nofile, limit).unwrap();
}

/// The limit is on a descriptor's number, and the lowest free one is taken.
fn limit_for(more: usize, worker: &Process) -> u64 {
    let open = format!("/proc/{}/fd", worker.id().as_raw_pid());
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap().parse::<u64>().unwrap()
    };
    let open: BTreeSet<u64> = std::fs::read_dir(open).unwrap().map(number).collect();
    (0..).filter(|number| !open.contains(number)).nth(more).unwrap()
}

async fn accepted(address: SocketAddr) -> Raw {
    let mut client = Raw::connect(address).await;
    client.list().await;
    client
}

/// A connection that the system completed, with a request.
async fn waiting(address: SocketAddr) -> Raw {
    let mut client = Raw::connect(address).await;
    client.embed("the lamp").await;
    client
}

fn times_told(ended: &Ended) -> usize {
    ended.log.iter().filter(|entry| entry["message"] == WAITING).count()
}

#[tokio::test]
async fn without_descriptors_connections_wait_and_it_is_told_once() {
    let (mut worker, _http) = start().await;
    leave(2, &worker).await;
    let first = accepted(worker.serving).await;
    let _second = accepted(worker.serving).await;
    let mut third = waiting(worker.serving).await;
    worker.logged(WAITING).await;
    // Several tries that must not each be told.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(first);
    let answer = third.answer("}}").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");

    let mut fourth = waiting(worker.serving).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(third);
    let answer = fourth.answer("}}").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    worker.terminate();
    let ended = worker.ended().await;
    assert_eq!((ended.status.code(), times_told(&ended)), (Some(0), 0), "{ended:?}");
}

#[tokio::test]
async fn a_descriptor_of_an_idle_connection_goes_to_one_that_waits() {
    let (worker, _http) = start().await;
    leave(1, &worker).await;
    let mut idle = accepted(worker.serving).await;
    let answer = waiting(worker.serving).await.answer("}}").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    idle.is_closed().await;
    worker.terminate();
    assert_eq!(worker.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn who_waits_for_a_descriptor_is_answered_though_the_listener_closes() {
    let (mut worker, http) = start().await;
    let mut busy = [Raw::connect(worker.serving).await, Raw::connect(worker.serving).await];
    for client in &mut busy {
        client.begin_to_embed(1).await;
    }
    http.status_when(worker.admin, |report| report.in_flight == 2).await;
    leave(0, &worker).await;
    let mut third = waiting(worker.serving).await;
    worker.logged(WAITING).await;
    worker.terminate();
    worker.logged("told to stop").await;
    // The listener has closed by now, and there was no descriptor.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for client in &mut busy {
        client.0.write_all(b" ").await.unwrap();
        let answer = client.last_answer().await;
        assert!(answer.starts_with("http/1.1 400"), "no JSON, but no longer busy: {answer}");
    }
    let answer = third.last_answer().await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let ended = worker.ended().await;
    assert_eq!((ended.status.code(), times_told(&ended)), (Some(0), 0), "{ended:?}");
}
