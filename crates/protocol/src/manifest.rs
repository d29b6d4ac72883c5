//! The startup manifest: which models a pod serves, from where, and how their answers are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the manifest's format that this crate writes and reads.
pub const FORMAT: u32 = 1;

/// All that a worker needs to know at start. Written once per revision, never changed. A field
/// that is not known, here and below, makes it [`ManifestError::Malformed`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format, [`FORMAT`].
    pub format: u32,
    /// The deployment as `namespace/name`.
    pub deployment: String,
    /// The revision's hash.
    pub revision: String,
    /// Where the models run.
    pub device: Device,
    /// In which number format they run.
    #[serde(default)]
    pub precision: Precision,
    /// The models; all are loaded before the pod is ready.
    pub models: Vec<ModelEntry>,
}

/// Where models run. A device that is missing is an error, never a fallback.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// The number format in which weights are multiplied.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Precision {
    /// The one that is fastest where the models run, for each model that gives in it what it gives in
    /// 32-bit floats.
    #[default]
    Auto,
    /// 32-bit floating point.
    F32,
    /// Rounded to 8 significant bits and summed in 32-bit floats, for each model that gives so what
    /// it gives in 32-bit floats.
    BF16,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Task {
    /// Texts in, one vector each out.
    Embedding,
    /// A query and passages in, one score for each passage out.
    Rerank,
    /// Texts in, for each a score for every label out.
    Classification,
}

impl Task {
    /// The name as users write it in the resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedding => "Embedding",
            Self::Rerank => "Rerank",
            Self::Classification => "Classification",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Name and version of a model, printed as `name:version`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelKey {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

impl From<ModelKey> for String {
    fn from(key: ModelKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for ModelKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some((name, version)) if !name.is_empty() && !version.is_empty() => {
                Ok(Self { name: name.to_owned(), version: version.to_owned() })
            }
            _ => Err(format!("{text:?} is not of the form name:version")),
        }
    }
}

/// One model of the manifest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelEntry {
    /// The name that requests use.
    pub name: String,
    /// The version; requests may say `name:version`.
    pub version: String,
    /// What the model is for.
    pub task: Task,
    /// Whether the plain `name` means this version.
    #[serde(default)]
    pub default: bool,
    /// Where its files are.
    pub source: Source,
    /// The artifact's digest, `sha256:` and 64 hexadecimal digits, if it is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_digest: Option<String>,
    /// How its answers are checked before it serves.
    #[serde(default)]
    pub validation: ValidationPlan,
}

impl ModelEntry {
    /// `name:version`.
    pub fn key(&self) -> ModelKey {
        ModelKey { name: self.name.clone(), version: self.version.clone() }
    }

    /// The rule that the type cannot hold: name and version can be a key.
    pub fn check(&self) -> Result<(), ManifestError> {
        let cannot = |part: &String| part.is_empty() || part.contains(':');
        if [&self.name, &self.version].into_iter().any(cannot) {
            return Err(ManifestError::Key {
                name: self.name.clone(),
                version: self.version.clone(),
            });
        }
        Ok(())
    }
}

/// Where the files of a model are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// An address of one of the schemes that `lamplighter_artifact::Location` reads.
    pub uri: String,
    /// Folder where the image of an `oci://` address is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Folder with one file per credential, for this model alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

/// How a model's answers are checked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidationPlan {
    /// Whether checking is required.
    #[serde(default)]
    pub mode: ValidationMode,
    /// The cases, in the order they run. The artifact's `golden.json`, if any, runs as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
}

/// Whether a model without a single case may serve.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ValidationMode {
    /// No case and no golden file: the model never becomes ready.
    #[default]
    Required,
    /// The user said that answers need not be checked; the status says so.
    Disabled,
}

/// One question with its expected answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// The case's name in reports.
    pub name: String,
    /// What is asked and expected.
    pub check: Check,
}

/// What a case asks and expects. Numbers are decimal strings, as in the resource.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Check {
    /// The cosine of two texts' vectors lies within bounds.
    #[serde(rename_all = "camelCase")]
    Similarity {
        /// The two texts.
        texts: [String; 2],
        /// Smallest allowed cosine, −1 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<String>,
        /// Largest allowed cosine, −1 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<String>,
    },
    /// Passages ordered by falling cosine to a query; of a [`Task::Rerank`] model, by falling score.
    Ranking {
        /// The query.
        query: String,
        /// The passages.
        passages: Vec<String>,
        /// Indices of `passages`, best first.
        order: Vec<usize>,
    },
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not the shape of a manifest.
    #[error("the manifest is not valid: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by another version of the operator.
    #[error(
        "the manifest has format {found}, this worker reads {FORMAT}; use worker and operator of one release"
    )]
    Format {
        /// The format that was found.
        found: u32,
    },
    /// Nothing to serve.
    #[error("the manifest names no model")]
    Empty,
    /// The same `name:version` twice.
    #[error("model {0} is listed twice")]
    Duplicate(ModelKey),
    /// Not usable as `name:version`.
    #[error(
        "{name:?} with version {version:?} cannot be a model key: both must be non-empty and without a colon"
    )]
    Key {
        /// The name that was found.
        name: String,
        /// The version that was found.
        version: String,
    },
    /// Several versions of a name, and not exactly one of them is the default.
    #[error(
        "model {name} has {versions} versions and {defaults} of them are marked default; mark exactly one"
    )]
    Default {
        /// The model's name.
        name: String,
        /// How many versions of it are listed.
        versions: usize,
        /// How many are marked default.
        defaults: usize,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_str(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Who has this manifest, as a file name: `namespace.name.revision`. None of the three has a
    /// dot.
    pub fn user(&self) -> String {
        format!("{}.{}", self.deployment.replace('/', "."), self.revision)
    }

    /// The rules that the type cannot hold: at least one model, distinct keys, one default a name.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::Format { found: self.format });
        }
        if self.models.is_empty() {
            return Err(ManifestError::Empty);
        }
        let mut keys = BTreeSet::new();
        let mut names: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for model in &self.models {
            model.check()?;
            if !keys.insert(model.key()) {
                return Err(ManifestError::Duplicate(model.key()));
            }
            let (versions, defaults) = names.entry(&model.name).or_default();
            *versions += 1;
            *defaults += usize::from(model.default);
        }
        for (name, (versions, defaults)) in names {
            if defaults > 1 || (versions > 1 && defaults != 1) {
                return Err(ManifestError::Default { name: name.to_owned(), versions, defaults });
            }
        }
        Ok(())
    }
}
