//! What serving costs: the worker over HTTP beside its own engine in process, and beside infinity.
//!
//! What is measured has one core, what asks it another. On that one core the worker and the engine
//! compute the same texts in turns; what the worker took more is HTTP, JSON, queues and batches.

mod figures;
mod generator;
mod infinity;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::figures::{Figures, InProcess, Served};
use self::generator::{Generator, Load, Server};
use self::infinity::Infinity;
use super::peer::{Peer, Took};
use super::worker::Worker;
use super::workloads::{self, Workload};
use super::{ServeArgs, build, cores, machine, median, target};
use crate::term;
use crate::workspace::{Profile, Workspace};

const START: Duration = Duration::from_mins(10);
const DEADLINE: Duration = Duration::from_mins(5);
/// Open loops, in percent of the requests a second that the worker bore.
const SHARES: [u32; 3] = [25, 50, 75];
/// Texts that are not measured: caches fill, and the worker learns its pace.
const WARM_UP: usize = 64;
const OURS: &str = "/v1/embeddings";

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &ServeArgs) -> Result<()> {
    let mut bench = Bench::start(workspace, args)?;
    let mut worker = Served::default();
    let mut infinity = Served::default();
    for run in 1..=args.runs {
        bench.say(&format!("every text, run {run} of {}", args.runs));
        bench.in_process.measure()?;
        worker.every_text.push(bench.generator.every_text(&bench.ours())?.summary());
        if let Ok(server) = &bench.infinity {
            infinity.every_text.push(bench.generator.every_text(&server.server())?.summary());
        }
    }
    let capacity = median(worker.every_text.iter().map(|pass| pass.answered_per_second));
    let time = Duration::from_secs(args.seconds.into());
    for share in SHARES {
        let rate = capacity * f64::from(share) / 100.0;
        let (mut of_worker, mut of_infinity) = (Load::default(), Load::default());
        for run in 1..=args.runs {
            bench.say(&format!("{share} % of the capacity, run {run} of {}", args.runs));
            of_worker.add(bench.generator.at_rate(&bench.ours(), rate, time)?);
            if let Ok(server) = &bench.infinity {
                of_infinity.add(bench.generator.at_rate(&server.server(), rate, time)?);
            }
        }
        worker.at_rates.insert(share, of_worker.summary());
        infinity.at_rates.insert(share, of_infinity.summary());
    }
    worker.resident_bytes = bench.worker.process.resident_bytes()?;
    if let Ok(server) = &bench.infinity {
        infinity.resident_bytes = server.process.resident_bytes()?;
    }
    let (infinity, not_measured) = match &bench.infinity {
        Ok(_) => (Some(infinity), None),
        Err(reason) => (None, Some(reason.clone())),
    };
    let figures = Figures {
        processor: machine::processor(),
        runs: args.runs,
        seconds: args.seconds,
        texts: bench.w1.texts.len(),
        size: bench.w1.size(),
        in_process: bench.in_process.figures()?,
        worker,
        infinity,
        infinity_not_measured: not_measured,
    };
    if args.json {
        term::line(&serde_json::to_string(&figures)?);
    } else {
        term::line(&figures.tables());
    }
    if args.check { target::check(&figures.targets()) } else { Ok(()) }
}

struct Bench {
    in_process: Engine,
    worker: Worker,
    /// Or why there is none.
    infinity: Result<Infinity, String>,
    generator: Generator,
    w1: Workload,
    quiet: bool,
}

impl Bench {
    fn start(workspace: &Workspace, args: &ServeArgs) -> Result<Self> {
        let logs = workspace.logs();
        let say = |what: &str| say(args.json, what);
        say("building");
        build(workspace)?;
        let folder = workspace.path(".local/bench-serve");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let artifact = folder.join("minilm");
        workloads::copy_model(workspace, &artifact)?;
        let infinity = if args.without_python {
            Err("left out".to_owned())
        } else {
            say("the environment of infinity (several minutes when it is made first)");
            infinity::environment(workspace).map_err(|error| first_line(&error))
        };
        let [core, _] = cores::share(&logs)?;
        say("the engine in process");
        let workloads = folder.join("workloads.json");
        let in_process = Engine::start(workspace, &core, &artifact, &workloads, &folder)?;
        let w1 = workloads::read(&workloads)?.remove("W1").context("there is no W1")?;
        let generator = Generator::of(&w1)?;
        say("the worker");
        let options = [("--revalidation-interval-seconds", "0")];
        let worker = Worker::start(workspace, "serve", &core, &artifact, &options)?;
        let infinity = infinity.and_then(|program| {
            say("infinity");
            let started = Infinity::start(&program, &core, &artifact, &logs);
            let warm = started.and_then(|started| {
                generator.first_texts(&started.server(), WARM_UP)?;
                Ok(started)
            });
            warm.map_err(|error| first_line(&error))
        });
        let bench = Self { in_process, worker, infinity, generator, w1, quiet: args.json };
        if let Err(reason) = &bench.infinity {
            bench.say(&format!("infinity is not measured: {reason}"));
        }
        bench.generator.first_texts(&bench.ours(), WARM_UP)?;
        Ok(bench)
    }

    fn say(&self, what: &str) {
        say(self.quiet, what);
    }

    fn ours(&self) -> Server<'_> {
        Server { address: &self.worker.serving, path: OURS, process: &self.worker.process }
    }
}

/// What failed; the log that it names tells the rest.
fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

fn say(quiet: bool, what: &str) {
    if !quiet {
        term::step(&format!("bench serve: {what}"));
    }
}

/// The engine without a server.
struct Engine {
    program: Peer,
    kernel: String,
    took: Vec<Took>,
    peak: Vec<f64>,
}

impl Engine {
    fn start(
        workspace: &Workspace,
        core: &str,
        artifact: &Path,
        workloads: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let example = workspace.binary("examples/engine-bench", Profile::Dev);
        let args: [OsString; 6] = [
            "--cpu-list".into(),
            core.into(),
            example.into(),
            artifact.into(),
            workloads.into(),
            folder.join("in-process.f32").into(),
        ];
        let log = workspace.logs().join("bench-serve-engine.log");
        let (program, started) = Peer::start(&PathBuf::from("taskset"), &args, log, START)?;
        Ok(Self { program, kernel: started.kernel, took: Vec::new(), peak: Vec::new() })
    }

    /// All texts, tokenizer included.
    fn measure(&mut self) -> Result<()> {
        self.took.push(self.program.ask("W1t", DEADLINE)?);
        self.peak.push(self.program.ask("peak", DEADLINE)?.flops);
        Ok(())
    }

    fn figures(&self) -> Result<InProcess> {
        ensure!(!self.took.is_empty(), "the engine was not measured");
        let of = |field: fn(&Took) -> f64| self.took.iter().map(field).collect();
        Ok(InProcess {
            kernel: self.kernel.clone(),
            tokens_per_second: of(|took| took.tokens_per_second),
            tokens_per_processor_second: of(|took| took.tokens_per_processor_second),
            peak: self.peak.clone(),
            resident_bytes: self.program.resident_bytes()?,
        })
    }
}
