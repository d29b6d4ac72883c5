//! What an artifact *is*: a digest over the contents of its files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::error::ArtifactError;

/// The validation cases that belong to an artifact, at its root. They name the digest they
/// belong to, so they cannot be part of it.
pub(crate) const GOLDEN_FILE: &str = "golden.json";

/// A SHA-256 sum, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Sum([u8; 32]);

/// A file of an artifact.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct FileRecord {
    /// The path below the artifact's root, with `/` between folders.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The sum of its contents.
    pub sha256: Sha256Sum,
}

/// The identity of an artifact's contents, printed as `sha256:` and 64 hexadecimal digits.
///
/// It is the SHA-256 of one line for each file, sorted by the bytes of the path:
///
/// ```text
/// <sha256 of the contents, 64 lower-case hexadecimal digits> <size in bytes> <path>\n
/// ```
///
/// Left out are `golden.json` at the root, which names the digest it belongs to, and hidden
/// files: those with a path component that starts with a dot (`.git`, `.cache`, and the record
/// that this crate keeps in its own cache). Paths hold no control characters, so that no file
/// name can imitate a second line.
///
/// In a shell, for a folder without those:
///
/// ```sh
/// find . -type f | cut -c3- | LC_ALL=C sort | while read -r f; do
///   printf '%s %s %s\n' "$(sha256sum < "$f" | cut -c-64)" "$(stat -c %s "$f")" "$f"
/// done | sha256sum
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest(Sha256Sum);

impl Digest {
    /// The digest of these files, in whatever order they come.
    pub fn of(files: &[FileRecord]) -> Self {
        let mut counted: Vec<&FileRecord> =
            files.iter().filter(|file| is_counted(&file.path)).collect();
        counted.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hasher = sha2::Sha256::new();
        for file in counted {
            hasher.update(format!("{} {} {}\n", file.sha256, file.size, file.path));
        }
        Self(Sha256Sum::of(hasher))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        text.strip_prefix("sha256:")
            .and_then(Sha256Sum::from_hex)
            .map(Self)
            .ok_or_else(|| ArtifactError::DigestInvalid { text: text.to_owned() })
    }
}

impl Sha256Sum {
    pub(crate) fn of(hasher: sha2::Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(sha2::Sha256::new_with_prefix(bytes))
    }

    fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            });
            *byte = high? << 4 | low?;
        }
        Some(Self(sum))
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Sha256Sum> for String {
    fn from(sum: Sha256Sum) -> Self {
        sum.to_string()
    }
}

impl TryFrom<String> for Sha256Sum {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::from_hex(&text).ok_or_else(|| format!("{text:?} is not a SHA-256 sum"))
    }
}

/// Whether a file takes part in the digest.
pub(crate) fn is_counted(path: &str) -> bool {
    path != GOLDEN_FILE && !is_hidden(path)
}

/// Whether a component of the path starts with a dot.
pub(crate) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|component| component.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, content: &[u8]) -> FileRecord {
        FileRecord {
            path: path.to_owned(),
            size: content.len() as u64,
            sha256: Sha256Sum::of(sha2::Sha256::new_with_prefix(content)),
        }
    }

    /// The sum was made with the shell commands of the type's documentation.
    const VECTOR: &str = "sha256:47e451a605fa4dea1a0512c5002606203b6bc31690561236b2a87b14936c89dc";

    #[test]
    fn the_digest_of_known_files_never_changes() {
        let files = [
            record("config.json", b"{}\n"),
            record("1_Pooling/config.json", b"pooling\n"),
            record("model.safetensors", b""),
        ];
        assert_eq!(Digest::of(&files).to_string(), VECTOR);
    }

    #[test]
    fn order_golden_and_hidden_files_do_not_count() {
        let files = [
            record("model.safetensors", b""),
            record("golden.json", b"{}"),
            record(".gitattributes", b"x"),
            record("1_Pooling/.cache/x", b"y"),
            record("1_Pooling/config.json", b"pooling\n"),
            record("config.json", b"{}\n"),
        ];
        assert_eq!(Digest::of(&files).to_string(), VECTOR);
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let file = record("a", b"1");
        let digest = Digest::of(std::slice::from_ref(&file));
        let others = [
            FileRecord { path: "b".to_owned(), ..file.clone() },
            FileRecord { size: 2, ..file.clone() },
            FileRecord { sha256: record("a", b"2").sha256, ..file.clone() },
            record("folder/golden.json", b"1"),
        ];
        for other in others {
            assert_ne!(Digest::of(&[other]), digest);
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_prints_and_nothing_else() {
        let digest: Digest = VECTOR.parse().unwrap();
        assert_eq!(digest.to_string(), VECTOR);
        let hex = &VECTOR["sha256:".len()..];
        for wrong in [
            "",
            "sha256:",
            hex,
            &VECTOR[..70],
            &format!("{VECTOR}0"),
            &format!("sha512:{hex}"),
            &format!("sha256:{}", hex.to_uppercase()),
            &format!("sha256:{}g", &hex[..63]),
            &format!("sha256:{}é", &hex[..62]),
        ] {
            let error = wrong.parse::<Digest>().unwrap_err();
            assert!(matches!(error, ArtifactError::DigestInvalid { .. }), "{wrong}");
        }
    }
}
