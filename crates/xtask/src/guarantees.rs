//! `docs/guarantees.md`: what is promised about rollouts, and the tests that show it.
//!
//! The statements stand in `docs/guarantees.yaml`. A test names those that it shows in the last
//! paragraph of its doc comment, `Guarantees: rolling-01, drain-04.`: a doc comment stays with its
//! function when files are moved or formatted, needs no macro crate, and is read by whoever reads
//! the test. A statement without a test needs a reason, and a test cannot name what is not stated.

mod checks;
mod claims;
mod markdown;
mod place;
mod statements;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use checks::Checks;
use claims::Claim;
use place::{Level, Place};
use statements::{Group, Statement};

/// Where the statements stand.
const SOURCE: &str = "docs/guarantees.yaml";
/// What is made of them.
pub(crate) const TABLE: &str = "docs/guarantees.md";
/// Where tests are.
const ROOTS: [&str; 2] = ["crates", "e2e/stories"];
/// Its own tests have claims that are none.
const OWN: &str = "crates/xtask";

/// A test that shows something.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Shown {
    place: Place,
    file: PathBuf,
    test: String,
}

/// Which tests show a statement, by its id.
type Evidence = BTreeMap<String, Vec<Shown>>;

/// The table, made from the statements and the sources of the tests below `root`.
pub(crate) fn table(root: &Path) -> Result<String> {
    let text =
        fs::read_to_string(root.join(SOURCE)).with_context(|| format!("cannot read {SOURCE}"))?;
    let groups =
        statements::parse(&text).with_context(|| format!("{SOURCE} is not as it should be"))?;
    let evidence = evidence(root)?;
    let problems = problems(&groups, &evidence, &Checks::read(root)?);
    if !problems.is_empty() {
        bail!("{SOURCE} and the tests do not agree:\n  {}", problems.join("\n  "));
    }
    Ok(markdown::written(&groups, &evidence))
}

fn evidence(root: &Path) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for file in sources(root)? {
        let text = fs::read_to_string(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let claims = claims::read(&text).with_context(|| file.display().to_string())?;
        for Claim { test, ids, ignored, is_property } in claims {
            let place = place::of(&file, &test, ignored.as_deref(), is_property)
                .with_context(|| format!("{}::{test}", file.display()))?;
            for id in ids {
                let shown = Shown { place, file: file.clone(), test: test.clone() };
                evidence.entry(id).or_default().push(shown);
            }
        }
    }
    for shown in evidence.values_mut() {
        shown.sort_unstable();
    }
    Ok(evidence)
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root.join(&folder))
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let path = folder.join(entry.file_name());
            if path == Path::new(OWN) {
                continue;
            }
            let kind = entry.file_type().with_context(|| path.display().to_string())?;
            if kind.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Everything in which statements and tests contradict each other, each as a sentence.
fn problems(groups: &[Group], evidence: &Evidence, checks: &Checks) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known: BTreeMap<&str, &Statement> = BTreeMap::new();
    for group in groups {
        for statement in &group.statements {
            let id = statement.id.as_str();
            if !is_numbered(id, &group.name) {
                problems.push(format!("{id} is not {} and two digits", group.name));
            }
            if known.insert(id, statement).is_some() {
                problems.push(format!("{id} is stated twice"));
            }
            let shown = evidence.get(id).map(Vec::as_slice).unwrap_or_default();
            problems.extend(unsupported(statement, shown, checks));
        }
    }
    for (id, shown) in evidence.iter().filter(|(id, _)| !known.contains_key(id.as_str())) {
        let tests = shown.iter().map(|shown| format!("{}::{}", shown.file.display(), shown.test));
        problems.push(format!(
            "{} names {id}, which nobody states",
            tests.collect::<Vec<_>>().join(" and ")
        ));
    }
    problems
}

fn is_numbered(id: &str, group: &str) -> bool {
    let number = id.strip_prefix(group).and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit()))
}

/// What is wrong with a statement, given the tests that name it.
fn unsupported(statement: &Statement, shown: &[Shown], checks: &Checks) -> Vec<String> {
    let id = &statement.id;
    let mut problems = Vec::new();
    let is_reached = |level: Level| shown.iter().any(|shown| shown.place.level == level);
    if shown.is_empty() && statement.not_kept.is_none() && statement.not_shown.is_none() {
        problems.push(format!("{id} is named by no test; name it, or say why in not_shown"));
    }
    if let (Some(_), Some(first)) = (&statement.not_kept, shown.first()) {
        problems.push(format!("{id} is not kept, and {} claims to show it", first.test));
    }
    for level in &statement.levels {
        if !is_reached(*level) {
            problems.push(format!("{id} is to be shown by a test of level {level}, and is not"));
        }
    }
    if is_reached(Level::Exploration) == statement.checks.is_empty() {
        problems.push(format!(
            "{id}: what holds in every explored state has a check, and a check is of an exploration"
        ));
    }
    for check in statement.checks.iter().filter(|check| !checks.has(check)) {
        problems.push(format!("{id}: there is no check {check}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(statement: Statement) -> Vec<Group> {
        vec![Group {
            name: "switch".to_owned(),
            title: "The switch".to_owned(),
            statements: vec![statement],
        }]
    }

    fn statement() -> Statement {
        Statement {
            id: "switch-01".to_owned(),
            text: "One write.".to_owned(),
            ..Statement::default()
        }
    }

    fn shown_at(path: &str) -> Evidence {
        let place = place::of(Path::new(path), "it_does", None, false).unwrap();
        let shown = Shown { place, file: path.into(), test: "it_does".to_owned() };
        [("switch-01".to_owned(), vec![shown])].into()
    }

    fn checks() -> Checks {
        Checks::of(["Violation::SelectedNobody"])
    }

    fn told(statement: Statement, evidence: &Evidence) -> String {
        problems(&group(statement), evidence, &checks()).join("; ")
    }

    const UNIT: &str = "crates/worker/src/x.rs";
    const EXPLORED: &str = "crates/sim/tests/explore.rs";

    #[test]
    fn a_statement_with_a_test_or_a_reason_is_accepted() {
        assert_eq!(told(statement(), &shown_at(UNIT)), "");
        let why = || Some("nobody has two nodes".to_owned());
        assert_eq!(told(Statement { not_shown: why(), ..statement() }, &Evidence::new()), "");
        assert_eq!(told(Statement { not_kept: why(), ..statement() }, &Evidence::new()), "");
    }

    #[test]
    fn a_statement_with_neither_is_named() {
        assert!(told(statement(), &Evidence::new()).contains("switch-01 is named by no test"));
    }

    #[test]
    fn what_is_not_kept_cannot_be_shown() {
        let not_kept = Statement { not_kept: Some("no webhook".to_owned()), ..statement() };
        assert!(told(not_kept, &shown_at(UNIT)).contains("it_does claims to show it"));
    }

    #[test]
    fn a_level_that_no_test_reaches_is_named() {
        let load = Statement { levels: vec![Level::Load], ..statement() };
        assert!(told(load, &shown_at(UNIT)).contains("real cluster under load"));
        let unit = Statement { levels: vec![Level::Unit], ..statement() };
        assert_eq!(told(unit, &shown_at(UNIT)), "");
    }

    #[test]
    fn an_exploration_names_the_check_that_holds_in_every_state() {
        let with = |check: &str| Statement { checks: vec![check.to_owned()], ..statement() };
        let known = "Violation::SelectedNobody";
        assert_eq!(told(with(known), &shown_at(EXPLORED)), "");
        assert!(told(statement(), &shown_at(EXPLORED)).contains("has a check"));
        assert!(told(with(known), &shown_at(UNIT)).contains("has a check"));
        let unknown = told(with("Violation::Boredom"), &shown_at(EXPLORED));
        assert!(unknown.contains("there is no check Violation::Boredom"), "{unknown}");
    }

    #[test]
    fn a_test_that_names_what_nobody_states_is_named() {
        let other =
            Statement { id: "switch-02".to_owned(), not_kept: Some("x".to_owned()), ..statement() };
        let told = told(other, &shown_at(UNIT));
        assert!(told.contains("x.rs::it_does names switch-01, which nobody states"), "{told}");
    }

    #[test]
    fn ids_are_their_group_and_two_digits_and_stated_once() {
        let mut twice = group(statement());
        twice[0].statements.push(statement());
        let told = problems(&twice, &shown_at(UNIT), &checks()).join("; ");
        assert!(told.contains("stated twice"), "{told}");
        for (id, holds) in
            [("switch-01", true), ("switch-1", false), ("switch-x1", false), ("return-01", false)]
        {
            assert_eq!(is_numbered(id, "switch"), holds, "{id}");
        }
    }

    #[test]
    fn tests_are_found_below_the_roots_and_its_own_are_not() {
        let root = tempfile::tempdir().unwrap();
        let claim = "/// Guarantees: switch-01.\n#[test]\nfn it_does() {}\n";
        for path in
            ["crates/worker/src/a.rs", "crates/xtask/src/b.rs", "e2e/stories/tests/stories/c.rs"]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, claim).unwrap();
        }
        let evidence = evidence(root.path()).unwrap();
        let files: Vec<_> =
            evidence["switch-01"].iter().map(|shown| shown.file.to_str().unwrap()).collect();
        assert_eq!(files, ["crates/worker/src/a.rs", "e2e/stories/tests/stories/c.rs"]);
    }
}
