//! `docs/guarantees.md`: what is promised about rollouts, and the tests that show it. The promises
//! stand in `docs/guarantees.yaml`; a test names those that it shows in its doc comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Where the promises stand.
const SOURCE: &str = "docs/guarantees.yaml";
/// What is made of them.
pub(crate) const TABLE: &str = "docs/guarantees.md";
/// Where tests are.
const ROOTS: [&str; 2] = ["crates", "e2e/stories"];
/// What the line of a doc comment begins with.
const WORD: &str = "Guarantees:";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "group")]
    name: String,
    title: String,
    statements: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    text: String,
    /// How far it is kept in another way than one would expect, or why it is not shown.
    #[serde(default)]
    note: Option<String>,
}

/// A test that shows something.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Shown {
    file: PathBuf,
    test: String,
}

/// The table, made from the promises and the sources of the tests.
pub(crate) fn table(root: &Path) -> Result<String> {
    let text = std::fs::read_to_string(root.join(SOURCE))
        .with_context(|| format!("{SOURCE} cannot be read"))?;
    let groups: Vec<Group> = serde_saphyr::from_str(&text)
        .with_context(|| format!("{SOURCE} is not as it should be"))?;
    let mut shown: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for source in sources(root)? {
        let text = std::fs::read_to_string(root.join(&source))?;
        for (test, ids) in claims(&text).with_context(|| source.display().to_string())? {
            for id in ids {
                let claim = Shown { file: source.clone(), test: test.clone() };
                shown.entry(id).or_default().push(claim);
            }
        }
    }
    check(&groups, &shown)?;
    Ok(written(&groups, &shown))
}

fn check(groups: &[Group], shown: &BTreeMap<String, Vec<Shown>>) -> Result<()> {
    let mut known = std::collections::BTreeSet::new();
    for statement in groups.iter().flat_map(|group| &group.statements) {
        if !known.insert(statement.id.as_str()) {
            bail!("{SOURCE} has {} twice", statement.id);
        }
        if !shown.contains_key(&statement.id) && statement.note.is_none() {
            bail!("{} is shown by no test; say why in its note", statement.id);
        }
    }
    for (id, tests) in shown {
        if !known.contains(id.as_str()) {
            let test = tests.first().map(|claim| claim.test.as_str()).unwrap_or_default();
            bail!("{test} shows {id}, which is not in {SOURCE}");
        }
    }
    Ok(())
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root.join(&folder))
            .with_context(|| format!("{} cannot be listed", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            // Its own tests have claims that are none.
            if path.ends_with("crates/xtask") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The tests of a source that show something, and what: the lines of a doc comment from
/// `Guarantees:` on, and the name of the function below, or of the line of a table of tests.
fn claims(text: &str) -> Result<Vec<(String, Vec<String>)>> {
    let mut claims = Vec::new();
    let mut ids: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("/// ") {
            match (&mut ids, doc.strip_prefix(WORD)) {
                (_, Some(first)) => ids = Some(first.to_owned()),
                (Some(ids), None) => {
                    ids.push(' ');
                    ids.push_str(doc);
                }
                (None, None) => {}
            }
            continue;
        }
        if line.starts_with("#[") || line.is_empty() || !line.is_ascii() {
            continue;
        }
        let Some(ids) = ids.take() else { continue };
        let name = name_of(line).with_context(|| format!("{WORD}{ids} stands above no test"))?;
        let ids = ids.trim().trim_end_matches('.').split(',').map(|id| id.trim().to_owned());
        claims.push((name, ids.collect()));
    }
    Ok(claims)
}

fn name_of(line: &str) -> Option<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = match line.split_once("fn ") {
        Some((_, rest)) => rest.split(|c: char| !is_name(c)).next()?,
        None => line.split_once(": ").map(|(name, _)| name)?,
    };
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

/// How a test shows something, and where it runs.
fn level(claim: &Shown) -> (&'static str, &'static str) {
    let path = claim.file.to_string_lossy();
    let has = |part: &str| path.contains(part);
    if has("tests/rollouts/") {
        let runs = if claim.test.starts_with("ci_") { "ci" } else { "`cargo xtask e2e rollouts`" };
        return ("real cluster, under load", runs);
    }
    let level = match () {
        () if has("tests/stories/") => return ("real cluster", "ci"),
        () if has("crates/sim/tests/explore") => "every order of events",
        () if has("crates/sim/") => "simulated cluster",
        () if has("crates/plan/") => "decision table",
        () if has("crates/api/") => "schema",
        () if has("crates/operator/tests/operator/pipeline")
            || has("crates/operator/tests/operator/rollouts") =>
        {
            "requests to the apiserver"
        }
        () if has("crates/worker/tests/") => "a running worker",
        () => "unit",
    };
    (level, "every run")
}

fn written(groups: &[Group], shown: &BTreeMap<String, Vec<Shown>>) -> String {
    let mut text = format!(
        "<!-- Generated by `cargo xtask generate` from {SOURCE} and the tests. Do not edit. -->\n\n\
         # What is promised about rollouts\n\n\
         Each statement names the tests that show it, how they do, and where they run: in every run \
         of the tests, in CI on a real cluster, or with `cargo xtask e2e rollouts`.\n"
    );
    for group in groups {
        // Writing into a String cannot fail.
        let _ = write!(text, "\n## {}\n\n| | statement | shown by |\n|---|---|---|\n", group.title);
        for statement in &group.statements {
            debug_assert!(statement.id.starts_with(&group.name));
            let note = statement.note.as_ref().map(|note| format!(" *{}*", note.trim()));
            let _ = writeln!(
                text,
                "| {} | {}{} | {} |",
                statement.id,
                statement.text.trim(),
                note.unwrap_or_default(),
                tests(shown.get(&statement.id).map(Vec::as_slice).unwrap_or_default())
            );
        }
    }
    text
}

fn tests(shown: &[Shown]) -> String {
    let mut shown = shown.to_vec();
    shown.sort_unstable();
    let told = shown.iter().map(|claim| {
        let (level, runs) = level(claim);
        let file = claim.file.display();
        format!("[{}](../{file}) ({level}; {runs})", claim.test)
    });
    told.collect::<Vec<_>>().join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_the_end_of_a_doc_comment_and_belongs_to_what_stands_below() {
        let text = "\
/// What it does.
///
/// Guarantees: switch-01, switch-02,
/// return-03.
#[tokio::test]
#[ignore = \"needs the cluster\"]
async fn it_does() {}

/// No claim.
fn other() {}

matrix! {
    /// Guarantees: mind-01.
    early: \"a-b-a early\", When::Early, None;
}
";
        let found = claims(text).unwrap();
        let expected =
            [("it_does", vec!["switch-01", "switch-02", "return-03"]), ("early", vec!["mind-01"])];
        let expected = expected
            .map(|(test, ids)| (test.to_owned(), ids.into_iter().map(str::to_owned).collect()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_claim_above_nothing_is_refused() {
        assert!(claims("/// Guarantees: switch-01.\nuse x;\n").is_err());
    }

    #[test]
    fn a_promise_without_a_test_needs_a_reason_and_a_claim_needs_a_promise() {
        let group = |note: Option<&str>| Group {
            name: "switch".to_owned(),
            title: "The switch".to_owned(),
            statements: vec![Statement {
                id: "switch-01".to_owned(),
                text: "One write.".to_owned(),
                note: note.map(str::to_owned),
            }],
        };
        let none = BTreeMap::new();
        assert!(check(&[group(None)], &none).is_err());
        assert!(check(&[group(Some("not kept"))], &none).is_ok());
        let claim = Shown { file: "crates/x.rs".into(), test: "t".to_owned() };
        let shown = BTreeMap::from([("switch-02".to_owned(), vec![claim])]);
        assert!(check(&[group(Some("not kept"))], &shown).is_err());
    }
}
