//! The pods that load and serve the models.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, ResourceRequirements, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::LocalReference;

/// How the names of the extended resources begin by which pods ask for NVIDIA GPUs: whole or shared
/// ones, and slices
/// (<https://docs.nvidia.com/datacenter/cloud-native/kubernetes/latest/index.html>).
const GPUS: [&str; 2] = ["nvidia.com/gpu", "nvidia.com/mig-"];

/// The pods that load and serve the models.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.device) || self.device != 'Cuda' || (has(self.resources) && has(self.resources.limits) && self.resources.limits.exists(name, name.startsWith('nvidia.com/')))")
        .message("worker.device: Cuda needs a GPU; add nvidia.com/gpu to resources.limits, or set worker.device: Cpu"),
    validation = Rule::new("!has(self.precision) || self.precision != 'BF16' || (has(self.device) ? self.device == 'Cpu' : !has(self.resources) || !has(self.resources.limits) || !self.resources.limits.exists(name, name.startsWith('nvidia.com/gpu') || name.startsWith('nvidia.com/mig-')))")
        .message("worker.precision: BF16 is for models on the processor; remove it, or set worker.device: Cpu")
)]
pub struct WorkerSpec {
    /// The worker image. Unset: the one for the device that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,

    /// When the node pulls the image. Unset: `Always` for the tag `latest`, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets of this namespace with the credentials of the image registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<LocalReference>,

    /// Where the models run. Unset: `Cuda` where `nvidia.com/gpu` or a slice of one is requested, else `Cpu`. A
    /// device that is missing is an error, never a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Device")]
    pub device: Option<Device>,

    /// In which number format models on the processor multiply their weights. A model that does not
    /// give in `BF16` what it gives in `F32` computes in `F32` all the same. Unset: `Auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Precision")]
    pub precision: Option<Precision>,

    /// Compute resources of the worker container, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::resources")]
    pub resources: Option<ResourceRequirements>,

    /// Where downloaded models are kept. Unset: with the pod, and downloaded by each pod anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cache")]
    pub cache: Option<Cache>,

    /// Who may ask: requests need one of these keys. Unset: whoever reaches the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKeys")]
    pub api_keys: Option<ApiKeys>,

    /// Environment variables of the worker container, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::env")]
    pub env: Vec<EnvVar>,

    /// `ConfigMap`s and Secrets whose entries become environment variables, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::env_from")]
    pub env_from: Vec<EnvFromSource>,

    /// Labels that a node must have, as in a pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::labels")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that the pods tolerate, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::tolerations")]
    pub tolerations: Vec<Toleration>,

    /// Where pods must or should run, relative to nodes and other pods, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::affinity")]
    pub affinity: Option<Affinity>,

    /// The `ServiceAccount` of the pods. Its token is not mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,

    /// The `PriorityClass` of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,

    /// The `RuntimeClass` of the pods, for example `nvidia`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub runtime_class_name: Option<String>,
}

impl WorkerSpec {
    /// Where the models run: `device`, or what an unset `device` means.
    pub fn effective_device(&self) -> Device {
        self.device.unwrap_or_else(|| {
            if self.gpus().next().is_some() { Device::Cuda } else { Device::Cpu }
        })
    }

    /// The GPUs that the pods ask for, by the names of their resources; a name may come twice, from
    /// limits and requests.
    pub fn gpus(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        let resources = self.resources.iter();
        resources
            .flat_map(|resources| [&resources.limits, &resources.requests])
            .flatten()
            .flatten()
            .map(|(name, quantity)| (name.as_str(), quantity))
            .filter(|(name, _)| GPUS.iter().any(|gpu| name.starts_with(gpu)))
    }
}

/// Where downloaded models are kept.
#[derive(JsonSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// A volume that the pods share: each version is downloaded once, and a return needs no store.
    pub persistent_volume_claim: ClaimReference,
}

/// A `PersistentVolumeClaim` of the same namespace, which every node that runs the pods can mount.
#[derive(JsonSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
}

/// Keys of which a request needs one, as `Authorization: Bearer KEY` or `x-api-key: KEY`.
#[derive(JsonSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeys {
    /// The entry of a Secret that holds them, one a line. What it holds may change while pods serve: they
    /// follow about a minute later, without a restart.
    pub secret_key_ref: SecretKeyReference,
}

/// An entry of a Secret of the same namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// The name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,

    /// The name of the entry.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Where models run.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// A number format that weights are multiplied in.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Precision {
    /// Whichever is fastest on the node.
    Auto,
    /// 32-bit floating point.
    F32,
    /// Rounded to 8 significant bits, summed in 32-bit floating point; in software where the node has
    /// no instructions for it.
    BF16,
}

/// When a node pulls an image.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum ImagePullPolicy {
    /// Before each start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The name as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
