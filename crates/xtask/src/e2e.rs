//! `cargo xtask e2e rollouts`: rollouts under load on the local cluster, and a table of what each
//! took.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::count::Count;
use crate::term;
use crate::test::{Run, steps};
use crate::workspace::Workspace;

/// What the names of the scenarios of CI contain.
pub(crate) const CI: &str = "ci_";
/// How long all scenarios may take.
const LONGEST: Duration = Duration::from_hours(1);

/// What runs on the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum E2eCommand {
    /// Rollouts under load: good ones, bad ones, and ones in which something breaks.
    ///
    /// Brings up the cluster if it is down, builds the images, and asks the Service 20 times a
    /// second while each scenario runs. A request that is lost by routing fails the scenario.
    Rollouts(RolloutsArgs),
}

/// Options of `cargo xtask e2e rollouts`.
#[derive(Args, Debug)]
pub(crate) struct RolloutsArgs {
    /// Which scenarios.
    #[arg(long, value_enum, default_value_t = Set::All)]
    set: Set,
    /// Only those whose test's name contains this.
    #[arg(long, value_name = "TEXT", conflicts_with = "set")]
    scenario: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Set {
    /// All of them, in about half an hour.
    All,
    /// The eight that CI runs.
    Ci,
}

/// A row that a scenario wrote.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    scenario: String,
    to_serving: Option<f64>,
    to_safety: Option<f64>,
    extra_pod_seconds: f64,
    requests: u64,
    rate: f64,
    by_routing: u64,
    to_crashes: u64,
    by_poison: u64,
}

pub(crate) fn run(workspace: &Workspace, command: &E2eCommand) -> Result<()> {
    let E2eCommand::Rollouts(args) = command;
    let run = Run { workspace, budget: LONGEST, story: None };
    steps::cluster(&run)?;
    let filter = match (&args.scenario, args.set) {
        (Some(scenario), _) => Some(scenario.as_str()),
        (None, Set::Ci) => Some(CI),
        (None, Set::All) => None,
    };
    rollouts(&run, filter).map(drop)
}

/// Runs the scenarios whose names contain `filter`, and prints the table of those that passed.
pub(crate) fn rollouts(run: &Run<'_>, filter: Option<&str>) -> Result<Count> {
    let rows = run.workspace.logs().join("rollouts.jsonl");
    match std::fs::remove_file(&rows) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be removed", rows.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let mut command = steps::suite(run, "rollouts under load", "rollouts", "1")?
        .env("LAMPLIGHTER_ROLLOUT_ROWS", &rows);
    if let Some(filter) = filter {
        command = command.args([filter]);
    }
    let counted = steps::count_tests(run, command);
    let text = std::fs::read_to_string(&rows).unwrap_or_default();
    let rows: Vec<Row> = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a row: {line}")))
        .collect::<Result<_>>()?;
    term::line(&table(&rows));
    let count = counted?;
    if rows.is_empty() {
        bail!("no scenario wrote a row");
    }
    Ok(count)
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let seconds = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
    let head = ["scenario", "to serving", "to safety", "pod-s", "requests", "per s", "lost"];
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "{:<24} {:>10} {:>10} {:>7} {:>9} {:>6} {:>5} {:>8} {:>7}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6], "crashed", "poison"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<24} {:>10} {:>10} {:>7.0} {:>9} {:>6.1} {:>5} {:>8} {:>7}",
            row.scenario,
            seconds(row.to_serving),
            seconds(row.to_safety),
            row.extra_pod_seconds,
            row.requests,
            row.rate,
            row.by_routing,
            row.to_crashes,
            row.by_poison
        );
    }
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let _ = write!(
        text,
        "rollouts: {} scenarios, {} requests, {} failed by routing, {} lost to injected crashes, {} wrong from injected poison",
        rows.len(),
        sum(|row| row.requests),
        sum(|row| row.by_routing),
        sum(|row| row.to_crashes),
        sum(|row| row.by_poison)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_with_the_sums() {
        let row = Row {
            scenario: "rolling-2".to_owned(),
            to_serving: Some(12.34),
            to_safety: None,
            extra_pod_seconds: 7.6,
            requests: 400,
            rate: 20.0,
            by_routing: 0,
            to_crashes: 2,
            by_poison: 1,
        };
        let text = table(&[row.clone(), Row { requests: 100, ..row }]);
        assert!(text.contains("rolling-2                      12.3          -"), "{text}");
        assert!(
            text.ends_with(
                "rollouts: 2 scenarios, 500 requests, 0 failed by routing, 4 lost to injected crashes, 2 wrong from injected poison"
            ),
            "{text}"
        );
    }
}
