//! Step 2: is the spec one that can be acted on? The rules of the CRD have been held already;
//! here are those that they cannot express.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use lamplighter_api::{ModelDeployment, Reason, RolloutSpec, ServiceSpec};
use lamplighter_plan::rollout::strategy::{Compatibility, Kind};
use lamplighter_plan::rollout::{OnInsufficientCapacity, Policy, Promotion, Retry};
use lamplighter_plan::{RevisionId, Seconds};
use lamplighter_protocol::ManifestError;

use super::blueprint::{Blueprint, Identity};
use super::fetch::Fetched;
use super::revision::{Snapshot, SnapshotError, Wishes};
use crate::images::Images;

/// Largest manifest, in bytes. A ConfigMap may hold 1 MiB in all:
/// <https://kubernetes.io/docs/concepts/configuration/configmap/>.
pub const MAX_MANIFEST: usize = 512 * 1024;

/// A spec that can be acted on: the only input of what follows.
#[derive(Clone, Debug)]
pub struct Valid {
    /// Whose children there are to be.
    pub identity: Identity,
    /// How many pods are wanted.
    pub replicas: u32,
    /// Nothing new is to begin.
    pub paused: bool,
    /// How changes are made.
    pub policy: Policy,
    /// The revision that the spec describes.
    pub wanted: Blueprint,
    /// Its place in the order of creation.
    pub sequence: i64,
    /// The images of workers that name none.
    pub images: Images,
    /// The Service.
    pub service: ServiceSpec,
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
            Self::Snapshot(SnapshotError::NoImage) => Reason::WorkerImageUnset,
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
    images: &Images,
) -> Result<Valid, Unfit> {
    if deployment.metadata.deletion_timestamp.is_some() {
        return Err(Unfit::Deleting);
    }
    let name = deployment.metadata.name.clone().ok_or(Unfit::Incomplete("metadata.name"))?;
    let namespace = deployment.namespace().ok_or(Unfit::Incomplete("metadata.namespace"))?;
    let owner = deployment.controller_owner_ref(&()).ok_or(Unfit::Incomplete("metadata.uid"))?;
    let identity = Identity {
        name,
        namespace,
        owner: OwnerReference { block_owner_deletion: Some(true), ..owner },
    };
    let spec = &deployment.spec;
    let records = fetched.records.iter().map(AsRef::as_ref);
    let snapshot = Snapshot::resolve(&Wishes::of(deployment), records, images)?;
    let wanted = Blueprint::of(&identity, snapshot)?;
    Ok(Valid {
        sequence: sequence(fetched, &wanted.revision, &identity.name),
        replicas: natural(spec.replicas),
        paused: spec.paused,
        images: images.clone(),
        policy: policy(&spec.rollout),
        service: spec.service.clone(),
        identity,
        wanted,
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

/// How long a switch may take to be seen in the endpoints until it is called off.
const CONFIRM: Seconds = Seconds(30);
/// How long connections from before a switch may stay open: longer than the worker keeps any.
const SHED: Seconds = Seconds(40);
/// How old the validation of a candidate may be when it is promoted.
const VALIDATION_AGE: Seconds = Seconds(300);

fn policy(spec: &RolloutSpec) -> Policy {
    use lamplighter_api as api;
    let seconds = |number: i32| Seconds(natural(number));
    Policy {
        strategy: match spec.strategy {
            api::Strategy::Auto => None,
            api::Strategy::Rolling => Some(Kind::Rolling),
            api::Strategy::BlueGreen => Some(Kind::BlueGreen),
        },
        compatibility: match spec.compatibility {
            api::Compatibility::Auto => Compatibility::Auto,
            api::Compatibility::Interchangeable => Compatibility::Interchangeable,
            api::Compatibility::NoMix => Compatibility::NoMix,
        },
        max_unavailable: natural(spec.max_unavailable),
        max_surge: natural(spec.max_surge),
        promotion: match spec.promotion {
            api::Promotion::Automatic => Promotion::Automatic,
            api::Promotion::Manual => Promotion::Manual(seconds(spec.promotion_deadline_seconds)),
        },
        capacity: match spec.on_insufficient_capacity {
            api::OnInsufficientCapacity::Fallback => OnInsufficientCapacity::Fallback,
            api::OnInsufficientCapacity::Wait => OnInsufficientCapacity::Wait,
            api::OnInsufficientCapacity::Reject => OnInsufficientCapacity::Reject,
        },
        auto_rollback: spec.auto_rollback,
        progress: seconds(spec.progress_deadline_seconds),
        scheduling: seconds(spec.scheduling_deadline_seconds),
        confirm: CONFIRM,
        propagation: seconds(spec.propagation_delay_seconds),
        shed: SHED,
        bake: seconds(spec.rollback_window_seconds),
        validation_age: VALIDATION_AGE,
        retry: Retry {
            attempts: natural(spec.retry.attempts),
            backoff: seconds(spec.retry.backoff_seconds),
            cap: seconds(spec.retry.max_backoff_seconds),
        },
    }
}
