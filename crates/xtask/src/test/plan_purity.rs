//! `crates/plan` is pure: it depends on no crate at all, so neither a client, nor a runtime,
//! nor a serialiser can slip into a decision. Its own clippy.toml forbids clocks.

use anyhow::{Result, bail};

use super::Run;
use crate::count::Count;
use crate::exec::Exec;

/// Fails when the crate has a dependency, naming it.
pub(crate) fn check(run: &Run<'_>) -> Result<Count> {
    let output = Exec::new("dependencies of plan", "cargo")
        .args(["tree", "--package", "lamplighter-plan", "--edges", "normal,build"])
        .args(["--prefix", "none", "--no-dedupe"])
        .dir(run.workspace.root())
        .deadline(run.budget)
        .run(&run.workspace.logs())?;
    let dependencies = dependencies(&output.text)?;
    if !dependencies.is_empty() {
        bail!("crates/plan must depend on nothing, but depends on {}", dependencies.join(", "));
    }
    Ok(Count::passed(1))
}

/// The crates that `cargo tree --prefix none` lists below the first one.
fn dependencies(tree: &str) -> Result<Vec<String>> {
    let mut crates = tree
        .lines()
        .map(str::trim)
        // Cargo reports its own waiting and downloading on the same stream.
        .filter(|line| line.split(' ').nth(1).is_some_and(|word| word.starts_with('v')))
        .map(|line| line.split(' ').next().unwrap_or(line).to_owned());
    match crates.next() {
        Some(first) if first == "lamplighter-plan" => Ok(crates.collect()),
        other => bail!("cargo tree did not begin with lamplighter-plan but with {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_alone_has_no_dependencies() {
        let tree = "    Updating index\nlamplighter-plan v0.1.0 (/x/crates/plan)\n";
        assert!(dependencies(tree).unwrap().is_empty());
    }

    #[test]
    fn a_dependency_is_found() {
        let tree = "lamplighter-plan v0.1.0 (/x)\nserde v1.0.0\nserde_core v1.0.0\n";
        assert_eq!(dependencies(tree).unwrap(), ["serde", "serde_core"]);
    }

    #[test]
    fn output_that_is_no_tree_is_not_taken_for_purity() {
        assert!(dependencies("error: package not found\n").is_err());
    }
}
