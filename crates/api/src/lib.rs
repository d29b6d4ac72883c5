//! The wire contract: the `ModelDeployment` resource, its status, conditions and names.
//!
//! The types here are the source of the `CustomResourceDefinition`: [`crd::crd`] derives it, with
//! every admission rule, so that the apiserver refuses what the operator could not act on. A
//! field exists only when the operator acts on it; everything else is refused by strict decoding.

pub mod conditions;
pub mod crd;
pub mod names;
mod schema;
pub mod spec;
pub mod status;

pub use conditions::{ConditionType, Conditions, Reason, State};
pub use spec::{
    Compatibility, Device, ExternalTrafficPolicy, ImagePullPolicy, LocalReference, Model,
    ModelDeployment, ModelDeploymentSpec, OnInsufficientCapacity, Precision, Promotion, Ranking,
    RetrySpec, RolloutSpec, ServiceSpec, ServiceType, Similarity, Source, Strategy, Task,
    Validation, ValidationCase, ValidationMode, WorkerSpec,
};
pub use status::{
    Acknowledged, ActiveRevision, Candidate, FailedRevision, KnownGood, ModelDeploymentStatus,
    PastRollout, Pin, Place, PodCounts, RolloutState, ServedModel, Withdrawn,
};
