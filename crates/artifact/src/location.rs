//! The addresses under which model files are found.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use crate::error::ArtifactError;

/// The schemes of addresses, for people.
pub(crate) const SCHEMES: &str = "s3, gs, az, https, hf, pvc, image and oci";

/// The branch that repositories of the Hub begin with.
const DEFAULT_REVISION: &str = "main";

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
    /// `oci://registry/repository:tag/path` or `…@sha256:…/path`: a folder of an OCI image or
    /// artifact that is mounted as a volume. Without a path, its root.
    Oci {
        /// The image's reference, with a tag or a digest.
        reference: String,
        /// The path below its root; may be empty.
        path: PathBuf,
    },
    /// `s3://bucket/prefix`: the objects below a prefix of an S3 bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The prefix, without a slash at either end.
        prefix: String,
    },
    /// `gs://bucket/prefix`: the objects below a prefix of a bucket of Google Cloud Storage.
    Gcs {
        /// The bucket's name.
        bucket: String,
        /// The prefix, without a slash at either end.
        prefix: String,
    },
    /// `az://container/prefix`: the blobs below a prefix of a container of Azure Blob Storage.
    Azure {
        /// The container's name. Its storage account is a setting.
        container: String,
        /// The prefix, without a slash at either end.
        prefix: String,
    },
    /// `https://host/path`: the files that a `SHA256SUMS` in a folder of a web server lists.
    Https {
        /// The folder's address, without a slash at its end.
        base: String,
    },
    /// `hf://organisation/repository@revision`: a repository of the Hugging Face Hub.
    Hub {
        /// The repository, with its organisation or user if it has one.
        repository: String,
        /// A branch, tag or commit; `main` if the address has none.
        revision: String,
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
        let named = |what: &str, check: fn(&str) -> Result<(), &'static str>| {
            let refuse =
                |problem| invalid(format!("{place:?} is not the name of a {what}: {problem}"));
            check(place).map_err(refuse).map(|()| place.to_owned())
        };
        Ok(match scheme {
            "image" if place.is_empty() => Self::Image { path: format!("/{}", path()?).into() },
            "image" => {
                return Err(invalid(
                    "a path in the image starts with a third slash, as in image:///models/a"
                        .to_owned(),
                ));
            }
            "pvc" => Self::Claim { claim: named("claim", check_claim)?, path: path()?.into() },
            "s3" => Self::S3 { bucket: named("bucket", check_bucket)?, prefix: path()?.to_owned() },
            "gs" => {
                Self::Gcs { bucket: named("bucket", check_gcs_bucket)?, prefix: path()?.to_owned() }
            }
            "az" => Self::Azure {
                container: named("container", check_container)?,
                prefix: path()?.to_owned(),
            },
            "https" => Self::Https { base: web_folder(uri).map_err(invalid)? },
            "hf" => hub(rest).map_err(|problem| invalid(problem.to_owned()))?,
            "oci" => oci(rest).map_err(|problem| invalid(problem.to_owned()))?,
            _ => {
                return Err(ArtifactError::SchemeUnsupported {
                    uri: uri.to_owned(),
                    scheme: scheme.to_owned(),
                });
            }
        })
    }

    /// The same repository at a commit, instead of what its revision stands for now. An address of
    /// a store without commits stays what it is.
    #[must_use]
    pub fn at(self, commit: &str) -> Self {
        match self {
            Self::Hub { repository, .. } => Self::Hub { repository, revision: commit.to_owned() },
            other => other,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { path } => write!(f, "image://{}", path.display()),
            Self::Claim { claim, path } => write!(f, "pvc://{claim}/{}", path.display()),
            Self::Oci { reference, path } if path.as_os_str().is_empty() => {
                write!(f, "oci://{reference}")
            }
            Self::Oci { reference, path } => write!(f, "oci://{reference}/{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Gcs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            Self::Azure { container, prefix } => write!(f, "az://{container}/{prefix}"),
            Self::Https { base } => f.write_str(base),
            Self::Hub { repository, revision } => write!(f, "hf://{repository}@{revision}"),
        }
    }
}

/// A web address that means what it says: one that would be read as another one is refused.
fn web_folder(uri: &str) -> Result<String, String> {
    let base = uri.strip_suffix('/').unwrap_or(uri);
    let url = Url::parse(base).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user; write the credentials into a Secret".to_owned());
    }
    let (_, path) = base["https://".len()..].split_once('/').unwrap_or_default();
    plain_path(path)?;
    if url.as_str() != base {
        return Err(format!("it would be read as {url}; write it that way"));
    }
    Ok(base.to_owned())
}

/// A repository with or without a revision, by the rules of the Hub
/// (<https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_validators.py>).
fn hub(rest: &str) -> Result<Location, &'static str> {
    let (repository, revision) = match rest.split_once('@') {
        Some((repository, revision)) => (repository, revision),
        None => (rest, DEFAULT_REVISION),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = |part: &str| {
        let edge = |c: char| c == '.' || c == '-';
        (1..=96).contains(&part.len())
            && part.chars().all(allowed)
            && !part.starts_with(edge)
            && !part.ends_with(edge)
            && !part.contains("..")
            && !part.contains("--")
    };
    if repository.split('/').count() > 2 || !repository.split('/').all(is_name) {
        return Err("write it as hf://organisation/repository@revision");
    }
    let is_revision = (1..=255).contains(&revision.len())
        && revision
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed));
    if !is_revision {
        return Err("a revision is a branch, a tag or a commit, of letters, digits and . _ - /");
    }
    Ok(Location::Hub { repository: repository.to_owned(), revision: revision.to_owned() })
}

/// A reference to an image
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>)
/// and a path in it. The registry and the tag or digest are never left to a default: other
/// programs have different ones.
fn oci(rest: &str) -> Result<Location, &'static str> {
    let (registry, name) = rest.split_once('/').unwrap_or((rest, ""));
    let is_host = !registry.is_empty()
        && registry.chars().all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c))
        && (registry.contains(['.', ':']) || registry == "localhost");
    if !is_host {
        return Err("it must begin with a registry, as in oci://ghcr.io/organisation/model:1.0");
    }
    let Some(end) = name.find([':', '@']) else {
        return Err("it must have a tag or a digest, as in oci://ghcr.io/organisation/model:1.0");
    };
    let (repository, version) = name.split_at(end);
    let ordinary = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_repository = repository.split('/').all(|part| {
        part.starts_with(ordinary)
            && part.ends_with(ordinary)
            && part.chars().all(|c| ordinary(c) || "._-".contains(c))
    });
    if !is_repository {
        return Err("its repository must be of lower-case letters, digits and . _ - /");
    }
    let (version, path) = version.split_once('/').unwrap_or((version, ""));
    let is_version = match version.split_at(1) {
        (":", tag) => {
            (1..=128).contains(&tag.len())
                && !tag.starts_with(['.', '-'])
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        }
        (_, digest) => digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        }),
    };
    if !is_version {
        return Err("its tag or digest must be one, as in :1.0 or @sha256: and 64 digits");
    }
    let path = if path.is_empty() { "" } else { plain_path(path)? };
    Ok(Location::Oci { reference: format!("{registry}/{repository}{version}"), path: path.into() })
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

/// The rules for the names of buckets (<https://cloud.google.com/storage/docs/buckets#naming>).
fn check_gcs_bucket(name: &str) -> Result<(), &'static str> {
    if !(3..=222).contains(&name.len()) {
        return Err("it must have 3 to 222 characters");
    }
    let ordinary = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !name.chars().all(|c| ordinary(c) || "-_.".contains(c)) {
        return Err("it may have lower-case letters, digits, dots, hyphens and underscores only");
    }
    if !name.starts_with(ordinary) || !name.ends_with(ordinary) || name.contains("..") {
        return Err("it must begin and end with a letter or digit and have no two dots in a row");
    }
    Ok(())
}

/// The rules for the names of containers
/// (<https://learn.microsoft.com/en-us/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>).
fn check_container(name: &str) -> Result<(), &'static str> {
    if !(3..=63).contains(&name.len()) {
        return Err("it must have 3 to 63 characters");
    }
    let ordinary = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !name.chars().all(|c| ordinary(c) || c == '-') {
        return Err("it may have lower-case letters, digits and hyphens only");
    }
    if !name.starts_with(ordinary) || !name.ends_with(ordinary) || name.contains("--") {
        return Err(
            "it must begin and end with a letter or digit and have no two hyphens in a row",
        );
    }
    Ok(())
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
#[path = "location_tests.rs"]
mod tests;
