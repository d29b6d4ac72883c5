//! `cargo xtask mutants`: the tests of the rollout held against seeded faults. Each is put into a
//! copy of the code, alone; the tables, or else the search through the worlds, have to find it.

mod seeded;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::exec::{Exec, Output};
use crate::term;
use crate::workspace::Workspace;
use seeded::{MUTANTS, Mutant};

/// How long it may take to compile the copy, or to run its tests.
const DEADLINE: Duration = Duration::from_mins(10);
/// What the copy consists of, besides the two files of the workspace.
const CRATES: [&str; 2] = ["crates/plan", "crates/sim"];

/// Options of `cargo xtask mutants`.
#[derive(Args, Debug)]
pub(crate) struct MutantsArgs {
    /// Only the mutants whose name contains this.
    name: Option<String>,
}

/// Tests that a mutant may be found by, cheapest first.
const SUITES: [Suite; 2] = [
    Suite { name: "the tables", package: "lamplighter-plan", test: "rollout" },
    Suite { name: "the search", package: "lamplighter-sim", test: "explore" },
];

struct Suite {
    name: &'static str,
    package: &'static str,
    test: &'static str,
}

/// Seeds one fault after the other.
pub(crate) fn run(workspace: &Workspace, args: &MutantsArgs) -> Result<()> {
    let is_chosen =
        |mutant: &&Mutant| args.name.as_deref().is_none_or(|name| mutant.name.contains(name));
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        bail!("no mutant has a name with {:?}", args.name.as_deref().unwrap_or_default());
    }
    for mutant in &chosen {
        mutant.text(workspace.root())?;
    }
    let copy = Copied::make(workspace)?;
    term::step("mutants: the code as it is");
    for suite in &SUITES {
        if let Some(finding) = copy.finding(suite)? {
            bail!("{} fail without a seeded fault: {finding}", suite.name);
        }
    }
    let mut missed = Vec::new();
    for mutant in &chosen {
        term::step(&format!("mutants: {} — {}", mutant.name, mutant.what));
        let started = Instant::now();
        let caught = copy.caught(mutant).with_context(|| format!("mutant {}", mutant.name))?;
        if let Some(by) = caught {
            term::detail(&format!("caught in {} s by {by}", started.elapsed().as_secs()));
        } else {
            term::detail("not caught");
            missed.push(mutant.name);
        }
    }
    term::line(&format!("mutants: {} of {} caught", chosen.len() - missed.len(), chosen.len()));
    if !missed.is_empty() {
        bail!("no test sees the difference: {}", missed.join(", "));
    }
    Ok(())
}

impl Mutant {
    /// The file with the fault in it.
    fn text(&self, root: &Path) -> Result<String> {
        let path = self.path(root);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {} for mutant {}", path.display(), self.name))?;
        match text.matches(self.find).count() {
            1 => Ok(text.replace(self.find, self.replace)),
            found => bail!(
                "mutant {}: its text occurs {found} times in {}, not once; update it in \
                 crates/xtask/src/mutants/seeded.rs",
                self.name,
                self.file
            ),
        }
    }

    fn path(&self, root: &Path) -> PathBuf {
        root.join("crates/plan/src/rollout").join(self.file)
    }
}

/// A copy of the two crates as a workspace of their own.
struct Copied {
    root: PathBuf,
    logs: PathBuf,
}

impl Copied {
    fn make(workspace: &Workspace) -> Result<Self> {
        let root = workspace.path("target/mutants");
        for part in CRATES {
            let to = root.join(part);
            if to.exists() {
                std::fs::remove_dir_all(&to)
                    .with_context(|| format!("cannot remove {}", to.display()))?;
            }
            copy(&workspace.path(part), &to)?;
        }
        for file in ["Cargo.toml", "Cargo.lock"] {
            let text = std::fs::read_to_string(workspace.path(file))
                .with_context(|| format!("cannot read {file}"))?;
            write(&root.join(file), &alone(&text))?;
        }
        Ok(Self { root, logs: workspace.logs() })
    }

    /// What finds the fault; none if nothing does. The copy is as it was afterwards.
    fn caught(&self, mutant: &Mutant) -> Result<Option<String>> {
        let path = mutant.path(&self.root);
        let original = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        write(&path, &mutant.text(&self.root)?)?;
        let found = SUITES.iter().find_map(|suite| match self.finding(suite) {
            Ok(None) => None,
            Ok(Some(finding)) => Some(Ok(format!("{}: {finding}", suite.name))),
            Err(error) => Some(Err(error)),
        });
        write(&path, &original)?;
        found.transpose()
    }

    /// What a suite has to say against the copy. That it compiles is not part of it: what does not
    /// compile is no fault that a test could miss.
    fn finding(&self, suite: &Suite) -> Result<Option<String>> {
        self.cargo(suite, &["--no-run"]).run(&self.logs)?;
        let (status, output) = self.cargo(suite, &[]).run_to_end(&self.logs)?;
        Ok((!status.success()).then(|| first_failure(&output)))
    }

    fn cargo(&self, suite: &Suite, more: &[&str]) -> Exec {
        let kind = if more.is_empty() { "run" } else { "compile" };
        Exec::new(format!("mutants {kind} {}", suite.test), "cargo")
            .args(["test", "--offline", "--package", suite.package, "--test", suite.test])
            .args(more)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .dir(&self.root)
            .deadline(DEADLINE)
    }
}

/// The manifest of the workspace without the members that are not copied.
fn alone(manifest: &str) -> String {
    let of = |line: &str| {
        if line.starts_with("members = ") { r#"members = ["crates/*"]"# } else { line }.to_owned()
    };
    manifest.lines().map(|line| of(line) + "\n").collect()
}

/// The rule that the search found broken, or else the first test that failed.
fn first_failure(output: &Output) -> String {
    let marks = ["BROKEN: ", "NOT WOKEN: ", "NEVER RESTS: ", "THEN NOTHING ELSE HAPPENS"];
    let mut lines = output.text.lines();
    let rule = lines.clone().find(|line| marks.iter().any(|mark| line.starts_with(mark)));
    let test = || lines.find(|line| line.starts_with("test ") && line.ends_with(" FAILED"));
    let found = rule.or_else(test).unwrap_or("it ended without a test that failed");
    let found = found.trim_start_matches("test ").trim_end_matches(" ... FAILED");
    found.chars().take(120).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let entries =
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Workspace::find().unwrap().root().to_owned()
    }

    #[test]
    fn every_mutant_changes_text_that_is_there_once() {
        for mutant in MUTANTS {
            let text = mutant.text(&root()).unwrap();
            assert_ne!(text, std::fs::read_to_string(mutant.path(&root())).unwrap());
        }
    }

    #[test]
    fn the_names_of_the_mutants_are_distinct() {
        let names: std::collections::BTreeSet<_> = MUTANTS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        assert!(names.len() >= 25);
    }

    #[test]
    fn text_that_is_gone_is_an_error_that_names_the_mutant() {
        let gone = Mutant { name: "x", what: "", file: "wake.rs", find: "no such", replace: "" };
        let error = gone.text(&root()).err().unwrap().to_string();
        assert!(error.contains("mutant x") && error.contains("0 times"), "{error}");
    }

    #[test]
    fn the_copy_has_no_members_beside_the_two_crates() {
        let manifest = "[workspace]\nmembers = [\"crates/*\", \"e2e/cluster\"]\n[x]\n";
        assert_eq!(alone(manifest), "[workspace]\nmembers = [\"crates/*\"]\n[x]\n");
    }

    #[test]
    fn a_broken_rule_is_told_before_the_test_that_found_it() {
        let output = |text: &str| Output { text: text.to_owned(), log: PathBuf::new() };
        let rule = output("test a ... FAILED\nBROKEN: still needed: delete a\n");
        assert_eq!(first_failure(&rule), "BROKEN: still needed: delete a");
        assert_eq!(first_failure(&output("test a::b ... FAILED\n")), "a::b");
    }
}
