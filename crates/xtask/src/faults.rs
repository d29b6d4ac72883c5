//! `cargo xtask faults`: what becomes of every broken artifact, store and cache, as a table.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::exec::Exec;
use crate::term;
use crate::workspace::Workspace;

/// How long it may take, the compile included.
const LONGEST: Duration = Duration::from_mins(20);

/// Runs the test that plays the faults and shows its table; fails where it fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let (status, output) = Exec::new("faults", "cargo")
        .args(["test", "--workspace", "--test", "broken", "--", "--nocapture"])
        .dir(workspace.root())
        .deadline(LONGEST)
        .run_to_end(&workspace.logs())?;
    let table = table(&output.text)
        .with_context(|| format!("there is no table in {}", output.log.display()))?;
    term::line(table.trim_end());
    if !status.success() {
        bail!("not every fault has its reason; the log is {}", output.log.display());
    }
    Ok(())
}

/// From the table's head to its last line.
fn table(text: &str) -> Option<&str> {
    let begin = text.find("FAULT ")?;
    let last = begin + text[begin..].find("\nfaults: ")? + 1;
    let end = text[last..].find('\n').map_or(text.len(), |end| last + end);
    Some(&text[begin..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_found_among_what_cargo_says() {
        let said = "   Compiling x\nrunning 1 test\nFAULT  GOT\na  b\nfaults: 1 of 1 typed\ntest x ... ok\n";
        assert_eq!(table(said), Some("FAULT  GOT\na  b\nfaults: 1 of 1 typed"));
        assert_eq!(table("error: it does not compile\n"), None);
    }
}
