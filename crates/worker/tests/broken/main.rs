//! Every way in which an artifact, its store or its cache can be broken: the worker gives exactly
//! the right reason, leaves no partial copy that anybody would take for whole, and harms no other
//! model's copy.
//!
//! `cargo xtask faults` shows the table.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod faults;
mod kills;
mod stage;
#[expect(dead_code, reason = "the worker's own tests use more of it")]
#[path = "../worker/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::Write as _;

use stage::{Row, Stage};

#[tokio::test]
async fn every_fault_has_its_reason_and_harms_nobody_else() {
    let stage = Stage::set().await;
    let mut rows = vec![stage.sound().await];
    for fault in faults::all() {
        rows.extend(stage.play(fault).await);
    }
    rows.extend(stage.disks().await);
    rows.push(kills::killed_at_random_moments(&stage).await);
    rows.push(kills::killed_when_something_is_proven(&stage).await);
    // The first row is of no fault.
    let faults: std::collections::BTreeSet<&str> =
        rows[1..].iter().map(|row| row.fault.as_str()).collect();
    let wrong: std::collections::BTreeSet<&str> =
        rows.iter().filter(|row| !row.is_right()).map(|row| row.fault.as_str()).collect();
    let mut text = table(&rows);
    let typed = faults.difference(&wrong).count();
    writeln!(text, "faults: {typed} of {} typed", faults.len()).unwrap();
    // Tests' own capture would hold it back until the end.
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{wrong:?}\n{text}");
    assert!(faults.len() >= 40, "{} faults", faults.len());
}

fn table(rows: &[Row]) -> String {
    let head =
        ["FAULT", "COMMAND", "EXPECTED", "GOT", "NAMED", "FIELDS", "PARTIAL LEFT", "NEIGHBOUR"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(Row::cells));
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = cells.iter().map(|row| row[column].chars().count()).max().unwrap();
            write!(line, "{cell:width$}  ").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}
