//! Step 2: is the spec one that can be acted on? The rules of the CRD have been held already;
//! here are those that they cannot express.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use lamplighter_api::{
    Device, Model, ModelDeployment, Reason, Task, ValidationCase, ValidationMode,
};
use lamplighter_api::{ServiceSpec, WorkerSpec};
use lamplighter_plan::RevisionId;
use lamplighter_protocol as protocol;
use lamplighter_protocol::{Manifest, ManifestError, ModelEntry, ValidationPlan, place};

use super::fetch::Fetched;
use super::revision::{Snapshot, SnapshotError};

/// The environment of every pod: what the Service selects.
pub const ENVIRONMENT: &str = "blue";
/// Largest manifest, in bytes. A ConfigMap may hold 1 MiB in all:
/// <https://kubernetes.io/docs/concepts/configuration/configmap/>.
pub const MAX_MANIFEST: usize = 512 * 1024;

/// A spec that can be acted on: the only input of what follows.
#[derive(Clone, Debug)]
pub struct Valid {
    /// The deployment's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What every child refers to.
    pub owner: OwnerReference,
    /// How many pods are wanted.
    pub replicas: u32,
    /// How long a pod may take to become ready, in seconds.
    pub progress_deadline_seconds: u32,
    /// How long a pod may take to finish its requests, in seconds.
    pub drain_seconds: u32,
    /// The revision's name.
    pub revision: RevisionId,
    /// What it consists of.
    pub snapshot: Snapshot,
    /// Its place in the order of creation.
    pub sequence: i64,
    /// What workers are told, as JSON.
    pub manifest: String,
    /// Secrets to mount, one for each model that names one.
    pub credentials: Vec<Credentials>,
    /// Claims to mount.
    pub claims: BTreeSet<String>,
    /// The pods.
    pub worker: WorkerSpec,
    /// The Service.
    pub service: ServiceSpec,
}

/// A Secret that is mounted for one model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// The Secret's name.
    pub secret: String,
    /// Where its files are.
    pub directory: String,
}

/// Why nothing is to be done.
#[derive(Debug)]
pub enum Unfit {
    /// It is being deleted; the garbage collector takes the children.
    Deleting,
    /// It lacks what the apiserver always sets.
    Incomplete(&'static str),
    /// Its spec cannot be acted on; a person has to change it.
    Invalid(Invalid),
}

/// What is wrong with a spec.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// A rule about all models together is broken.
    #[error("spec.models: {0}")]
    Manifest(#[from] ManifestError),
    /// The manifest is too large.
    #[error(
        "spec.models: the manifest has {bytes} bytes and may have {MAX_MANIFEST}; use fewer or shorter validation cases, or put them into the artifact's golden.json"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A case asks nothing, or two things.
    #[error(
        "spec.models: case {case} of model {model} needs exactly one of similarity (with two texts) and ranking"
    )]
    Case {
        /// The model.
        model: String,
        /// The case.
        case: String,
    },
    /// The models or the worker settings cannot be written as JSON.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The manifest cannot be written as JSON.
    #[error("spec.models: the manifest cannot be written: {0}")]
    Unprintable(#[from] serde_json::Error),
}

impl Invalid {
    /// The reason of the conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Manifest(_) => Reason::ModelsInvalid,
            Self::TooLarge { .. } => Reason::ManifestTooLarge,
            Self::Case { .. } => Reason::CaseInvalid,
            Self::Snapshot(_) | Self::Unprintable(_) => Reason::SpecInvalid,
        }
    }
}

impl<E: Into<Invalid>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Self::Invalid(error.into())
    }
}

/// Checks the spec and resolves what it leaves open.
pub fn validate(
    deployment: &ModelDeployment,
    fetched: &Fetched,
    default_image: &str,
) -> Result<Valid, Unfit> {
    if deployment.metadata.deletion_timestamp.is_some() {
        return Err(Unfit::Deleting);
    }
    let name = deployment.metadata.name.clone().ok_or(Unfit::Incomplete("metadata.name"))?;
    let namespace = deployment.namespace().ok_or(Unfit::Incomplete("metadata.namespace"))?;
    let owner = deployment.controller_owner_ref(&()).ok_or(Unfit::Incomplete("metadata.uid"))?;
    let spec = &deployment.spec;
    let records = fetched.records.iter().map(AsRef::as_ref);
    let drain_seconds = natural(spec.rollout.drain_seconds);
    let snapshot =
        Snapshot::resolve(&spec.models, &spec.worker, drain_seconds, records, default_image)?;
    let revision = snapshot.hash();
    Ok(Valid {
        manifest: manifest(deployment, &format!("{namespace}/{name}"), &revision)?,
        sequence: sequence(fetched, &revision, &name),
        name,
        namespace,
        owner: OwnerReference { block_owner_deletion: Some(true), ..owner },
        replicas: natural(spec.replicas),
        progress_deadline_seconds: natural(spec.rollout.progress_deadline_seconds),
        drain_seconds,
        revision,
        snapshot,
        credentials: spec.models.iter().filter_map(credentials).collect(),
        claims: spec.models.iter().filter_map(claim).collect(),
        worker: spec.worker.clone(),
        service: spec.service.clone(),
    })
}

/// The schema allows no negative number.
fn natural(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// The recorded place of this revision, or the next free one.
fn sequence(fetched: &Fetched, revision: &RevisionId, deployment: &str) -> i64 {
    let name = lamplighter_api::names::revision_object(deployment, revision.as_str());
    let recorded = fetched.records.iter().find(|record| record.name_any() == name);
    let newest = fetched.records.iter().map(|record| record.revision).max().unwrap_or_default();
    recorded.map_or(newest.saturating_add(1), |record| record.revision)
}

fn manifest(
    deployment: &ModelDeployment,
    name: &str,
    revision: &RevisionId,
) -> Result<String, Invalid> {
    let manifest = Manifest {
        format: protocol::manifest::FORMAT,
        deployment: name.to_owned(),
        revision: revision.to_string(),
        device: match deployment.spec.worker.effective_device() {
            Device::Cpu => protocol::Device::Cpu,
            Device::Cuda => protocol::Device::Cuda,
        },
        precision: protocol::Precision::Auto,
        models: deployment.spec.models.iter().map(entry).collect::<Result<_, _>>()?,
    };
    manifest.check()?;
    let text = serde_json::to_string_pretty(&manifest)?;
    if text.len() > MAX_MANIFEST {
        return Err(Invalid::TooLarge { bytes: text.len() });
    }
    Ok(text)
}

fn entry(model: &Model) -> Result<ModelEntry, Invalid> {
    let cases = model.validation.cases.iter();
    let cases = cases.map(|case| checked(model, case)).collect::<Result<_, _>>()?;
    Ok(ModelEntry {
        name: model.name.clone(),
        version: model.version.clone(),
        task: match model.task {
            Task::Embedding => protocol::Task::Embedding,
        },
        default: model.default,
        source: protocol::Source {
            uri: model.source.uri.clone(),
            credentials: credentials(model).map(|credentials| credentials.directory),
        },
        expected_digest: model.expected_digest.clone(),
        validation: ValidationPlan {
            mode: match model.validation.mode {
                ValidationMode::Required => protocol::ValidationMode::Required,
                ValidationMode::Disabled => protocol::ValidationMode::Disabled,
            },
            cases,
        },
    })
}

fn checked(model: &Model, case: &ValidationCase) -> Result<protocol::Case, Invalid> {
    let odd = || Invalid::Case { model: model.name.clone(), case: case.name.clone() };
    let check = match (&case.similarity, &case.ranking) {
        (Some(similarity), None) => protocol::Check::Similarity {
            texts: similarity.texts.clone().try_into().map_err(|_| odd())?,
            at_least: similarity.at_least.clone(),
            at_most: similarity.at_most.clone(),
        },
        (None, Some(ranking)) => protocol::Check::Ranking {
            query: ranking.query.clone(),
            passages: ranking.passages.clone(),
            order: ranking
                .order
                .iter()
                .map(|index| usize::try_from(*index))
                .collect::<Result<_, _>>()
                .map_err(|_| odd())?,
        },
        (Some(_), Some(_)) | (None, None) => return Err(odd()),
    };
    Ok(protocol::Case { name: case.name.clone(), check })
}

/// Names and versions have no `@`, so no two models share a folder.
fn credentials(model: &Model) -> Option<Credentials> {
    let secret = model.source.secret_ref.as_ref()?.name.clone();
    let directory = format!("{}/{}@{}", place::CREDENTIALS_DIR, model.name, model.version);
    Some(Credentials { secret, directory })
}

fn claim(model: &Model) -> Option<String> {
    let rest = model.source.uri.strip_prefix("pvc://")?;
    rest.split('/').next().map(str::to_owned)
}
