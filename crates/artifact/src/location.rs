//! The addresses under which model files are found.

use std::fmt;
use std::path::PathBuf;

use crate::error::ArtifactError;

/// Where the files of an artifact are.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Location {
    /// `image:///path`: a folder of the container's own image.
    Image {
        /// The absolute path.
        path: PathBuf,
    },
    /// `pvc://claim/path`: a folder of a mounted `PersistentVolumeClaim`.
    Claim {
        /// The claim's name.
        claim: String,
        /// The path below the volume's root.
        path: PathBuf,
    },
    /// `s3://bucket/prefix`: the objects below a prefix of a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The prefix, without a slash at either end.
        prefix: String,
    },
}

impl Location {
    /// Reads an address. Nothing in it is decoded or resolved, so that what is checked here is
    /// what is opened later: a path of `..`, of an empty component or of `%2e` gets nowhere.
    pub fn parse(uri: &str) -> Result<Self, ArtifactError> {
        let invalid =
            |problem: String| ArtifactError::LocationInvalid { uri: uri.to_owned(), problem };
        let (scheme, rest) = uri
            .split_once("://")
            .ok_or_else(|| invalid("it is not of the form scheme://place/path".to_owned()))?;
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = || plain_path(path).map_err(|problem| invalid(problem.to_owned()));
        match scheme {
            "image" if place.is_empty() => {
                Ok(Self::Image { path: PathBuf::from(format!("/{}", path()?)) })
            }
            "image" => Err(invalid(
                "a path in the image starts with a third slash, as in image:///models/a".to_owned(),
            )),
            "pvc" if is_dns_name(place, 1..=253) => {
                Ok(Self::Claim { claim: place.to_owned(), path: path()?.into() })
            }
            "pvc" => Err(invalid(format!("{place:?} is not the name of a claim"))),
            "s3" if is_dns_name(place, 3..=63) => {
                Ok(Self::S3 { bucket: place.to_owned(), prefix: path()?.to_owned() })
            }
            "s3" => Err(invalid(format!("{place:?} is not the name of a bucket"))),
            _ => Err(ArtifactError::SchemeUnsupported {
                uri: uri.to_owned(),
                scheme: scheme.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { path } => write!(f, "image://{}", path.display()),
            Self::Claim { claim, path } => write!(f, "pvc://{claim}/{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The path without the slash at its end, if it is one that an address may have.
fn plain_path(path: &str) -> Result<&str, &'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Err("it names no folder");
    }
    if path.contains(['\\', '?', '#']) {
        return Err("it has a backslash, a question mark or a number sign");
    }
    check_components(path).map(|()| path)
}

/// Refuses a relative path that would leave the folder it is joined to, or that no file system
/// stores as it is written.
pub(crate) fn check_components(path: &str) -> Result<(), &'static str> {
    for component in path.split('/') {
        match component {
            "" => return Err("it has an empty path component"),
            "." | ".." => return Err("it has a relative path component"),
            _ if component.chars().any(char::is_control) => {
                return Err("it has a control character");
            }
            _ => {}
        }
    }
    Ok(())
}

/// The characters of claim names (RFC 1123 subdomains) and bucket names are the same:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>.
fn is_dns_name(name: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    let ordinary = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    length.contains(&name.len())
        && name.chars().all(|c| ordinary(c) || c == '-' || c == '.')
        && name.starts_with(ordinary)
        && name.ends_with(ordinary)
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_are_read_and_print_the_same() {
        let image = |path: &str| Location::Image { path: path.into() };
        let claim =
            |claim: &str, path: &str| Location::Claim { claim: claim.into(), path: path.into() };
        let s3 = |bucket: &str, prefix: &str| Location::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (uri, expected) in [
            ("image:///models/minilm", image("/models/minilm")),
            ("image:///m", image("/m")),
            ("pvc://models/minilm/2.1.0", claim("models", "minilm/2.1.0")),
            ("pvc://a.b-c/x", claim("a.b-c", "x")),
            ("s3://models/minilm/2.1.0", s3("models", "minilm/2.1.0")),
            ("s3://my.bucket-1/a b/ü%20+", s3("my.bucket-1", "a b/ü%20+")),
            ("s3://models/..a/b..", s3("models", "..a/b..")),
        ] {
            let location = Location::parse(uri).unwrap();
            assert_eq!(location, expected, "{uri}");
            assert_eq!(location.to_string(), uri);
        }
        assert_eq!(Location::parse("s3://models/minilm/").unwrap(), s3("models", "minilm"),);
    }

    #[test]
    fn bad_addresses_are_refused() {
        for uri in [
            "",
            "models/minilm",
            "s3:models/minilm",
            "image://models/minilm",
            "image:///",
            "image:////etc",
            "image:///models/../etc",
            "image:///models/./x",
            "image:///..",
            "image:///models//x",
            "image:///models/a\0b",
            "image:///models/a\nb",
            "image:///models\\..\\etc",
            "pvc://models",
            "pvc://models/",
            "pvc:///minilm",
            "pvc://Models/minilm",
            "pvc://../minilm",
            "pvc://models/../other/x",
            "pvc://models//etc/passwd",
            "s3://models",
            "s3://models/",
            "s3://ab/minilm",
            "s3://under_score/minilm",
            "s3://user:secret@models/minilm",
            "s3://models/minilm?versionId=3",
            "s3://models/minilm#main",
            "s3://models/..",
        ] {
            let error = Location::parse(uri).unwrap_err();
            assert!(matches!(error, ArtifactError::LocationInvalid { .. }), "{uri}: {error}");
        }
    }

    #[test]
    fn an_unsupported_scheme_is_named() {
        for (uri, scheme) in [
            ("gs://models/minilm", "gs"),
            ("hf://org/repo@main", "hf"),
            ("file:///models", "file"),
            ("S3://models/minilm", "S3"),
        ] {
            let error = Location::parse(uri).unwrap_err();
            assert_eq!(error.found().as_deref(), Some(scheme), "{error}");
            assert!(matches!(error, ArtifactError::SchemeUnsupported { .. }));
        }
    }
}
