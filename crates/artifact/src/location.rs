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
            "pvc" => {
                check_claim(place).map_err(|problem| {
                    invalid(format!("{place:?} is not the name of a claim: {problem}"))
                })?;
                Ok(Self::Claim { claim: place.to_owned(), path: path()?.into() })
            }
            "s3" => {
                check_bucket(place).map_err(|problem| {
                    invalid(format!("{place:?} is not the name of a bucket: {problem}"))
                })?;
                Ok(Self::S3 { bucket: place.to_owned(), prefix: path()?.to_owned() })
            }
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

/// The rules for the names of buckets
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>). Reserved
/// prefixes and suffixes are left to the store: some are of aliases that stand for a bucket.
fn check_bucket(name: &str) -> Result<(), &'static str> {
    if !(3..=63).contains(&name.len()) {
        return Err("it must have 3 to 63 characters");
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("it must not look like an IP address");
    }
    check_dns_name(name)
}

/// Claims are named like all objects: by an RFC 1123 subdomain
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
fn check_claim(name: &str) -> Result<(), &'static str> {
    if !(1..=253).contains(&name.len()) {
        return Err("it must have 1 to 253 characters");
    }
    check_dns_name(name)
}

fn check_dns_name(name: &str) -> Result<(), &'static str> {
    let ordinary = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !name.chars().all(|c| ordinary(c) || c == '-' || c == '.') {
        return Err("it may have lower-case letters, digits, dots and hyphens only");
    }
    if name.contains("..") {
        return Err("it must not have two dots in a row");
    }
    if !name.split('.').all(|label| label.starts_with(ordinary) && label.ends_with(ordinary)) {
        return Err("it must begin and end with a letter or digit, and so must each part between \
                    dots");
    }
    Ok(())
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
    fn a_bucket_or_claim_that_cannot_be_named_so_is_refused_by_its_rule() {
        for (uri, rule) in [
            ("s3://ab/x", "3 to 63 characters"),
            ("s3://a..b/x", "two dots in a row"),
            ("s3://192.168.5.4/x", "IP address"),
            ("s3://Models/x", "lower-case letters"),
            ("s3://under_score/x", "lower-case letters"),
            ("s3://-models/x", "begin and end with a letter or digit"),
            ("s3://models-/x", "begin and end with a letter or digit"),
            ("s3://.models/x", "begin and end with a letter or digit"),
            ("s3://my.-bucket/x", "each part between dots"),
            ("pvc:///x", "1 to 253 characters"),
            ("pvc://a..b/x", "two dots in a row"),
            ("pvc://a.-b/x", "each part between dots"),
        ] {
            let error = Location::parse(uri).unwrap_err().to_string();
            assert!(error.contains(rule), "{uri}: {error}");
        }
        let long = format!("s3://{}/x", "a".repeat(64));
        assert!(Location::parse(&long).unwrap_err().to_string().contains("3 to 63"));
        for uri in ["s3://192.168.5.400/x", "s3://1.2.3/x", "s3://models-s3alias/x"] {
            Location::parse(uri).unwrap();
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
