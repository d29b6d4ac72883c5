//! What each step of `cargo xtask test` does.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lamplighter_cluster::Cluster;

use super::Run;
use crate::count::Count;
use crate::exec::Exec;
use crate::workspace::Profile;
use crate::{charts, e2e, generate, images, model, python, soak, term};

/// Where the requirements of the official OpenAI client are pinned.
const OPENAI_CLIENT: &str = "crates/worker/tests/openai_client/requirements.txt";
/// Where the clients of every family of routes are pinned.
const CLIENTS: &str = "crates/worker/tests/clients/requirements.txt";
/// How many times as many cases the long property tests try.
const LONG_PROPERTY_CASES: &str = "25600";

fn cargo(run: &Run<'_>, what: &str, args: &[&str]) -> Exec {
    Exec::new(what, "cargo").args(args).dir(run.workspace.root()).deadline(run.budget)
}

/// Runs a `cargo test` and counts; a run without a single test is a failure.
pub(crate) fn count_tests(run: &Run<'_>, command: Exec) -> Result<Count> {
    let output = command.run(&run.workspace.logs())?;
    let count = Count::of_libtest(&output.text);
    if count.passed == 0 {
        bail!("no test ran; the log is {}", output.log.display());
    }
    Ok(count)
}

pub(super) fn format(run: &Run<'_>) -> Result<Count> {
    cargo(run, "cargo fmt", &["fmt", "--all", "--check"]).run(&run.workspace.logs())?;
    Ok(Count::passed(1))
}

pub(super) fn build(run: &Run<'_>) -> Result<Count> {
    cargo(run, "build programs and tests", &["build", "--workspace", "--all-targets"])
        .run(&run.workspace.logs())?;
    Ok(Count::default())
}

pub(super) fn lint(run: &Run<'_>) -> Result<Count> {
    cargo(run, "cargo clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        .run(&run.workspace.logs())?;
    Ok(Count::passed(1))
}

pub(super) fn unit(run: &Run<'_>) -> Result<Count> {
    count_tests(
        run,
        cargo(run, "unit tests", &["test", "--workspace", "--all-targets", "--no-fail-fast"]),
    )
}

pub(super) fn properties(run: &Run<'_>) -> Result<Count> {
    count_tests(
        run,
        cargo(run, "long property tests", &["test", "--workspace", "--all-targets"])
            .env("PROPTEST_CASES", LONG_PROPERTY_CASES),
    )
}

pub(super) fn generated(run: &Run<'_>) -> Result<Count> {
    generate::run(run.workspace.root(), true)?;
    Ok(Count::passed(1))
}

pub(super) fn model(run: &Run<'_>) -> Result<Count> {
    let minilm = model::minilm(run.workspace)?;
    count_tests(
        run,
        cargo(
            run,
            "engine and worker with the real model",
            // The whole workspace with one target, and not one package: a package alone would
            // be built with other features of its dependencies, and those once more.
            &[
                "test",
                "--workspace",
                "--test",
                "minilm",
                "--test",
                "broken_artifacts",
                "--test",
                "worker",
                "--",
                "--ignored",
                // Steps of their own.
                "--skip",
                "clients::",
                "--skip",
                QUOTA,
            ],
        )
        .env("LAMPLIGHTER_MINILM", minilm),
    )
}

/// The test that makes a cgroup.
const QUOTA: &str = "threads::a_batch_runs_for_each_core_of_the_containers_limit";

pub(super) fn quota(run: &Run<'_>) -> Result<Count> {
    count_tests(
        run,
        cargo(
            run,
            "the worker in a cgroup with a quota",
            // The whole workspace, as for the model.
            &["test", "--workspace", "--test", "worker", "--", "--ignored", QUOTA],
        ),
    )
}

pub(super) fn clients(run: &Run<'_>) -> Result<Count> {
    let python = python::environment(run.workspace, "clients", CLIENTS)?;
    count_tests(
        run,
        cargo(
            run,
            "the worker and the clients that people use",
            // The whole workspace, as for the model.
            &["test", "--workspace", "--test", "worker", "--", "--ignored", "clients::"],
        )
        .env("LAMPLIGHTER_CLIENTS_PYTHON", python),
    )
}

/// How long the load of CI goes on, and how often models come and go within it.
const SOAK: soak::Load = soak::Load {
    time: Duration::from_mins(1),
    served: soak::Served::Tiny,
    reloads: 50,
    rate: None,
};

pub(super) fn soak(run: &Run<'_>) -> Result<Count> {
    let plot = run.workspace.path(".local/soak.svg");
    let line = soak::soak(run.workspace, SOAK, &plot)?;
    term::detail(&line);
    Ok(Count::passed(1))
}

pub(super) fn tools(run: &Run<'_>) -> Result<Count> {
    Cluster::at(run.workspace.root()).build_tools(&term::Printer)?;
    Ok(Count::default())
}

pub(super) fn charts(run: &Run<'_>) -> Result<Count> {
    let cluster = Cluster::at(run.workspace.root());
    if !cluster.helm().exists() {
        bail!("helm is not built yet; `cargo xtask test --only tools` builds it");
    }
    let checks = charts::check(run.workspace.root(), &cluster.kubectl(), &cluster.helm())?;
    if checks == 0 {
        bail!("no chart check ran");
    }
    Ok(Count::passed(u64::try_from(checks)?))
}

pub(crate) fn cluster(run: &Run<'_>) -> Result<Count> {
    Cluster::at(run.workspace.root()).up(&term::Printer)?;
    Ok(Count::default())
}

pub(super) fn stories(run: &Run<'_>) -> Result<Count> {
    let mut command = suite(run, "user stories", "stories", "3")?;
    if let Some(story) = run.story {
        command = command.args([story]);
    }
    count_tests(run, command)
}

pub(super) fn rollouts(run: &Run<'_>) -> Result<Count> {
    e2e::rollouts(run, Some(e2e::CI))
}

/// A suite of tests on the cluster: `threads` of them at a time.
pub(crate) fn suite(run: &Run<'_>, what: &str, target: &str, threads: &str) -> Result<Exec> {
    let workspace = run.workspace;
    let cluster = Cluster::at(workspace.root());
    let images = images::build(workspace, Profile::Dev)?;
    images.import(&cluster)?;
    let python = python::environment(workspace, "openai", OPENAI_CLIENT)?;
    let minilm = model::minilm(workspace)?;
    let mut command =
        cargo(run, what, &["test", "--workspace", "--test", target, "--no-fail-fast", "--"])
            .args(["--ignored", "--test-threads", threads])
            .deadline(run.budget.max(Duration::from_mins(1)))
            // A story's error names what it waited for; frames of its runtime add nothing.
            .env("RUST_BACKTRACE", "0")
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("LAMPLIGHTER_REPO", workspace.root())
            .env("LAMPLIGHTER_KUBECTL", cluster.kubectl())
            .env("LAMPLIGHTER_HELM", cluster.helm())
            .env("LAMPLIGHTER_AUDIT_LOG", cluster.audit_log())
            .env("LAMPLIGHTER_PYTHON", python)
            .env("LAMPLIGHTER_MINILM", minilm)
            .env("LAMPLIGHTER_OPERATOR_IMAGE", &images.operator.reference)
            .env("LAMPLIGHTER_WORKER_IMAGE", &images.worker.reference)
            .env("LAMPLIGHTER_WORKER_BAKED_IMAGE", &images.worker_baked.reference)
            .env("LAMPLIGHTER_S3_IMAGE", &images.store.reference);
    if let Some(faults) = &images.worker_faults {
        command = command.env("LAMPLIGHTER_WORKER_FAULTS_IMAGE", &faults.reference);
    }
    Ok(command)
}

pub(super) fn supply_chain(run: &Run<'_>) -> Result<Count> {
    cargo(run, "cargo deny", &["deny", "check"])
        .run(&run.workspace.logs())
        .context("cargo-deny is needed: cargo install --locked cargo-deny")?;
    Ok(Count::passed(1))
}
