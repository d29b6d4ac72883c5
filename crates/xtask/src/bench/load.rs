//! From files to ready.

mod figures;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use figures::{Figures, Start};

use super::machine::Machine;
use super::process::{Running, free_address, page};
use super::python;
use super::{LoadArgs, build, median, target};
use crate::exec::Exec;
use crate::workspace::{Profile, Workspace};
use crate::{images, model, term};

/// How many models come from the store.
const MODELS: u32 = 8;
/// The store: how late its answers are, and how many bytes a second a connection carries.
const LATENCY: &str = "20";
const BYTES_PER_SECOND: u32 = 100_000_000;
/// Requests at a time that the worker sends at most, as its defaults have it.
const CONNECTIONS: &str = "8";
const KEYS: (&str, &str) = ("bench", "bench-secret");
const BUCKET: &str = "models";
const DEADLINE: Duration = Duration::from_mins(3);

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &LoadArgs) -> Result<()> {
    let bench = Bench::prepare(workspace)?;
    let python = if args.without_python {
        None
    } else {
        say(args, "the environment of Python (several minutes when it is made first)");
        Some(python::environment(workspace)?)
    };
    say(args, "what the machine can do");
    let machine = Machine::measure(&bench.artifact.join("model.safetensors"), &bench.folder)?;
    let store_rate = bench.store_rate()?;
    let mut starts: [Vec<Start>; 3] = Default::default();
    for run in 1..=args.runs {
        say(args, &format!("run {run} of {}", args.runs));
        starts[0].push(bench.warm()?);
        starts[1].push(bench.stored(&[])?);
        starts[2].push(bench.stored(&[
            "--models-at-a-time",
            "1",
            "--load-threads",
            "1",
            "--max-download-bytes-in-flight",
            "1",
        ])?);
    }
    let [warm, together, one_by_one] = starts.map(|starts| middle(&starts));
    let python_of = |folders: &[PathBuf]| {
        let load = |python| python::load(workspace, python, folders, args.runs);
        python.as_ref().map(load).transpose()
    };
    say(args, "Python");
    let figures = Figures {
        machine,
        runs: args.runs,
        warm,
        together,
        one_by_one,
        store_rate,
        python_one: python_of(std::slice::from_ref(&bench.artifact))?,
        python_eight: python_of(&vec![bench.artifact.clone(); MODELS as usize])?,
    };
    if args.json {
        term::line(&serde_json::to_string(&figures)?);
    } else {
        term::line(&figures.tables());
    }
    if args.check { target::check(&figures.targets()) } else { Ok(()) }
}

fn say(args: &LoadArgs, what: &str) {
    if !args.json {
        term::step(&format!("bench load: {what}"));
    }
}

/// What is loaded, and by which programs.
struct Bench {
    worker: PathBuf,
    store: PathBuf,
    logs: PathBuf,
    /// Where things are written.
    folder: PathBuf,
    /// The model with its golden file.
    artifact: PathBuf,
    /// The store's root.
    root: PathBuf,
}

impl Bench {
    fn prepare(workspace: &Workspace) -> Result<Self> {
        let logs = workspace.logs();
        build(workspace)?;
        let folder = workspace.path(".local/bench");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let bench = Self {
            worker: workspace.binary("lamplighter-worker", Profile::Dev),
            store: workspace.binary("lamplighter-s3", Profile::Dev),
            logs,
            artifact: folder.join("minilm"),
            root: folder.join("store"),
            folder,
        };
        model::copy_tree(&model::minilm(workspace)?, &bench.artifact)?;
        Exec::new("record the golden file", &bench.worker)
            .args(["golden", "--artifact"])
            .args([&bench.artifact])
            .deadline(DEADLINE)
            .run(&bench.logs)?;
        for version in 1..=MODELS {
            let path = bench.root.join(format!("{BUCKET}/minilm/{version}"));
            model::copy_tree(&bench.artifact, &path)?;
        }
        Ok(bench)
    }

    /// One model from a folder whose files were just read.
    fn warm(&self) -> Result<Start> {
        let uri = format!("image://{}", self.artifact.display());
        self.start(&[json!({"uri": uri})], &[], &[], None)
    }

    /// All models from the store, into a cache that is empty.
    fn stored(&self, flags: &[&str]) -> Result<Start> {
        let (store, endpoint) = self.serve()?;
        let sources: Vec<Value> = (1..=MODELS)
            .map(|version| json!({"uri": format!("s3://{BUCKET}/minilm/{version}")}))
            .collect();
        let envs = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", KEYS.0),
            ("AWS_SECRET_ACCESS_KEY", KEYS.1),
            ("AWS_REGION", "us-east-1"),
        ];
        self.start(&sources, flags, &envs, Some(&store))
    }

    fn serve(&self) -> Result<(Running, String)> {
        let address = free_address()?.to_string();
        let rate = BYTES_PER_SECOND.to_string();
        let args = [
            "--root",
            &self.root.display().to_string(),
            "--listen",
            &address,
            "--in-memory",
            "--latency",
            LATENCY,
            "--bytes-per-second",
            &rate,
        ]
        .map(str::to_owned);
        let envs = [("AWS_ACCESS_KEY_ID", KEYS.0), ("AWS_SECRET_ACCESS_KEY", KEYS.1)];
        let mut store = Running::start(&self.store, args, &envs, &self.logs.join("bench-s3.log"))?;
        let endpoint = format!("http://{address}");
        store.until_answered(&format!("{endpoint}/healthz"), DEADLINE)?;
        Ok((store, endpoint))
    }

    /// A worker, until it is ready.
    fn start(
        &self,
        sources: &[Value],
        flags: &[&str],
        envs: &[(&str, &str)],
        store: Option<&Running>,
    ) -> Result<Start> {
        let cache = tempfile::tempdir_in(&self.folder)?;
        let manifest = self.folder.join("manifest.json");
        fs::write(&manifest, manifest_of(sources).to_string())?;
        let (serving, admin) = (free_address()?.to_string(), free_address()?.to_string());
        let path = |path: &Path| path.display().to_string();
        let mut args = vec!["serve".to_owned()];
        for (flag, value) in [
            ("--manifest", path(&manifest)),
            ("--listen", serving),
            ("--admin-listen", admin.clone()),
            ("--cache-dir", path(cache.path())),
            ("--termination-log", path(&self.folder.join("termination-log"))),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        let before = store.map(Running::cpu_seconds).transpose()?.unwrap_or_default();
        let log = self.logs.join("bench-worker.log");
        let envs = [envs, &images::WORKER_ALLOCATOR].concat();
        let mut worker = Running::start(&self.worker, args, &envs, &log)?;
        let took = worker.until_answered(&format!("http://{admin}/readyz"), DEADLINE)?;
        let cpu_seconds = worker.cpu_seconds()?;
        let after = store.map(Running::cpu_seconds).transpose()?.unwrap_or_default();
        let report = page(&format!("http://{admin}/status"))?;
        Ok(Start {
            seconds: took.as_secs_f64(),
            cpu_seconds,
            store_cpu_seconds: after - before,
            ..told(&report)?
        })
    }

    /// Bytes a second that curl gets from the store over as many connections as the worker has,
    /// with nothing done to them.
    fn store_rate(&self) -> Result<f64> {
        let (_store, endpoint) = self.serve()?;
        let url = format!("{endpoint}/{BUCKET}/minilm/[1-{MODELS}]/model.safetensors");
        let begun = Instant::now();
        Exec::new("curl from the store", "curl")
            .args(["--silent", "--show-error", "--fail", "--parallel", "--parallel-immediate"])
            .args(["--parallel-max", CONNECTIONS, "--aws-sigv4", "aws:amz:us-east-1:s3"])
            .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(["--user", &format!("{}:{}", KEYS.0, KEYS.1), "--output", "/dev/null", &url])
            .deadline(DEADLINE)
            .run(&self.logs)?;
        let size = fs::metadata(self.artifact.join("model.safetensors"))?.len();
        Ok((size * u64::from(MODELS)) as f64 / begun.elapsed().as_secs_f64())
    }
}

fn manifest_of(sources: &[Value]) -> Value {
    let model = |(at, source): (usize, &Value)| {
        json!({"name": "minilm", "version": (at + 1).to_string(), "task": "Embedding",
            "default": at == 0, "source": source})
    };
    let models: Vec<Value> = sources.iter().enumerate().map(model).collect();
    json!({"format": 1, "deployment": "bench/load", "revision": "bench", "device": "Cpu",
        "models": models})
}

/// What the worker says of its start.
fn told(report: &Value) -> Result<Start> {
    let mut start = Start::default();
    for model in report["models"].as_array().context("a report without models")? {
        start.bytes += model["facts"]["bytes"].as_f64().context("a model without size")?;
        for phase in model["phases"].as_array().context("a model without phases")? {
            let name = phase["phase"].as_str().context("a phase without name")?;
            let sum = start.phases.entry(name.to_owned()).or_default();
            sum.0 += phase["seconds"].as_f64().unwrap_or_default();
            sum.1 += phase["bytes"].as_f64().unwrap_or_default();
        }
    }
    match report["memory"]["readyBytes"].as_f64() {
        Some(peak) => start.peak_bytes = peak,
        None => bail!("the worker does not tell its memory"),
    }
    Ok(start)
}

fn middle(starts: &[Start]) -> Start {
    let of = |field: &dyn Fn(&Start) -> f64| median(starts.iter().map(field));
    let names = starts.first().into_iter().flat_map(|start| start.phases.keys());
    let phase = |name: &String| {
        let part = |part: fn(&(f64, f64)) -> f64| {
            of(&|start: &Start| start.phases.get(name).map(part).unwrap_or_default())
        };
        (name.clone(), (part(|sum| sum.0), part(|sum| sum.1)))
    };
    Start {
        seconds: of(&|start| start.seconds),
        cpu_seconds: of(&|start| start.cpu_seconds),
        store_cpu_seconds: of(&|start| start.store_cpu_seconds),
        bytes: of(&|start| start.bytes),
        peak_bytes: of(&|start| start.peak_bytes),
        phases: names.map(phase).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_summed_over_its_models() {
        let model = json!({"facts": {"bytes": 100}, "phases": [
            {"phase": "Read", "seconds": 0.5, "bytes": 90, "done": true},
            {"phase": "WarmUp", "seconds": 0.25, "done": true},
        ]});
        let report = json!({"models": [model, model], "memory": {"readyBytes": 300}});
        let start = told(&report).unwrap();
        assert!((start.bytes - 200.0).abs() < 1e-9 && (start.peak_bytes - 300.0).abs() < 1e-9);
        assert_eq!(start.phases["Read"], (1.0, 180.0));
        assert_eq!(start.phases["WarmUp"], (0.5, 0.0));
        assert!(told(&json!({"models": [model]})).is_err(), "its memory is missing");
    }
}
