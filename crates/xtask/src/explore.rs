//! `cargo xtask explore`: every order of events in the worlds of `crates/sim`, until nothing new is
//! found.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use lamplighter_sim::explore::explore;
use lamplighter_sim::scenario::Scenario;
use lamplighter_sim::worlds;

use crate::term;

/// More states than any world has, and as many as fit into a few gigabytes.
const LIMIT: usize = 10_000_000;

/// Options of `cargo xtask explore`.
#[derive(Args, Debug)]
pub(crate) struct ExploreArgs {
    /// Explores the large worlds too, which takes some minutes and some hundred megabytes.
    #[arg(long)]
    long: bool,
    /// Explores only the worlds whose name contains this, large or not.
    name: Option<String>,
}

/// Explores the worlds that the options ask for.
pub(crate) fn run(args: &ExploreArgs) -> Result<()> {
    let chosen = chosen(args);
    if chosen.is_empty() {
        let name = args.name.as_deref().unwrap_or_default();
        bail!("no world has a name with {name:?}; `cargo xtask explore --long` shows the names");
    }
    let mut states = 0;
    for world in &chosen {
        let started = Instant::now();
        let report = explore(world, LIMIT);
        term::line(&format!(
            "{:24} {:72} {:>8} states {:>9} moves {:>6} ms",
            world.name,
            world.about,
            report.states,
            report.moves,
            started.elapsed().as_millis()
        ));
        if let Some(run) = report.counterexample {
            term::line(&run);
            bail!("world {} breaks a rule; the run above is the shortest that does", world.name);
        }
        if !report.exhausted {
            bail!("world {} has more than {LIMIT} states; make it smaller", world.name);
        }
        states += report.states;
    }
    term::line(&format!("peak memory: {} MiB", peak_memory()? / 1024));
    term::line(&format!(
        "explore: {} worlds exhausted, {states} states, 0 violations",
        chosen.len()
    ));
    Ok(())
}

fn chosen(args: &ExploreArgs) -> Vec<Scenario> {
    let is_chosen = |world: &Scenario| match &args.name {
        Some(name) => world.name.contains(name.as_str()),
        None => args.long || !world.long,
    };
    worlds::all().into_iter().filter(is_chosen).collect()
}

/// The most memory that this process has had, in KiB: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>.
fn peak_memory() -> Result<u64> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    high_water(&status).with_context(|| format!("{path} has no line VmHWM"))
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(long: bool, name: Option<&str>) -> Vec<&'static str> {
        let args = ExploreArgs { long, name: name.map(str::to_owned) };
        chosen(&args).iter().map(|world| world.name).collect()
    }

    #[test]
    fn large_worlds_are_explored_when_asked_for() {
        assert!(names(false, None).len() < names(true, None).len());
        assert!(!names(false, None).contains(&"rolling-1-worse"));
        assert_eq!(names(false, Some("rolling-1")), ["rolling-1", "rolling-1-worse"]);
        assert!(names(false, Some("no such world")).is_empty());
    }

    #[test]
    fn the_high_water_mark_is_read() {
        assert_eq!(high_water("VmPeak:\t 9 kB\nVmHWM:\t  123456 kB\n"), Some(123_456));
        assert_eq!(high_water("VmPeak:\t 9 kB\n"), None);
    }
}
