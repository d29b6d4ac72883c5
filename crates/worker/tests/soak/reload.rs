//! Models that come and go beside the load: the new version is loaded, becomes what the plain name
//! means, and the old one is unloaded.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::support::artifact::Place;

const TOKEN: &str = "soak-secret";
const ANSWER: Duration = Duration::from_mins(1);

/// Writes the token of the admin listener's repository.
pub(crate) fn token(place: &Place) -> PathBuf {
    let path = place.path().join("admin-token");
    std::fs::write(&path, TOKEN).unwrap();
    path
}

/// So many reloads, spread over the time; how many there were. The flag is set while one goes on.
pub(crate) async fn every(
    admin: SocketAddr,
    artifact: PathBuf,
    time: Duration,
    reloads: u64,
    is_reloading: Arc<AtomicBool>,
) -> Result<u64, String> {
    let begun = Instant::now();
    let parts = u32::try_from(reloads).unwrap_or(u32::MAX).max(1);
    let mut every = tokio::time::interval(time / (parts + 1));
    // Some time without a reload comes after each, however long it took.
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every.tick().await;
    let mut done = 0;
    while done < reloads && begun.elapsed() < time {
        every.tick().await;
        // The first of all was before.
        is_reloading.store(true, Ordering::Release);
        once(admin, &artifact, done + 2).await?;
        is_reloading.store(false, Ordering::Release);
        done += 1;
    }
    Ok(done)
}

/// The version `old` and the one after it.
pub(crate) async fn once(admin: SocketAddr, artifact: &Path, old: u64) -> Result<(), String> {
    let (old, new) = (old.to_string(), (old + 1).to_string());
    let config = super::entry(artifact, &new, true).to_string();
    post(admin, "embedder/load", json!({"parameters": {"config": config}})).await?;
    post(admin, "embedder/unload", json!({"parameters": {"version": old}})).await
}

async fn post(admin: SocketAddr, what: &str, body: Value) -> Result<(), String> {
    let request = hyper::Request::post(format!("http://{admin}/v2/repository/models/{what}"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Full::from(body.to_string()))
        .map_err(|error| error.to_string())?;
    let client: Client<_, Full<hyper::body::Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let answer = async {
        let answer = client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() { Ok(()) } else { Err(format!("{what}: {status} {text}")) }
    };
    tokio::time::timeout(ANSWER, answer).await.map_err(|_| format!("{what}: no answer"))?
}
