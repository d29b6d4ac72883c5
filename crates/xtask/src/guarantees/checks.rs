//! The checks that are made in every explored state, by the names that the code gives them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Enums whose variants are each a rule that can be broken.
const ENUMS: [(&str, &str); 2] =
    [("Violation", "crates/plan/src/rollout/check.rs"), ("Unhealed", "crates/sim/src/heal.rs")];
/// A file whose public functions are each a rule.
const RULES: &str = "crates/sim/src/rules.rs";

/// Names such as `Violation::SelectedNobody` and `rules::wakes`.
#[derive(Debug)]
pub(super) struct Checks(BTreeSet<String>);

impl Checks {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = |file: &str| {
            fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))
        };
        let mut names = BTreeSet::new();
        for (name, file) in ENUMS {
            let variants = variants(&text(file)?, name);
            if variants.is_empty() {
                bail!("{file} has no enum {name} any more; say where the checks are");
            }
            names.extend(variants.into_iter().map(|variant| format!("{name}::{variant}")));
        }
        let rules = text(RULES)?;
        let functions = rules.lines().filter_map(|line| line.strip_prefix("pub fn "));
        names.extend(
            functions
                .filter_map(|rest| rest.split_once('('))
                .map(|(name, _)| format!("rules::{name}")),
        );
        Ok(Self(names))
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(names: [&str; N]) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// The variants of a formatted enum: words at the first level of indentation.
fn variants(text: &str, name: &str) -> Vec<String> {
    let head = format!("pub enum {name} {{");
    let body = text.lines().skip_while(|line| *line != head).skip(1);
    body.take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read_with_and_without_fields() {
        let text = "\
pub enum Other {
    Elsewhere,
}

pub enum Violation {
    /// Words.
    First,
    Second(Action),
    Third {
        /// Of it.
        action: Action,
    },
}

impl Violation {}
";
        assert_eq!(variants(text, "Violation"), ["First", "Second", "Third"]);
        assert_eq!(variants(text, "Unhealed"), [""; 0]);
    }

    #[test]
    fn this_checkout_has_the_checks() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let checks = Checks::read(root).unwrap();
        for name in ["Violation::ServingLowered", "Unhealed::Short", "rules::wakes"] {
            assert!(checks.has(name), "{name} is not among {checks:?}");
        }
        assert!(!checks.has("Violation::ServingRaised"));
    }
}
