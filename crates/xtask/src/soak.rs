//! `cargo xtask soak`: a load that goes on, and whether the worker's memory stays flat under it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::exec::Exec;
use crate::workspace::Workspace;
use crate::{model, term};

/// What the compile may take.
const COMPILE: Duration = Duration::from_mins(20);
/// From a run of two hours on it is judged by its slope; one reload a minute there, and at least as
/// many as a short run has.
const RELOADS: u32 = 50;

/// Options of `cargo xtask soak`.
#[derive(Args, Debug)]
pub(crate) struct SoakArgs {
    /// How long. Below two hours, resident memory may span 8 MB and rise by 2 MB once it has
    /// settled; from then on its slope, of means of five minutes and with the 95 % that it is sure to, must
    /// be below 1 MB an hour. In any case the peak of the later reloads may be 2 MB above that of the
    /// earlier ones.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(2..=10_080))]
    minutes: u32,
    /// What is served.
    #[arg(long, value_enum, default_value_t = Served::Minilm)]
    model: Served,
    /// How often a new version is loaded beside the old one, made the default, and the old one
    /// unloaded. Of all-MiniLM-L6-v2 at most every 20 seconds, which leaves time between two.
    #[arg(long, default_value_t = RELOADS)]
    reloads: u32,
    /// Requests a second at most, which leaves the machine to others. Unset: as many as are answered.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Where the picture of the run goes.
    #[arg(long, default_value = ".local/soak.svg", value_name = "FILE")]
    plot: PathBuf,
}

/// What is served under the load.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Served {
    /// A model of a few kilobytes, which shows what is not the model's.
    Tiny,
    /// all-MiniLM-L6-v2.
    Minilm,
}

/// Runs it for minutes.
pub(crate) fn run(workspace: &Workspace, args: &SoakArgs) -> Result<()> {
    let load = Load {
        time: Duration::from_mins(args.minutes.into()),
        served: args.model,
        reloads: match args.model {
            Served::Tiny => args.reloads,
            Served::Minilm => args.reloads.min(args.minutes * 60 / 20),
        },
        rate: args.rate,
    };
    let line = soak(workspace, load, &workspace.root().join(&args.plot))?;
    term::line(&line);
    term::detail(&format!("the picture is {}", args.plot.display()));
    Ok(())
}

/// What goes on for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) time: Duration,
    pub(crate) served: Served,
    pub(crate) reloads: u32,
    /// Requests a second at most.
    pub(crate) rate: Option<u32>,
}

/// Runs it; the line that sums it up. What is not flat is an error.
pub(crate) fn soak(workspace: &Workspace, load: Load, plot: &std::path::Path) -> Result<String> {
    let Load { time, served, reloads, rate } = load;
    let mut command = Exec::new("soak", "cargo")
        .args(["test", "--workspace", "--test", "soak", "--", "--nocapture"])
        .env("LAMPLIGHTER_SOAK_SECONDS", time.as_secs().to_string())
        .env("LAMPLIGHTER_SOAK_RELOADS", reloads.to_string())
        .env("LAMPLIGHTER_SOAK_RATE", rate.unwrap_or(0).to_string())
        .env("LAMPLIGHTER_SOAK_PLOT", plot)
        .dir(workspace.root())
        .deadline(COMPILE + time);
    if served == Served::Minilm {
        command = command.env("LAMPLIGHTER_SOAK_ARTIFACT", model::minilm(workspace)?);
    }
    let (status, output) = command.run_to_end(&workspace.logs())?;
    let line = output.text.lines().find(|line| line.starts_with("soak: "));
    let line = line.with_context(|| format!("no result in {}", output.log.display()))?;
    if !status.success() {
        bail!("{line}; the log is {}", output.log.display());
    }
    Ok(line.to_owned())
}
