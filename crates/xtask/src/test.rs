//! `cargo xtask test`: every test of the project, in steps that each have a budget.

mod plan_purity;
pub(crate) mod steps;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::count::Count;
use crate::term;
use crate::workspace::Workspace;

/// Options of `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// How far to go.
    #[arg(long, value_enum, default_value_t = Tier::Ci)]
    tier: Tier,
    /// Runs only these steps; one that needs what another one builds says so. `--list` shows
    /// the names.
    #[arg(long, value_name = "STEP", conflicts_with = "tier")]
    only: Vec<String>,
    /// Shows the steps with their budgets, and runs nothing.
    #[arg(long)]
    list: bool,
    /// On the cluster, runs only the stories whose name contains this.
    #[arg(long, value_name = "TEXT")]
    story: Option<String>,
}

/// Sets of steps; each contains those before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub(crate) enum Tier {
    /// The inner loop: no cluster, no download, no root.
    Quick,
    /// What CI runs.
    Ci,
    /// Everything, also what takes long or needs tools that are not installed for you.
    Long,
}

/// One step of the run.
pub(crate) struct Step {
    /// Its name, as `--only` takes it.
    pub(crate) name: &'static str,
    /// What it shows, in a few words.
    pub(crate) what: &'static str,
    /// The smallest tier that runs it.
    pub(crate) tier: Tier,
    /// Minutes that it may take on 2 cores with nothing built before. A step that takes longer
    /// fails.
    pub(crate) budget: u64,
    run: fn(&Run<'_>) -> Result<Count>,
}

/// What a step is given.
pub(crate) struct Run<'a> {
    /// The checkout.
    pub(crate) workspace: &'a Workspace,
    /// Time that the step may take.
    pub(crate) budget: Duration,
    /// The stories to run; all when none.
    pub(crate) story: Option<&'a str>,
}

/// The steps in the order in which they run: what fails fast comes first.
pub(crate) fn all_steps() -> [Step; 17] {
    use Tier::{Ci, Long, Quick};
    use steps as s;
    [
        step("format", "the code is formatted", Quick, 1, s::format),
        step("purity", "plan depends on nothing", Quick, 1, plan_purity::check),
        step("build", "programs and tests compile", Quick, 16, s::build),
        step("lint", "clippy has nothing to say", Quick, 3, s::lint),
        step("unit", "unit, golden, property and wire tests", Quick, 7, s::unit),
        step("generated", "committed files equal their source", Quick, 1, s::generated),
        step("model", "the real model gives the reference vectors", Ci, 3, s::model),
        step("soak", "memory stays flat under a load that goes on", Ci, 2, s::soak),
        step("clients", "the clients that people use work", Ci, 3, s::clients),
        step("quota", "threads follow a container's CPU limit", Ci, 1, s::quota),
        step("tools", "Kubernetes, containerd, CoreDNS and helm are built", Ci, 16, s::tools),
        step("charts", "chart and kustomize render the same objects", Ci, 1, s::charts),
        step("cluster", "the local cluster is up", Ci, 2, s::cluster),
        step("stories", "user stories on the cluster", Ci, 18, s::stories),
        step("rollouts", "eight rollouts under load, no request lost", Ci, 8, s::rollouts),
        step("properties", "property tests, 100 times as many cases", Long, 60, s::properties),
        step(
            "supply-chain",
            "cargo-deny: advisories, licences, sources",
            Long,
            10,
            s::supply_chain,
        ),
    ]
}

fn step(
    name: &'static str,
    what: &'static str,
    tier: Tier,
    budget: u64,
    run: fn(&Run<'_>) -> Result<Count>,
) -> Step {
    Step { name, what, tier, budget, run }
}

/// Runs the steps that the options ask for.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    let steps = all_steps();
    if args.list {
        term::line(&budget_table(&steps));
        return Ok(());
    }
    for name in &args.only {
        if !steps.iter().any(|step| step.name == name) {
            bail!("there is no step {name:?}; `cargo xtask test --list` shows the names");
        }
    }
    let chosen = |step: &Step| {
        if args.only.is_empty() {
            step.tier <= args.tier
        } else {
            args.only.iter().any(|name| name == step.name)
        }
    };
    let started = Instant::now();
    let mut total = Count::default();
    let mut times = Vec::new();
    for step in steps.iter().filter(|step| chosen(step)) {
        term::step(&format!("test: {} — {}", step.name, step.what));
        let budget = Duration::from_mins(step.budget);
        let run = Run { workspace, budget, story: args.story.as_deref() };
        let begun = Instant::now();
        let count = (step.run)(&run).with_context(|| format!("test step {} failed", step.name))?;
        if begun.elapsed() > budget {
            bail!(
                "test step {} passed but took {} s, more than its budget of {} min; make it \
                 faster or change the table in CONTRIBUTING.md with the reason",
                step.name,
                begun.elapsed().as_secs(),
                step.budget
            );
        }
        term::detail(&format!(
            "{} passed in {} s ({} tests)",
            step.name,
            begun.elapsed().as_secs(),
            count.passed
        ));
        times.push((step, begun.elapsed()));
        total = total + count;
    }
    term::line("");
    for (step, took) in &times {
        term::line(&format!(
            "  {:<13} {:>5} s of {:>2} min",
            step.name,
            took.as_secs(),
            step.budget
        ));
    }
    for step in steps.iter().filter(|step| !chosen(step)) {
        term::line(&format!("  not run: {} ({}); --only {}", step.name, step.what, step.name));
    }
    term::line(&format!("  in all {} s", started.elapsed().as_secs()));
    if times.iter().any(|(step, _)| step.name == "cluster") {
        term::line("  the cluster stays up; take it down with `cargo xtask cluster down`");
    }
    if total.passed == 0 {
        bail!("no test ran");
    }
    term::line(&format!("tests: {} passed, {} failed", total.passed, total.failed));
    Ok(())
}

/// The table that CONTRIBUTING.md holds.
pub(crate) fn budget_table(steps: &[Step]) -> String {
    let mut table = "| step | shows that | tier | minutes |\n|---|---|---|---|\n".to_owned();
    for step in steps {
        let tier = match step.tier {
            Tier::Quick => "quick",
            Tier::Ci => "ci",
            Tier::Long => "long",
        };
        let row = [step.name, step.what, tier, &step.budget.to_string()].join(" | ");
        table.extend(["| ", &row, " |\n"]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributing_holds_the_budget_table() {
        let text = include_str!("../../../CONTRIBUTING.md");
        let table = budget_table(&all_steps());
        assert!(text.contains(&table), "CONTRIBUTING.md must contain:\n{table}");
    }

    #[test]
    fn the_steps_of_the_ci_tier_fit_into_the_limit_of_a_run() {
        let minutes: u64 =
            all_steps().iter().filter(|step| step.tier <= Tier::Ci).map(|step| step.budget).sum();
        // Of 90, and this program compiles before the first step.
        assert!(minutes <= 83, "{minutes}");
    }

    #[test]
    fn step_names_are_distinct() {
        let names: std::collections::BTreeSet<_> =
            all_steps().iter().map(|step| step.name).collect();
        assert_eq!(names.len(), all_steps().len());
    }
}
