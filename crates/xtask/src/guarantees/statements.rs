//! What is promised, as `docs/guarantees.yaml` has it.

use anyhow::Result;
use serde::Deserialize;

use super::place::Level;

/// Statements about one thing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// What its ids begin with.
    pub(super) name: String,
    /// The heading.
    pub(super) title: String,
    /// What is promised.
    pub(super) statements: Vec<Statement>,
}

/// One promise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statement {
    /// Its group and two digits. Never given to another statement.
    pub(super) id: String,
    /// A sentence.
    pub(super) text: String,
    /// Levels at which a test has to show it. Others may show it too.
    #[serde(default)]
    pub(super) levels: Vec<Level>,
    /// The checks that hold it in every explored state.
    #[serde(default)]
    pub(super) checks: Vec<String>,
    /// How it differs from what one would expect of a rollout, and why.
    #[serde(default)]
    pub(super) deviation: Option<String>,
    /// Why it is not kept.
    #[serde(default)]
    pub(super) not_kept: Option<String>,
    /// What of it no test shows, and why.
    #[serde(default)]
    pub(super) not_shown: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Group>> {
    Ok(serde_saphyr::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_field_or_level_is_refused() {
        let of = |line: &str| {
            parse(&format!(
                "- name: switch\n  title: T\n  statements:\n    - id: switch-01\n      text: One write.\n      {line}\n"
            ))
        };
        let parsed = of("levels: [table, load]").unwrap();
        assert_eq!(parsed[0].statements[0].levels, [Level::Table, Level::Load]);
        assert!(of("level: [table]").is_err());
        assert!(of("levels: [tabel]").is_err());
    }
}
