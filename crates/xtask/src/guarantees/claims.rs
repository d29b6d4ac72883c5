//! What the tests of a file claim to show, read line by line. Files are formatted, so that a line
//! is enough to tell an attribute from a function, and what begins a block from its end.

use anyhow::{Context, Result, bail};

/// What the last paragraph of a doc comment begins with.
const WORD: &str = "Guarantees:";

/// A test, and what it claims.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Claim {
    /// The name of the function.
    pub(super) test: String,
    /// What it shows.
    pub(super) ids: Vec<String>,
    /// Why it is ignored.
    pub(super) ignored: Option<String>,
    /// It tries as many random cases as it is told to.
    pub(super) is_property: bool,
}

/// Attributes above a function.
#[derive(Clone, Debug, Default)]
struct Attributes {
    is_test: bool,
    ignored: Option<String>,
}

/// A macro that makes a test of each line with a name.
struct Matrix {
    name: String,
    attributes: Attributes,
}

/// Every claim of a file.
///
/// # Errors
///
/// A claim stands above what is no test, or is not written as it should be.
pub(super) fn read(text: &str) -> Result<Vec<Claim>> {
    let matrices = matrices(text);
    let has_runner = text.contains("TestRunner::new(");
    let mut claims = Vec::new();
    let mut ids: Option<String> = None;
    let mut attributes = Attributes::default();
    let mut inside: Option<(String, usize)> = None;
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let code = line.trim();
        let indent = line.len() - line.trim_start().len();
        if let Some(doc) = code.strip_prefix("///") {
            take(doc.trim(), &mut ids);
            continue;
        }
        if code.starts_with("//") {
            if code.contains(WORD) {
                bail!("line {number}: {WORD} stands in a comment that is no doc comment of a test");
            }
            continue;
        }
        if code.starts_with("#[") {
            attributes.add(code);
            let mut last = code;
            while !last.ends_with(']') {
                let Some((_, next)) = lines.next() else { break };
                last = next.trim();
            }
            continue;
        }
        if inside.as_ref().is_some_and(|(_, begun)| code == "}" && *begun == indent) {
            inside = None;
        }
        if let Some(name) = code.strip_suffix("! {") {
            inside = Some((name.to_owned(), indent));
        }
        let own = std::mem::take(&mut attributes);
        let Some(ids) = ids.take() else { continue };
        let what = || format!("line {number}: {WORD}{ids}");
        let around = inside.as_ref().map(|(name, _)| name.as_str());
        let matrix = matrices.iter().find(|matrix| Some(matrix.name.as_str()) == around);
        let (name, found) = match (function(code), matrix) {
            (Some(function), _) => (function, own),
            (None, Some(matrix)) => (entry(code).with_context(what)?, matrix.attributes.clone()),
            (None, None) => bail!("{} stands above no function", what()),
        };
        if !found.is_test {
            bail!("{} stands above {name}, which is no test", what());
        }
        let is_property = around == Some("proptest") || has_runner;
        let ids = parsed(&ids).with_context(what)?;
        claims.push(Claim { test: name, ids, ignored: found.ignored, is_property });
    }
    Ok(claims)
}

/// Takes a line of a doc comment. What follows the word belongs to it, up to the comment's end.
fn take(doc: &str, ids: &mut Option<String>) {
    match (ids.as_mut(), doc.strip_prefix(WORD)) {
        (_, Some(first)) => *ids = Some(first.to_owned()),
        (Some(ids), None) => {
            ids.push(' ');
            ids.push_str(doc);
        }
        (None, None) => {}
    }
}

/// `switch-01, switch-02.`
fn parsed(text: &str) -> Result<Vec<String>> {
    let text = text.trim();
    let text =
        text.strip_suffix('.').with_context(|| format!("{text:?} does not end with a stop"))?;
    let mut ids: Vec<String> = Vec::new();
    for id in text.split(',').map(str::trim) {
        let is_id = id.split_once('-').is_some_and(|(group, number)| {
            !group.is_empty()
                && group.bytes().all(|byte| byte.is_ascii_lowercase())
                && number.len() == 2
                && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if !is_id {
            bail!("{id:?} is not a group and two digits");
        }
        if ids.iter().any(|known| known == id) {
            bail!("{id} is named twice");
        }
        ids.push(id.to_owned());
    }
    Ok(ids)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name in `fn name(`, whatever stands before it.
fn function(code: &str) -> Option<String> {
    let (before, rest) = code.split_once("fn ")?;
    let (name, _) = rest.split_once(['(', '<'])?;
    let is_plain = before.split_whitespace().all(|word| word == "async" || word.starts_with("pub"));
    (is_plain && is_name(name)).then(|| name.to_owned())
}

/// The name in `name: …`, a line of a [`Matrix`].
fn entry(code: &str) -> Result<String> {
    let (name, _) = code.split_once(": ").context("has no name below it")?;
    if !is_name(name) {
        bail!("stands above {name:?}, which is no name of a test");
    }
    Ok(name.to_owned())
}

/// The macros of a file whose body is a test, with its attributes.
fn matrices(text: &str) -> Vec<Matrix> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) =
            line.strip_prefix("macro_rules! ").and_then(|rest| rest.strip_suffix(" {"))
        else {
            continue;
        };
        let mut attributes = Attributes::default();
        for line in lines.by_ref().take_while(|line| *line != "}") {
            attributes.add(line.trim());
        }
        found.push(Matrix { name: name.to_owned(), attributes });
    }
    found
}

// === impl Attributes ===

impl Attributes {
    fn add(&mut self, code: &str) {
        self.is_test |= code == "#[test]" || code.starts_with("#[tokio::test");
        let why = code.strip_prefix("#[ignore = \"").and_then(|rest| rest.strip_suffix("\"]"));
        if let Some(why) = why {
            self.ignored = Some(why.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(test: &str, ids: &[&str]) -> Claim {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Claim { test: test.to_owned(), ids, ignored: None, is_property: false }
    }

    fn refused(text: &str) -> String {
        format!("{:#}", read(text).unwrap_err())
    }

    #[test]
    fn a_claim_is_the_end_of_a_doc_comment_and_belongs_to_the_test_below() {
        let text = "\
/// What it does.
///
/// Guarantees: switch-01, switch-02,
/// return-03.
#[tokio::test(flavor = \"multi_thread\", worker_threads = 2)]
async fn it_does() -> anyhow::Result<()> {}

/// No claim.
fn other() {}

mod inner {
    /// Guarantees: told-04.
    #[test]
    #[expect(
        clippy::float_cmp,
        reason = \"exact\"
    )]
    fn it_tells() {}
}
";
        let expected = [
            claim("it_does", &["switch-01", "switch-02", "return-03"]),
            claim("it_tells", &["told-04"]),
        ];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn why_a_test_is_ignored_is_kept() {
        let text =
            "/// Guarantees: told-01.\n#[test]\n#[ignore = \"needs a node\"]\nfn it_does() {}\n";
        assert_eq!(read(text).unwrap()[0].ignored.as_deref(), Some("needs a node"));
    }

    #[test]
    fn each_line_of_a_matrix_is_a_test_with_the_attributes_of_the_macro() {
        let text = "\
macro_rules! matrix {
    ($($(#[$doc:meta])* $test:ident: $name:literal;)*) => {$(
        $(#[$doc])*
        #[tokio::test]
        #[ignore = \"needs the cluster\"]
        async fn $test() {}
    )*};
}

matrix! {
    /// Guarantees: mind-01.
    early: \"a-b-a early\";
    /// Guarantees: mind-02.
    late: \"a-b-a late\";
}
";
        let why = || Some("needs the cluster".to_owned());
        let expected = [
            Claim { ignored: why(), ..claim("early", &["mind-01"]) },
            Claim { ignored: why(), ..claim("late", &["mind-02"]) },
        ];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn a_property_is_told_apart_from_a_test_beside_it() {
        let text = "\
mod tests {
    proptest! {
        /// Guarantees: told-01.
        #[test]
        fn any(text in any::<String>()) {
            read(&text);
        }
    }

    /// Guarantees: told-02.
    #[test]
    fn one() {}
}
";
        let found = read(text).unwrap();
        let properties: Vec<_> =
            found.iter().map(|claim| (claim.test.as_str(), claim.is_property)).collect();
        assert_eq!(properties, [("any", true), ("one", false)]);
    }

    #[test]
    fn a_claim_above_what_is_no_test_is_refused() {
        assert!(refused("/// Guarantees: switch-01.\nuse x;\n").contains("above no function"));
        assert!(refused("/// Guarantees: switch-01.\nfn helper() {}\n").contains("is no test"));
        let other = "#[test]\nfn it_does() {}\n/// Guarantees: switch-01.\nfn helper() {}\n";
        assert!(refused(other).contains("helper, which is no test"));
        let no_matrix = "table! {\n    /// Guarantees: mind-01.\n    early: 1;\n}\n";
        assert!(refused(no_matrix).contains("above no function"));
    }

    #[test]
    fn a_claim_that_is_not_written_as_it_should_be_is_refused_with_its_line() {
        let of = |ids: &str| format!("\n/// Guarantees: {ids}\n#[test]\nfn it_does() {{}}\n");
        for (ids, why) in [
            ("switch-01", "end with a stop"),
            ("switch-1.", "two digits"),
            ("switch-01, and more.", "two digits"),
            ("Switch-01.", "two digits"),
            ("switch-01, switch-01.", "twice"),
            (".", "two digits"),
        ] {
            let told = refused(&of(ids));
            assert!(told.contains(why) && told.contains("line 4"), "{ids}: {told}");
        }
        let plain = "// Guarantees: switch-01.\n#[test]\nfn it_does() {}\n";
        assert!(refused(plain).contains("no doc comment"));
        let module = "//! Guarantees: switch-01.\n";
        assert!(refused(module).contains("no doc comment"));
    }
}
