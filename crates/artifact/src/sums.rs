//! `SHA256SUMS`: the sums that an artifact's owner wrote beside its files.
//!
//! The format is that of `sha256sum`
//! (<https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html>): a line for
//! each file, with the sum, a blank, a blank or an asterisk, and the path.
//!
//! Nothing is *believed* of it that matters later: a worker sums the bytes before it serves them.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::{FileRecord, Sha256Sum, is_counted};
use crate::error::ArtifactError;
use crate::source::{Author, Stated, is_foreign};
use crate::structure::Files;

pub(crate) const SUMS_FILE: &str = "SHA256SUMS";
/// Ten thousand files, which is more than any model has, need less.
pub(crate) const MAX_SUMS: u64 = 4 << 20;

/// An artifact's own list.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its own sum.
    pub(crate) itself: Sha256Sum,
    /// The sums of the files by path.
    pub(crate) sums: BTreeMap<String, Sha256Sum>,
}

/// The list of the artifact, if it has one; whatever it lists is there. One that cannot be
/// understood is an ordinary file, and lists nothing: what it should have said is found out from
/// the bytes.
pub(crate) fn read(files: &dyn Files) -> Result<Option<Listed>, ArtifactError> {
    let content = match files.size(SUMS_FILE) {
        None => return Ok(None),
        Some(size) if size > MAX_SUMS => {
            tracing::warn!(file = SUMS_FILE, size, "too long for a list of sums: not used");
            return Ok(None);
        }
        Some(_) => files.whole(SUMS_FILE)?,
    };
    let mut sums = parse(&content).unwrap_or_else(|problem| {
        tracing::warn!(file = SUMS_FILE, problem, "not a list of sums: not used");
        BTreeMap::new()
    });
    // `sha256sum * > SHA256SUMS` lists the list as it was while it was empty.
    sums.remove(SUMS_FILE);
    let there: BTreeSet<&str> = files.listed().into_iter().map(|(path, _)| path).collect();
    // Weights for other programs are left out where they are of no use, and missed by nobody.
    let is_missed =
        |path: &&String| is_counted(path) && !is_foreign(path) && !there.contains(path.as_str());
    match sums.keys().find(is_missed) {
        Some(path) => Err(missing(path.clone())),
        None => Ok(Some(Listed { itself: Sha256Sum::of_bytes(&content), sums })),
    }
}

/// A file that is listed and not there.
pub(crate) fn missing(file: String) -> ArtifactError {
    ArtifactError::FileMissing {
        file,
        remedy: "SHA256SUMS lists it: upload it, or write SHA256SUMS anew",
    }
}

impl Listed {
    /// Whether files have the sums that are listed for them. What is no part of the digest may be
    /// another than it was.
    pub(crate) fn check(&self, files: &[FileRecord]) -> Result<(), ArtifactError> {
        files.iter().filter(|file| is_counted(&file.path)).try_for_each(|file| {
            match self.sums.get(&file.path) {
                Some(&sum) => check(&file.path, Stated { sum, by: Author::SumsFile }, file.sha256),
                None => Ok(()),
            }
        })
    }
}

/// Whether a file has the sum that somebody stated.
pub(crate) fn check(file: &str, stated: Stated, found: Sha256Sum) -> Result<(), ArtifactError> {
    let Stated { sum: expected, by } = stated;
    if expected == found {
        return Ok(());
    }
    Err(ArtifactError::SumMismatch { file: file.to_owned(), by, expected, found })
}

/// The sums by path, or which line cannot be understood. Of two lines for a file, both would
/// have to be right, so that is not understood either.
pub(crate) fn parse(text: &[u8]) -> Result<BTreeMap<String, Sha256Sum>, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let mut sums = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let Some((path, sum)) = parse_line(line) else {
            return Err(format!("line {} is not a SHA-256 sum and a path", index + 1));
        };
        if sums.insert(path.to_owned(), sum).is_some() {
            return Err(format!("line {} names {path:?} a second time", index + 1));
        }
    }
    Ok(sums)
}

fn parse_line(line: &str) -> Option<(&str, Sha256Sum)> {
    let (sum, rest) = line.split_once(' ')?;
    let path = rest.strip_prefix([' ', '*'])?;
    let path = path.strip_prefix("./").unwrap_or(path);
    let sum = Sha256Sum::try_from(sum.to_owned()).ok()?;
    (!path.is_empty()).then_some((path, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by `sha256sum` for an empty file.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_sha256sum_prints_is_read_in_text_and_binary_mode() {
        let text = format!("{EMPTY}  config.json\n\n{EMPTY} *./1_Pooling/a b\n");
        let sums = parse(text.as_bytes()).unwrap();
        let paths: Vec<&str> = sums.keys().map(String::as_str).collect();
        assert_eq!(paths, ["1_Pooling/a b", "config.json"]);
        assert!(sums.values().all(|sum| sum.to_string() == EMPTY));
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for (text, named) in [
            (format!("{EMPTY}  a\n{EMPTY} b\n"), "line 2"),
            (format!("\\{EMPTY}  a\\nb\n"), "line 1"),
            (format!("{EMPTY}  \n"), "line 1"),
            (format!("SHA256 (a) = {EMPTY}\n"), "line 1"),
            (format!("{EMPTY}  a\n{EMPTY}  ./a\n"), "line 2"),
            (format!("{}  a\n", &EMPTY[1..]), "line 1"),
        ] {
            let problem = parse(text.as_bytes()).unwrap_err();
            assert!(problem.contains(named), "{text}: {problem}");
        }
        assert!(parse(b"\xff").is_err());
    }
}
