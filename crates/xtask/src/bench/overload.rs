//! What a worker does with three times the load that it can bear.
//!
//! The worker has one core, the generator another: `taskset` keeps them apart. First as many
//! connections as keep the core busy ask one after the other, which is the capacity; then requests
//! come three times as fast, whether the ones before were answered or not.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::asking::{Load, Request, ask, millis, p99};
use super::table::{aligned, row};
use super::worker::{Artifact, Worker, request};
use super::{OverloadArgs, build, cores, process};
use crate::term;
use crate::workspace::Workspace;

/// Connections that find the capacity: some compute, some are on their way.
const BUSY: u32 = 16;
/// Connections of the overload. Most wait in the worker's queue at any time, so there are more than
/// that holds.
const MANY: u32 = 160;
const QUEUE: &str = "32";
const TIMES: f64 = 3.0;
/// Not measured: caches fill, and the worker learns its pace.
const WARM_UP: Duration = Duration::from_secs(2);
/// What is to be reached.
const GOODPUT: f64 = 0.95;
const REFUSAL_MILLIS: f64 = 5.0;

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &OverloadArgs) -> Result<()> {
    let bench = Bench::start(workspace)?;
    let time = Duration::from_secs(args.seconds.into());
    term::step("bench overload: the capacity");
    bench.ask(BUSY, None, WARM_UP)?;
    let before = bench.ask(BUSY, None, time)?;
    term::step("bench overload: three times as much");
    let refusals = bench.refusals()?;
    let over = bench.ask(MANY, Some(before.rate() * TIMES), time)?;
    let refusals = bench.refusals()?.since(&refusals);
    let after = bench.ask(BUSY, None, time)?;
    // The machine may have changed meanwhile: the capacity is what stood on both sides.
    let capacity = f64::midpoint(before.rate(), after.rate());
    let mut rows =
        vec![row(["", "asked/s", "200/s", "429/s", "other", "200 p99 ms", "429 p99 ms"])];
    for (name, load) in [("capacity", &before), ("3x", &over), ("capacity again", &after)] {
        rows.push(row([
            name,
            &format!("{:.0}", load.asked as f64 / load.seconds),
            &format!("{:.1}", load.rate()),
            &format!("{:.0}", load.refused.len() as f64 / load.seconds),
            &load.other.to_string(),
            &format!("{:.1}", millis(p99(&load.answered))),
            &format!("{:.2}", millis(p99(&load.refused))),
        ]));
    }
    term::line(&aligned(&rows));
    let p99 = refusals.p99_millis().context("nothing was refused: it was no overload")?;
    term::line(&format!(
        "overload: capacity {capacity:.1} req/s; at 3x goodput {:.1}; 429 p99 {p99:.2} ms",
        over.rate()
    ));
    if over.rate() < GOODPUT * capacity || p99 >= REFUSAL_MILLIS {
        bail!(
            "the goodput must be {GOODPUT} of the capacity, and refusals within {REFUSAL_MILLIS} ms"
        );
    }
    Ok(())
}

struct Bench {
    worker: Worker,
    body: String,
    _artifact: Artifact,
}

impl Bench {
    fn start(workspace: &Workspace) -> Result<Self> {
        build(workspace)?;
        let [core, _] = cores::share(&workspace.logs())?;
        let artifact = Artifact::minilm(workspace)?;
        let options = [("--max-queued-texts", QUEUE)];
        let worker = Worker::start(workspace, "overload", &core, &artifact.path, &options)?;
        Ok(Self { worker, body: request(), _artifact: artifact })
    }

    fn ask(&self, connections: u32, rate: Option<f64>, time: Duration) -> Result<Load> {
        let address = &self.worker.serving;
        let never = AtomicBool::new(false);
        let request = Request { address, path: "/v1/embeddings", body: &self.body, over: &never };
        ask(request, connections, rate, time)
    }

    /// How long the worker took for refusals so far, by its own clock.
    fn refusals(&self) -> Result<Refusals> {
        let text = process::text(&format!("http://{}/metrics", self.worker.admin))?;
        Refusals::read(&text)
    }
}

/// `lamplighter_worker_refusal_seconds`: upper bounds in seconds, and how many were at most so long.
#[derive(Debug, Default)]
struct Refusals(Vec<(f64, f64)>);

impl Refusals {
    fn read(text: &str) -> Result<Self> {
        let buckets = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("lamplighter_worker_refusal_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.parse().ok()?))
        });
        let buckets: Vec<(f64, f64)> = buckets.collect();
        if buckets.is_empty() {
            bail!("the worker does not tell how fast it refuses")
        }
        Ok(Self(buckets))
    }

    fn since(mut self, before: &Self) -> Self {
        for (bucket, before) in self.0.iter_mut().zip(&before.0) {
            bucket.1 -= before.1;
        }
        self
    }

    /// Between the bounds of its bucket as if all were spread evenly; none if there was no refusal.
    fn p99_millis(&self) -> Option<f64> {
        let all = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = all * 0.99;
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let below = at.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or_default();
        let (bound, count) = *self.0.get(at)?;
        if bound.is_infinite() {
            return Some(f64::INFINITY);
        }
        let part = (rank - below.1) / (count - below.1).max(1.0);
        Some((below.0 + (bound - below.0) * part) * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_lies_in_its_bucket() {
        let page = |counts: [u32; 3]| {
            format!(
                "# TYPE x histogram\nlamplighter_worker_refusal_seconds_bucket{{le=\"0.001\"}} {}\n\
                 lamplighter_worker_refusal_seconds_bucket{{le=\"0.005\"}} {}\n\
                 lamplighter_worker_refusal_seconds_bucket{{le=\"+Inf\"}} {}\n",
                counts[0], counts[1], counts[2]
            )
        };
        let p99 = |counts| Refusals::read(&page(counts)).unwrap().p99_millis();
        assert_eq!(p99([0, 0, 0]), None);
        assert!((p99([100, 100, 100]).unwrap() - 0.99).abs() < 1e-9);
        assert!((p99([98, 100, 100]).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(p99([0, 98, 100]), Some(f64::INFINITY));
        let before = Refusals::read(&page([100, 100, 200])).unwrap();
        let after = Refusals::read(&page([200, 200, 300])).unwrap().since(&before);
        assert!(after.p99_millis().unwrap() < 1.0, "what was before does not count");
        assert!(Refusals::read("").is_err());
    }
}
