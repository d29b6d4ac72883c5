//! How fast models compute on the processor, in turns with others that compute the same.

mod figures;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::figures::{Figures, IN_FLOATS, Measured, OURS};
use super::peer::{Peer, Took};
use super::workloads::{self, floats};
use super::{EngineArgs, build, machine, python, target};
use crate::term;
use crate::workspace::{Profile, Workspace};

const SCRIPT: &str = "crates/xtask/src/bench/engine.py";
const OTHERS: [&str; 5] = ["st-f32", "st-bf16", "st-autocast", "ort-f32", "ort-int8"];
/// Whose vectors the others' are compared with.
const REFERENCE: &str = "st-f32";
/// As tokens and as texts.
const WORKLOADS: [&str; 5] = ["W1", "W2", "W3", "W1t", "W3t"];
/// Exporting a graph and computing a workload the first time, beside whatever else is running.
const START: Duration = Duration::from_mins(10);
const DEADLINE: Duration = Duration::from_mins(5);

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &EngineArgs) -> Result<()> {
    let bench = Bench::prepare(workspace, args)?;
    let mut programs: Vec<(&str, Peer)> = Vec::new();
    let mut kernels = BTreeMap::new();
    let (ours, started) = bench.start_ours(workspace, OURS, None)?;
    programs.push((OURS, ours));
    if !started.kernel.ends_with("-f32") {
        let (ours, started) = bench.start_ours(workspace, IN_FLOATS, Some("f32"))?;
        programs.push((IN_FLOATS, ours));
        kernels.insert(IN_FLOATS, started.kernel);
    }
    kernels.insert(OURS, started.kernel);
    if let Some(python) = &bench.python {
        for other in OTHERS {
            bench.say(&format!("{other} starts"));
            programs.push((other, bench.start_other(workspace, python, other)?));
        }
    }
    let sizes = bench.sizes()?;
    let mut peak = Vec::new();
    let mut measured: BTreeMap<String, Measured> = BTreeMap::new();
    for run in 1..=args.runs {
        bench.say(&format!("run {run} of {}", args.runs));
        for workload in WORKLOADS {
            for (name, program) in &mut programs {
                let took = program.ask(workload, DEADLINE)?;
                measured.entry((*name).to_owned()).or_default().add(workload, &took);
            }
        }
        if let Some((_, ours)) = programs.first_mut() {
            peak.push(ours.ask("peak", DEADLINE)?.flops);
        }
    }
    for (name, program) in &programs {
        let measured = measured.entry((*name).to_owned()).or_default();
        measured.resident_bytes = program.resident_bytes()?;
        measured.min_cosine = bench.min_cosine(name)?;
    }
    let figures = Figures {
        processor: machine::processor(),
        kernels,
        runs: args.runs,
        threads: bench.threads,
        peak,
        sizes,
        programs: measured,
    };
    if args.json {
        term::line(&serde_json::to_string(&figures.report())?);
    } else {
        term::line(&figures.tables());
    }
    if args.check { target::check(&figures.targets()) } else { Ok(()) }
}

struct Bench {
    python: Option<PathBuf>,
    threads: usize,
    /// Where things are written.
    folder: PathBuf,
    artifact: PathBuf,
    logs: PathBuf,
    quiet: bool,
}

impl Bench {
    fn prepare(workspace: &Workspace, args: &EngineArgs) -> Result<Self> {
        let logs = workspace.logs();
        let folder = workspace.path(".local/bench-engine");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut bench = Self {
            python: None,
            threads,
            artifact: folder.join("minilm"),
            folder,
            logs,
            quiet: args.json,
        };
        bench.say("building");
        build(workspace)?;
        if !args.without_python {
            bench.say("the environment of Python (several minutes when it is made first)");
            bench.python = Some(python::environment(workspace)?);
        }
        workloads::copy_model(workspace, &bench.artifact)?;
        Ok(bench)
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            term::step(&format!("bench engine: {what}"));
        }
    }

    fn vectors(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.f32"))
    }

    fn workloads(&self) -> PathBuf {
        self.folder.join("workloads.json")
    }

    /// With the fastest kernel, or with the fastest one of a precision.
    fn start_ours(
        &self,
        workspace: &Workspace,
        name: &str,
        precision: Option<&str>,
    ) -> Result<(Peer, Took)> {
        let program = workspace.binary("examples/engine-bench", Profile::Dev);
        let mut args: Vec<OsString> =
            [&self.artifact, &self.workloads(), &self.vectors(name)].map(Into::into).into();
        args.extend(precision.map(Into::into));
        Peer::start(&program, &args, self.logs.join(format!("bench-engine-{name}.log")), START)
    }

    fn start_other(&self, workspace: &Workspace, python: &Path, kind: &str) -> Result<Peer> {
        let args = [
            workspace.path(SCRIPT).into(),
            kind.into(),
            (&self.artifact).into(),
            self.workloads().into(),
            self.vectors(kind).into(),
            (&self.folder).into(),
            self.threads.to_string().into(),
            step(kind).to_string().into(),
        ];
        let log = self.logs.join(format!("bench-engine-{kind}.log"));
        Ok(Peer::start(python, &args, log, START)?.0)
    }

    /// Of each workload its tokens, and the floating-point operations of the network.
    fn sizes(&self) -> Result<BTreeMap<String, (f64, f64)>> {
        let workloads = workloads::read(&self.workloads())?;
        Ok(workloads.into_iter().map(|(name, workload)| (name, workload.size())).collect())
    }

    /// Between the vectors of W1 and the reference's, which have length 1.
    fn min_cosine(&self, program: &str) -> Result<Option<f64>> {
        if self.python.is_none() {
            return Ok(None);
        }
        let (found, reference) =
            (floats(&self.vectors(program))?, floats(&self.vectors(REFERENCE))?);
        let texts = (reference.len() / 384).div_ceil(step(program));
        ensure!(found.len() == texts * 384, "{program} gave another number of vectors");
        let rows = found.chunks_exact(384).zip(reference.chunks_exact(384).step_by(step(program)));
        let cosine = |(found, reference): (&[f32], &[f32])| {
            let sum = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            sum(found, reference) / (sum(found, found) * sum(reference, reference)).sqrt()
        };
        Ok(rows.map(cosine).reduce(f64::min))
    }
}

/// Every how many texts a program computes: where the processor has no instructions for 16 bits, torch
/// takes a hundred times as long as in 32.
fn step(program: &str) -> usize {
    let of_16_bits = ["st-bf16", "st-autocast"].contains(&program);
    if of_16_bits && !machine::has_any(&["avx512_bf16", "amx_bf16"]) { 32 } else { 1 }
}
