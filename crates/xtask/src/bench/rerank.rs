//! How fast a cross-encoder scores the passages of a query on the processor, in turns with others that
//! compute the same.

mod figures;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use self::figures::{Figures, Measured, OURS, REFERENCE, Size, WORKLOADS};
use super::peer::{Peer, Took};
use super::workloads::{floats, size};
use super::{RerankArgs, build, machine, python, target};
use crate::exec::Exec;
use crate::workspace::{Profile, Workspace};
use crate::{model, term};

const SCRIPT: &str = "crates/xtask/src/bench/rerank.py";
/// Makes the model.
const MAKER: &str = "crates/xtask/src/bench/cross_encoder.py";
const OTHERS: [&str; 3] = [REFERENCE, "ort-f32", "ort-int8"];
/// Exporting a graph and scoring all queries twice, beside whatever else is running.
const START: Duration = Duration::from_mins(10);
const DEADLINE: Duration = Duration::from_mins(5);

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &RerankArgs) -> Result<()> {
    let bench = Bench::prepare(workspace, args)?;
    let (ours, started) = bench.start_ours(workspace)?;
    let mut programs: Vec<(&str, Peer)> = vec![(OURS, ours)];
    if let Some(python) = &bench.python {
        for other in OTHERS {
            bench.say(&format!("{other} starts"));
            programs.push((other, bench.start_other(workspace, python, other)?));
        }
    }
    let size = bench.size()?;
    let mut peak = Vec::new();
    let mut measured: BTreeMap<String, Measured> = BTreeMap::new();
    for run in 1..=args.runs {
        bench.say(&format!("run {run} of {}", args.runs));
        for workload in WORKLOADS {
            for (name, program) in &mut programs {
                let took = program.ask(workload, DEADLINE)?;
                measured.entry((*name).to_owned()).or_default().add(workload, &took, &size);
            }
        }
        if let Some((_, ours)) = programs.first_mut() {
            peak.push(ours.ask("peak", DEADLINE)?.flops);
        }
    }
    for (name, program) in &programs {
        let measured = measured.entry((*name).to_owned()).or_default();
        measured.resident_bytes = program.resident_bytes()?;
        measured.score_apart = bench.score_apart(name)?;
    }
    let figures = Figures {
        processor: machine::processor(),
        kernel: started.kernel,
        runs: args.runs,
        threads: bench.threads,
        peak,
        size,
        scores: bench.scores()?,
        programs: measured,
    };
    if args.json {
        term::line(&serde_json::to_string(&figures)?);
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
    fn prepare(workspace: &Workspace, args: &RerankArgs) -> Result<Self> {
        let folder = workspace.path(".local/bench-rerank/run");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut bench = Self {
            python: None,
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            folder,
            artifact: workspace.path(".local/bench-rerank/model"),
            logs: workspace.logs(),
            quiet: args.json,
        };
        bench.say("building");
        build(workspace)?;
        if !args.without_python {
            bench.say("the environment of Python (several minutes when it is made first)");
            bench.python = Some(python::environment(workspace)?);
        }
        bench.make_model(workspace)?;
        Ok(bench)
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            term::step(&format!("bench rerank: {what}"));
        }
    }

    /// Made once; made anew when what makes it changes.
    fn make_model(&self, workspace: &Workspace) -> Result<()> {
        let stamp = self.artifact.with_extension("stamp");
        let maker = workspace.path(MAKER);
        let wanted = fs::read_to_string(&maker)
            .with_context(|| format!("cannot read {}", maker.display()))?;
        let is_made = self.artifact.join("model.safetensors").exists()
            && fs::read_to_string(&stamp).is_ok_and(|done| done == wanted);
        if is_made {
            return Ok(());
        }
        let Some(python) = &self.python else {
            bail!(
                "{} is not there, and Python makes it: run once without --without-python",
                self.artifact.display()
            );
        };
        self.say("the model");
        let partial = self.artifact.with_extension("partial");
        for old in [&self.artifact, &partial] {
            if old.exists() {
                fs::remove_dir_all(old)
                    .with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        Exec::new("make a cross-encoder", python)
            .args([&maker, &model::minilm(workspace)?, &partial])
            .env("HF_HUB_OFFLINE", "1")
            .deadline(START)
            .run(&self.logs)?;
        fs::rename(&partial, &self.artifact)
            .with_context(|| format!("cannot make {}", self.artifact.display()))?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }

    fn scores_of(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.f32"))
    }

    fn queries(&self) -> PathBuf {
        self.folder.join("queries.json")
    }

    fn start_ours(&self, workspace: &Workspace) -> Result<(Peer, Took)> {
        let program = workspace.binary("examples/engine-bench", Profile::Dev);
        let args: [OsString; 3] =
            [&self.artifact, &self.queries(), &self.scores_of(OURS)].map(Into::into);
        Peer::start(&program, &args, self.logs.join("bench-rerank.log"), START)
    }

    fn start_other(&self, workspace: &Workspace, python: &Path, kind: &str) -> Result<Peer> {
        let args = [
            workspace.path(SCRIPT).into(),
            kind.into(),
            (&self.artifact).into(),
            self.queries().into(),
            self.scores_of(kind).into(),
            (&self.folder).into(),
            self.threads.to_string().into(),
        ];
        let log = self.logs.join(format!("bench-rerank-{kind}.log"));
        Ok(Peer::start(python, &args, log, START)?.0)
    }

    fn size(&self) -> Result<Size> {
        /// Of a query, the tokens of its pairs.
        #[derive(Deserialize)]
        struct Query {
            ids: Vec<Vec<u32>>,
        }

        let queries: Vec<Query> = serde_json::from_slice(&fs::read(self.queries())?)
            .context("the queries are of another form")?;
        let pairs: Vec<Vec<u32>> = queries.iter().flat_map(|query| query.ids.clone()).collect();
        let (tokens, flops) = size(&pairs);
        Ok(Size { queries: queries.len(), pairs: pairs.len(), tokens, flops })
    }

    /// The lowest and the highest score of the reference.
    fn scores(&self) -> Result<Option<(f32, f32)>> {
        if self.python.is_none() {
            return Ok(None);
        }
        let scores = floats(&self.scores_of(REFERENCE))?;
        let ends = scores
            .iter()
            .fold((f32::MAX, f32::MIN), |(low, high), score| (low.min(*score), high.max(*score)));
        Ok(Some(ends))
    }

    /// The largest difference between a score and the reference's.
    fn score_apart(&self, program: &str) -> Result<Option<f32>> {
        if self.python.is_none() {
            return Ok(None);
        }
        let (found, reference) =
            (floats(&self.scores_of(program))?, floats(&self.scores_of(REFERENCE))?);
        ensure!(
            found.len() == reference.len() && !found.is_empty(),
            "{program} gave {} scores and {REFERENCE} {}",
            found.len(),
            reference.len()
        );
        let apart =
            found.iter().zip(&reference).map(|(found, reference)| (found - reference).abs());
        // A number that is none must not look like agreement, as it would to f32::max.
        Ok(apart.reduce(|most, apart| if apart <= most { most } else { apart }))
    }
}
