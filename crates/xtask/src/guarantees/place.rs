//! How a test shows something, and where it runs: both follow from its file and from why it is
//! ignored, so that neither can be claimed.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::e2e;

/// How and where.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) level: Level,
    pub(super) runs: Runs,
}

/// How a test shows something, from what is quick and exact to what is slow and real.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// One decision, from a world to a plan.
    Table,
    /// Every order of events in small worlds.
    Exploration,
    /// A simulated cluster: written-down runs, and long random ones.
    Simulation,
    /// A function, or a rendered object.
    Unit,
    /// The schema and its rules, without an apiserver.
    Schema,
    /// Requests that the operator makes, and what becomes of every answer.
    Wire,
    /// A worker that listens, loads and answers.
    Worker,
    /// A real Kubernetes with the real images.
    Cluster,
    /// The same, while requests are sent and counted.
    Load,
}

/// Where a test runs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Runs {
    /// In every run.
    Quick,
    /// In every run, and with a hundred times as many cases in the long one.
    QuickAndLong,
    /// In CI.
    Ci,
    /// In no tier, with the command for it.
    ByHand(&'static str, &'static str),
}

/// Why a test is ignored, and what runs it then.
const IGNORED: [(&str, Runs); 4] = [
    ("needs the cluster: cargo xtask test", Runs::Ci),
    ("needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM", Runs::Ci),
    (
        "takes minutes; `cargo xtask explore --long` does the same",
        Runs::ByHand("cargo xtask explore --long", "takes minutes"),
    ),
    (
        "needs the cluster: cargo xtask e2e rollouts",
        Runs::ByHand("cargo xtask e2e rollouts", "all together take longer than CI may"),
    ),
];

/// Beginnings of paths; the first that fits counts.
const LEVELS: [(&str, Level); 13] = [
    ("crates/plan/tests/", Level::Table),
    ("crates/sim/tests/explore.rs", Level::Exploration),
    ("crates/sim/tests/", Level::Simulation),
    ("crates/api/tests/", Level::Schema),
    ("crates/operator/tests/operator/pipeline.rs", Level::Wire),
    ("crates/operator/tests/operator/rollouts.rs", Level::Wire),
    ("crates/operator/tests/operator/edge.rs", Level::Wire),
    ("crates/operator/tests/operator/lease.rs", Level::Wire),
    ("crates/worker/tests/", Level::Worker),
    ("crates/worker/src/server_tests.rs", Level::Worker),
    ("e2e/stories/tests/stories/", Level::Cluster),
    ("e2e/stories/tests/rollouts/", Level::Load),
    ("crates/", Level::Unit),
];

/// Where a test of this file stands.
pub(super) fn of(
    file: &Path,
    test: &str,
    ignored: Option<&str>,
    is_property: bool,
) -> Result<Place> {
    let level = LEVELS.iter().find(|(path, _)| file.to_string_lossy().starts_with(path));
    let Some((_, level)) = level else {
        bail!("nobody says how a test of this file shows anything")
    };
    let runs = match ignored {
        None if is_property => Runs::QuickAndLong,
        None => Runs::Quick,
        Some(_) if *level == Level::Load && test.starts_with(e2e::CI) => Runs::Ci,
        Some(why) => match IGNORED.iter().find(|(known, _)| *known == why) {
            Some((_, runs)) => *runs,
            None => bail!("nobody says what runs a test that is ignored because it {why}"),
        },
    };
    Ok(Place { level: *level, runs })
}

// === impl Level ===

impl Level {
    /// Every level with what it is, as the table's legend says it.
    pub(super) const LEGEND: [(Self, &'static str); 9] = [
        (Self::Table, "one decision, from a world to a plan"),
        (Self::Exploration, "a check that holds in every state of every order of events"),
        (
            Self::Simulation,
            "a simulated cluster: runs that somebody wrote down, and long random ones",
        ),
        (Self::Unit, "a function, or an object as it is rendered"),
        (Self::Schema, "the schema and its rules"),
        (Self::Wire, "the operator's requests, and what becomes of each answer"),
        (Self::Worker, "a worker that listens, loads and answers"),
        (Self::Cluster, "a real Kubernetes with the real images and the chart"),
        (Self::Load, "the same, while requests are sent, checked and counted"),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "decision table",
            Self::Exploration => "exploration",
            Self::Simulation => "simulation",
            Self::Unit => "unit",
            Self::Schema => "apiserver schema",
            Self::Wire => "wire test",
            Self::Worker => "running worker",
            Self::Cluster => "real cluster",
            Self::Load => "real cluster under load",
        })
    }
}

// === impl Runs ===

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quick => f.write_str("quick"),
            Self::QuickAndLong => f.write_str("quick, long"),
            Self::Ci => f.write_str("ci"),
            Self::ByHand(command, why) => write!(f, "by hand: `{command}` ({why})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "needs the cluster: cargo xtask e2e rollouts";

    fn told(file: &str, test: &str, ignored: Option<&str>) -> (String, String) {
        let place = of(Path::new(file), test, ignored, false).unwrap();
        (place.level.to_string(), place.runs.to_string())
    }

    #[test]
    fn level_and_run_follow_from_file_and_reason() {
        let of = |level: &str, runs: &str| (level.to_owned(), runs.to_owned());
        let pipeline = "crates/operator/tests/operator/pipeline.rs";
        assert_eq!(told(pipeline, "t", None), of("wire test", "quick"));
        let render = "crates/operator/tests/operator/render.rs";
        assert_eq!(told(render, "t", None), of("unit", "quick"));
        let story = "e2e/stories/tests/stories/quiet.rs";
        let why = Some("needs the cluster: cargo xtask test");
        assert_eq!(told(story, "t", why), of("real cluster", "ci"));
        let scenario = "e2e/stories/tests/rollouts/bad.rs";
        assert_eq!(told(scenario, "ci_t", Some(CLUSTER)), of("real cluster under load", "ci"));
        let by_hand = told(scenario, "t", Some(CLUSTER)).1;
        assert!(by_hand.starts_with("by hand: `cargo xtask e2e rollouts`"), "{by_hand}");
    }

    #[test]
    fn a_property_runs_longer_in_the_long_tier() {
        let place = of(Path::new("crates/protocol/tests/failure.rs"), "t", None, true).unwrap();
        assert_eq!(place.runs, Runs::QuickAndLong);
    }

    #[test]
    fn a_reason_or_a_folder_that_nobody_knows_is_refused() {
        let story = Path::new("e2e/stories/tests/stories/quiet.rs");
        assert!(of(story, "t", Some("is flaky"), false).is_err());
        assert!(of(Path::new("e2e/stories/tests/other/x.rs"), "t", None, false).is_err());
    }
}
