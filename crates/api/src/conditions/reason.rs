//! Why a condition is as it is, in one word.

use std::borrow::Cow;

/// Why a condition is as it is, as far as the operator itself knows. A worker's own reasons
/// (`lamplighter_protocol::Reason`) stand in the same place, by their names.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Every wanted pod passed every gate.
    AllPodsReady,
    /// Some wanted pods passed every gate, others have not.
    SomePodsReady,
    /// No pod passed every gate yet.
    NoPodReady,
    /// `spec.replicas` is 0.
    ScaledToZero,
    /// A revision is being brought up.
    RollingOut,
    /// The revision of the current spec serves.
    NewRevisionAvailable,
    /// Pods did not pass their gates within `rollout.progressDeadlineSeconds`.
    ProgressDeadlineExceeded,
    /// The scheduler finds no node for a pod.
    Unschedulable,
    /// The image of the worker cannot be pulled.
    ImagePullFailed,
    /// A Secret, ConfigMap or claim that a pod needs is not there.
    ConfigMissing,
    /// The container ended without a reason that the operator can read.
    ContainerCrashed,
    /// A pod ended as a whole, and nobody said why.
    PodFailed,
    /// An object of a name that the operator needs belongs to somebody else.
    NameTaken,
    /// The apiserver refused an object that the spec asks for.
    ChildRefused,
    /// The models contradict each other in a way that the schema cannot tell: change `spec.models`.
    ModelsInvalid,
    /// What workers are told about the models does not fit into a ConfigMap: use fewer or shorter
    /// validation cases.
    ManifestTooLarge,
    /// A validation case asks nothing, or two things.
    CaseInvalid,
    /// The models are to run on a device for which the operator was installed without an image.
    WorkerImageUnset,
    /// The spec cannot be written as JSON, which only a bug of the operator can cause.
    SpecInvalid,
    /// An object that the spec asks for could not be looked up; it is tried again.
    ReadFailed,
    /// An object that the spec asks for could not be written; it is tried again.
    WriteFailed,
    /// An object of a deleted `ModelDeployment` of the same name is still there; it is waited for.
    PredecessorNotGone,
    /// The operator's own plan would have broken an invariant and was not carried out: a bug.
    InvariantViolated,
    /// The warm-up of every model passed.
    WarmUpPassed,
    /// The validation of every model passed.
    CasesPassed,
    /// `validation.mode: Disabled` for at least one model.
    ValidationDisabled,
    /// The models of the wanted revision are being read before anything is touched.
    Resolving,
    /// Nothing new begins because `spec.paused` is true.
    Paused,
    /// The candidate passed every gate and waits for a person to promote it.
    AwaitingPromotion,
    /// The Service cannot be used for a switch.
    ServiceUnusable,
    /// `strategy: Rolling` would let versions answer together whose outputs do not go together.
    RollingRefused,
    /// The wanted revision failed after it began to serve, and what was there before serves again.
    RolledBack,
    /// What was there before is being brought back.
    RollingBack,
    /// A person asked to serve an earlier revision until the spec changes.
    RolledBackTo,
    /// The revision serves and what it replaced is kept until the rollback window is over.
    Baking,
    /// What was replaced is kept and answers at once.
    Retained,
    /// An earlier revision is known to be good and would be loaded again from volumes or images.
    Cached,
    /// An earlier revision is known to be good and would have to be loaded again from its store.
    NeedsStore,
    /// No other revision is known to be good.
    NothingKnownGood,
    /// An attempt failed for a reason that may pass, and another one follows.
    RetryPending,
    /// The serving revision fails and there is nothing to return to.
    NoWayBack,
    /// The record of a revision that is to be brought up cannot be read.
    RecordUnreadable,
    /// Objects were written under a later status than this one: it was restored from a backup, or
    /// another operator leads.
    StatusOutdated,
    /// Nothing is known yet.
    NotYetObserved,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 44] = [
        Self::AllPodsReady,
        Self::SomePodsReady,
        Self::NoPodReady,
        Self::ScaledToZero,
        Self::RollingOut,
        Self::NewRevisionAvailable,
        Self::ProgressDeadlineExceeded,
        Self::Unschedulable,
        Self::ImagePullFailed,
        Self::ConfigMissing,
        Self::ContainerCrashed,
        Self::PodFailed,
        Self::NameTaken,
        Self::ChildRefused,
        Self::ModelsInvalid,
        Self::ManifestTooLarge,
        Self::CaseInvalid,
        Self::WorkerImageUnset,
        Self::SpecInvalid,
        Self::ReadFailed,
        Self::WriteFailed,
        Self::PredecessorNotGone,
        Self::InvariantViolated,
        Self::WarmUpPassed,
        Self::CasesPassed,
        Self::ValidationDisabled,
        Self::Resolving,
        Self::Paused,
        Self::AwaitingPromotion,
        Self::ServiceUnusable,
        Self::RollingRefused,
        Self::RolledBack,
        Self::RollingBack,
        Self::RolledBackTo,
        Self::Baking,
        Self::Retained,
        Self::Cached,
        Self::NeedsStore,
        Self::NothingKnownGood,
        Self::RetryPending,
        Self::NoWayBack,
        Self::RecordUnreadable,
        Self::StatusOutdated,
        Self::NotYetObserved,
    ];

    /// The name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllPodsReady => "AllPodsReady",
            Self::SomePodsReady => "SomePodsReady",
            Self::NoPodReady => "NoPodReady",
            Self::ScaledToZero => "ScaledToZero",
            Self::RollingOut => "RollingOut",
            Self::NewRevisionAvailable => "NewRevisionAvailable",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::Unschedulable => "Unschedulable",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ConfigMissing => "ConfigMissing",
            Self::ContainerCrashed => "ContainerCrashed",
            Self::PodFailed => "PodFailed",
            Self::NameTaken => "NameTaken",
            Self::ChildRefused => "ChildRefused",
            Self::ModelsInvalid => "ModelsInvalid",
            Self::ManifestTooLarge => "ManifestTooLarge",
            Self::CaseInvalid => "CaseInvalid",
            Self::WorkerImageUnset => "WorkerImageUnset",
            Self::SpecInvalid => "SpecInvalid",
            Self::ReadFailed => "ReadFailed",
            Self::WriteFailed => "WriteFailed",
            Self::PredecessorNotGone => "PredecessorNotGone",
            Self::InvariantViolated => "InvariantViolated",
            Self::WarmUpPassed => "WarmUpPassed",
            Self::CasesPassed => "CasesPassed",
            Self::ValidationDisabled => "ValidationDisabled",
            Self::Resolving => "Resolving",
            Self::Paused => "Paused",
            Self::AwaitingPromotion => "AwaitingPromotion",
            Self::ServiceUnusable => "ServiceUnusable",
            Self::RollingRefused => "RollingRefused",
            Self::RolledBack => "RolledBack",
            Self::RollingBack => "RollingBack",
            Self::RolledBackTo => "RolledBackTo",
            Self::Baking => "Baking",
            Self::Retained => "Retained",
            Self::Cached => "Cached",
            Self::NeedsStore => "NeedsStore",
            Self::NothingKnownGood => "NothingKnownGood",
            Self::RetryPending => "RetryPending",
            Self::NoWayBack => "NoWayBack",
            Self::RecordUnreadable => "RecordUnreadable",
            Self::StatusOutdated => "StatusOutdated",
            Self::NotYetObserved => "NotYetObserved",
        }
    }
}

impl From<Reason> for Cow<'static, str> {
    fn from(reason: Reason) -> Self {
        Self::Borrowed(reason.as_str())
    }
}
