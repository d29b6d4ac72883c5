//! Killed in the middle of a download, again and again.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::stage::{Row, Stage, cache_of, partial, resolve_line};
use crate::support::artifact::{Tiny, tiny};
use crate::support::process::BINARY;

const KILLS: u64 = 20;
const NAME: &str = "killed";

/// The process is killed at moments of a fixed, even spread over what a whole run takes; after
/// each nothing is visible that is not whole, and in the end it succeeds.
pub(crate) async fn killed_at_random_moments(stage: &Stage) -> Row {
    // Large enough for several requests, with a head that the model does not need.
    let floats = 6 << 20;
    let large = Tiny::new().with(|model| {
        let head = tiny::Tensor::floats(&[floats], std::iter::repeat_n(0.5, floats));
        model.tensors.insert("classifier.weight".to_owned(), head);
    });
    let place = stage.place(NAME, |folder| large.write(folder), |_| {});
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
    stage.row("killed twenty times while it downloads", "resolve", None, got, true, &place)
}
