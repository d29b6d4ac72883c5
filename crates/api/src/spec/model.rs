//! One model of the list: its name, version, task, source and pin.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validation::Validation;

/// One version of one model.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// The name that requests use: lowercase letters, digits and hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The version; a request may say `name:version`. Letters, digits and `. _ + -`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9._+-]+$"))]
    pub version: String,

    /// What the model is for.
    pub task: Task,

    /// Whether the plain name means this version, when several versions of it are listed.
    #[serde(default)]
    pub default: bool,

    /// Where the files of the model are.
    pub source: Source,

    /// The digest that the artifact must have: `sha256:` and 64 hexadecimal digits, as
    /// `status.active.models` shows it. Other bytes are never loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub expected_digest: Option<String>,

    /// How the answers of the model are checked before it serves.
    #[serde(default)]
    pub validation: Validation,
}

/// What a model is for.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Task {
    /// Texts in, one vector each out.
    Embedding,
    /// A query and passages in, one score for each passage out.
    Rerank,
    /// Texts in, for each a score for every label out.
    Classification,
}

/// Where the files of a model are.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.secretRef) || !self.uri.matches('^(pvc|image|oci)://')")
        .message("secretRef: a claim or an image takes no credentials; remove secretRef (a registry's go into worker.imagePullSecrets)")
)]
pub struct Source {
    /// The folder of the artifact: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`, `https://host/path` (with a `SHA256SUMS`),
    /// `hf://organisation/repository@revision`, `pvc://claim/path` (a `PersistentVolumeClaim` of
    /// this namespace), `oci://registry/repository:tag/path` (mounted as an image volume) or
    /// `image:///path` (baked into the worker image).
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^(s3|gs|az|https|hf|pvc|oci|image)://')")
            .message("uri: the scheme must be s3, gs, az, https, hf, pvc, oci or image"),
        validation = Rule::new("!self.startsWith('s3://') || (self.matches('^s3://[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]/.') && !self.matches('^s3://[^/]*[.][.]'))")
            .message("uri: must be s3://bucket/prefix with a bucket of 3 to 63 lowercase letters, digits, dots or hyphens that begins and ends with a letter or digit and has no two dots in a row"),
        validation = Rule::new("!self.startsWith('gs://') || self.matches('^gs://[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]/.')")
            .message("uri: must be gs://bucket/prefix"),
        validation = Rule::new("!self.startsWith('az://') || self.matches('^az://[a-z0-9](-?[a-z0-9]){2,62}/.')")
            .message("uri: must be az://container/prefix; the storage account is a setting"),
        validation = Rule::new("!self.startsWith('https://') || self.matches('^https://[a-z0-9][-a-z0-9.]*(:[0-9]+)?/.')")
            .message("uri: must be https://host/path without a user"),
        validation = Rule::new("!self.startsWith('hf://') || self.matches('^hf://[A-Za-z0-9_][-A-Za-z0-9_.]*(/[A-Za-z0-9_][-A-Za-z0-9_.]*)?(@[-A-Za-z0-9_./]+)?$')")
            .message("uri: must be hf://organisation/repository@revision"),
        validation = Rule::new("!self.startsWith('oci://') || self.matches('^oci://(localhost|[-a-z0-9]+[.:][-a-z0-9.:]+)/[-a-z0-9_./]+(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}|@sha256:[0-9a-f]{64})(/.*)?$')")
            .message("uri: must be oci://registry/repository:tag/path or with @sha256:… in place of the tag"),
        validation = Rule::new("!self.startsWith('pvc://') || (self.matches('^pvc://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/.') && !self.matches('^pvc://[^/]*[.][.]'))")
            .message("uri: must be pvc://claim/path with the name of a PersistentVolumeClaim and a path inside it"),
        validation = Rule::new("!self.startsWith('image://') || self.matches('^image:///.')")
            .message("uri: must be image:///path with an absolute path in the worker image"),
        validation = Rule::new(r"!self.matches('^[a-z0-9]+://.*(//|/[.]{1,2}(/|$))') && !self.matches('[[:cntrl:]?#\\\\]')")
            .message("uri: the path must not have an empty segment, a segment . or .., a control character nor one of ? # and backslash; write the path that you mean")
    )]
    pub uri: String,

    /// The Secret of this namespace with the credentials of the store. It is mounted as files
    /// named like the store's own environment variables (`AWS_ACCESS_KEY_ID`,
    /// `AWS_ENDPOINT_URL`, `HF_TOKEN`, …; `ca.crt` for its certificate authority) for this model
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// The name of an object of the same namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Its name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}
