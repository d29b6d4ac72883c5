//! What answers take while a new version is loaded beside the one that gives them.
//!
//! The worker has one core, the generator another. As many connections as keep the core busy ask one
//! after the other all the time; now and then a new version is loaded, becomes what the plain name means,
//! and the old one is unloaded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::asking::{Request, Timed, ask, millis, p99, sleep};
use super::client::{Client, Code};
use super::table::{aligned, row};
use super::worker::{Artifact, MODEL, Worker, request};
use super::{ReloadArgs, build, cores};
use crate::term;
use crate::workspace::Workspace;

/// Connections that keep the core busy.
const BUSY: u32 = 16;
/// Not measured: caches fill, and the worker learns its pace.
const WARM_UP: Duration = Duration::from_secs(2);
/// Between two reloads, to compare with.
const CALM: Duration = Duration::from_secs(3);
/// The longest that a reload may take.
const RELOAD: Duration = Duration::from_secs(30);
const TOKEN: &str = "bench";
/// What is to be stayed below.
const TIMES: f64 = 2.0;

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &ReloadArgs) -> Result<()> {
    let bench = Bench::start(workspace)?;
    term::step("bench reload: versions replace each other under full load");
    let over = AtomicBool::new(false);
    let request = Request {
        address: &bench.worker.serving,
        path: "/v1/embeddings",
        body: &bench.body,
        over: &over,
    };
    ask(request, BUSY, None, WARM_UP)?;
    let (loads, load) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(request, BUSY, None, Duration::MAX));
        let loads = bench.reload(args.reloads);
        over.store(true, Ordering::Relaxed);
        (loads, asking.join())
    });
    let loads = loads?;
    let Ok(load) = load else { bail!("the generator panicked") };
    let load = load?;
    let figures = Figures::of(&load.answered, &loads);
    term::line(&figures.table());
    let lost = load.asked - load.answered.len() as u64;
    term::line(&figures.line(lost));
    if lost > 0 || figures.ratio() >= TIMES {
        bail!(
            "no request may be lost, and the p99 must stay below {TIMES} times what it is without"
        );
    }
    Ok(())
}

struct Bench {
    worker: Worker,
    artifact: Artifact,
    body: String,
}

impl Bench {
    fn start(workspace: &Workspace) -> Result<Self> {
        build(workspace)?;
        let [core, _] = cores::share(&workspace.logs())?;
        let artifact = Artifact::minilm(workspace)?;
        let token = artifact.folder.path().join("token");
        std::fs::write(&token, TOKEN)?;
        let token = token.display().to_string();
        let options = [("--admin-token-file", token.as_str())];
        let worker = Worker::start(workspace, "reload", &core, &artifact.path, &options)?;
        Ok(Self { worker, artifact, body: request() })
    }

    /// When versions were loading.
    fn reload(&self, times: u32) -> Result<Vec<[Instant; 2]>> {
        let mut loads = Vec::new();
        for old in 1..=times {
            sleep(CALM);
            let begun = Instant::now();
            let config = self.entry(old + 1).to_string();
            self.command("load", &json!({"parameters": {"config": config}}))?;
            let took = begun.elapsed();
            if took > RELOAD {
                bail!("a version took {took:?} to load, {RELOAD:?} are allowed");
            }
            loads.push([begun, Instant::now()]);
            self.command("unload", &json!({"parameters": {"version": old.to_string()}}))?;
        }
        Ok(loads)
    }

    fn entry(&self, version: u32) -> Value {
        json!({"name": MODEL, "version": version.to_string(), "task": "Embedding", "default": true,
            "source": {"uri": format!("image://{}", self.artifact.path.display())}})
    }

    fn command(&self, what: &str, body: &Value) -> Result<()> {
        let mut client = Client::new(&self.worker.admin).with_bearer(TOKEN);
        let path = format!("/v2/repository/models/{MODEL}/{what}");
        match client.post(&path, &body.to_string()).with_context(|| what.to_owned())? {
            Code::Ok => Ok(()),
            other => bail!("{what} was answered with {other:?}"),
        }
    }
}

/// What answers took.
#[derive(Debug)]
struct Figures {
    /// Of how many, and the p99 in milliseconds.
    without: (usize, f64),
    during: (usize, f64),
    loads: usize,
    /// How long they took on average.
    load_seconds: f64,
}

impl Figures {
    /// Between the first load and the last; what was there before is warm-up, and what comes after
    /// nothing to compare with.
    fn of(answers: &[Timed], loads: &[[Instant; 2]]) -> Self {
        let within = |timed: &&Timed, [from, to]: &[Instant; 2]| {
            timed.at >= *from && timed.at <= *to + timed.took
        };
        let is_during = |timed: &&Timed| loads.iter().any(|load| within(timed, load));
        let measured = |timed: &&Timed| {
            let (first, last) = (loads.first(), loads.last());
            first
                .zip(last)
                .is_some_and(|(first, last)| timed.at + CALM >= first[0] && timed.at <= last[1])
        };
        let measured: Vec<&Timed> = answers.iter().filter(measured).collect();
        let (during, without): (Vec<&Timed>, Vec<&Timed>) =
            measured.into_iter().partition(is_during);
        let figure = |times: Vec<&Timed>| (times.len(), millis(p99(times)));
        let seconds: f64 = loads.iter().map(|[from, to]| (*to - *from).as_secs_f64()).sum();
        Self {
            without: figure(without),
            during: figure(during),
            loads: loads.len(),
            load_seconds: seconds / loads.len().max(1) as f64,
        }
    }

    fn ratio(&self) -> f64 {
        self.during.1 / self.without.1
    }

    fn table(&self) -> String {
        let mut rows = vec![row(["", "answers", "p99 ms"])];
        for (name, (count, p99)) in [("without", self.without), ("while one loads", self.during)] {
            rows.push(row([name, &count.to_string(), &format!("{p99:.1}")]));
        }
        aligned(&rows)
    }

    fn line(&self, lost: u64) -> String {
        format!(
            "reload: {} versions, {:.1} s each, {lost} requests lost; p99 {:.1} ms without, {:.1} ms \
             while one loads, {:.2} times",
            self.loads,
            self.load_seconds,
            self.without.1,
            self.during.1,
            self.ratio()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_a_load_that_went_on_while_it_was_made() {
        let begin = Instant::now() + Duration::from_mins(1);
        let at = |millis| begin + Duration::from_millis(millis);
        let timed = |millis, took| Timed { at: at(millis), took: Duration::from_millis(took) };
        let loads = [[at(4_000), at(5_000)], [at(9_000), at(10_000)]];
        let answers = [
            timed(900, 700),
            timed(1_100, 10),
            timed(3_999, 20),
            timed(4_001, 90),
            timed(5_050, 100),
            timed(5_050, 40),
            timed(9_500, 80),
            timed(10_500, 900),
        ];
        let figures = Figures::of(&answers, &loads);
        assert_eq!((figures.without, figures.during), ((3, 40.0), (3, 100.0)));
        assert!((figures.ratio() - 2.5).abs() < 1e-9 && (figures.load_seconds - 1.0).abs() < 1e-9);
        assert!(figures.line(0).ends_with(
            "0 requests lost; p99 40.0 ms without, 100.0 ms while one loads, 2.50 times"
        ));
    }
}
