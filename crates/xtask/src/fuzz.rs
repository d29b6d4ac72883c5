//! `cargo xtask fuzz`: files and messages with damage drawn by lot, for as long as it is told.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::exec::Exec;
use crate::term;
use crate::workspace::Workspace;

/// What the compile may take.
const COMPILE: Duration = Duration::from_mins(20);
/// More readers than there are.
const READERS: u32 = 32;

/// Options of `cargo xtask fuzz`.
#[derive(Args, Debug)]
pub(crate) struct FuzzArgs {
    /// How long each reader is given damaged input.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// The first seed. A failure names its own: with that and --reader it is played again, first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this reader, as the table names it.
    #[arg(long, value_name = "NAME")]
    reader: Option<String>,
}

/// Runs the test that plays the damages and shows its table; fails where it fails.
pub(crate) fn run(workspace: &Workspace, args: &FuzzArgs) -> Result<()> {
    let mut command = Exec::new("fuzz", "cargo")
        .args(["test", "--workspace", "--test", "fuzz", "--", "--nocapture"])
        .env("LAMPLIGHTER_FUZZ_SECONDS", args.seconds.to_string())
        .env("LAMPLIGHTER_FUZZ_SEED", args.seed.to_string())
        .dir(workspace.root())
        .deadline(COMPILE + Duration::from_secs(args.seconds.into()) * READERS);
    if let Some(reader) = &args.reader {
        command = command.env("LAMPLIGHTER_FUZZ_READER", reader);
    }
    let (status, output) = command.run_to_end(&workspace.logs())?;
    let begin = output.text.find("READER ");
    let begin = begin.with_context(|| format!("no table in {}", output.log.display()))?;
    term::line(output.text[begin..].split("\ntest ").next().unwrap_or_default().trim_end());
    if !status.success() {
        bail!("a reader failed; the log is {}", output.log.display());
    }
    Ok(())
}
