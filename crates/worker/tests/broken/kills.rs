//! Killed in the middle of a download, again and again.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::stage::{Row, Stage, cache_of, partial, resolve_line};
use crate::support::artifact::{Tiny, WEIGHTS, tiny};
use crate::support::process::BINARY;

const KILLS: u64 = 20;
const NAME: &str = "killed";
const PROVEN: &str = "proven";
/// What is read of the weights before they are downloaded.
const HEADER: u64 = 64 << 10;

/// Large enough for several requests, with a head that the model does not need.
fn large() -> Tiny {
    let floats = 6 << 20;
    Tiny::new().with(|model| {
        let head = tiny::Tensor::floats(&[floats], std::iter::repeat_n(0.5, floats));
        model.tensors.insert("classifier.weight".to_owned(), head);
    })
}

/// The process is killed at moments of a fixed, even spread over what a whole run takes; after
/// each nothing is visible that is not whole, and in the end it succeeds.
pub(crate) async fn killed_at_random_moments(stage: &Stage) -> Row {
    let place = stage.place(NAME, |folder| large().write(folder), |_| {});
    let cache = cache_of(&place);
    let line = resolve_line(&place, NAME, &cache);
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut survived = 0;
    for _ in 0..KILLS {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut child = Command::new(BINARY)
            .args(&line)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(5 + seed % 150)).await;
        if child.try_wait().unwrap().is_none() {
            child.kill().await.unwrap();
            survived += 1;
        }
        let left = partial(&cache);
        assert!(left.is_empty(), "after a kill: {left:?}");
    }
    assert!(survived > 0, "no run was killed");
    let (said, _) = stage.resolve(&place, NAME, &cache).await;
    let got = Ok(said.map(|failure| failure.reason));
    let fault = "killed twenty times while it downloads";
    stage.row(fault, "resolve", None, got, (true, Vec::new()), &place)
}

/// Another process goes on after the bytes whose sums a killed one had written down.
pub(crate) async fn killed_when_something_is_proven(stage: &Stage) -> Row {
    let fault = "killed when something is proven";
    let place = stage.place(PROVEN, |folder| large().write(folder), |_| {});
    let cache = cache_of(&place);
    let line = resolve_line(&place, PROVEN, &cache);
    let shelf = cache.join(PROVEN).join("1");
    let total = fs::metadata(stage.store.folder(PROVEN).join(WEIGHTS)).unwrap().len();
    let mut there = 0;
    for _ in 0..KILLS {
        let mut child = Command::new(BINARY)
            .args(&line)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while proven(&shelf) == 0 && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().await.unwrap();
        there = proven(&shelf);
        if there > 0 {
            break;
        }
        // It was faster than the look at it.
        fs::remove_dir_all(&shelf).unwrap();
    }
    assert!(0 < there && there <= total, "{there} of {total} bytes were proven");
    stage.store.forget();
    let (said, _) = stage.resolve(&place, PROVEN, &cache).await;
    let sent = stage.store.sent(WEIGHTS);
    let got = match said {
        None if sent > total - there + HEADER => {
            Err(format!("{sent} of {total} bytes were sent, though {there} were proven"))
        }
        said => Ok(said.map(|failure| failure.reason)),
    };
    stage.row(fault, "resolve", None, got, (true, Vec::new()), &place)
}

/// How many bytes of the weights a partial download has sums for.
fn proven(shelf: &Path) -> u64 {
    let entries = fs::read_dir(shelf).into_iter().flatten().flatten();
    let journals =
        entries.filter_map(|entry| fs::read_to_string(entry.path().join(".ranges")).ok());
    let lengths = journals.flat_map(|journal| {
        let length = |line: &str| -> Option<u64> {
            line.strip_suffix(WEIGHTS)?.split_whitespace().nth(1)?.parse().ok()
        };
        journal.lines().filter_map(length).collect::<Vec<_>>()
    });
    lengths.max().unwrap_or_default()
}
