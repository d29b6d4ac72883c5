//! What is: everything that a decision may depend on, in small comparable types.
//!
//! All types are `Ord + Hash`, and all collections are ordered, so that a world can be a state
//! of a search and the order in which facts arrived cannot reach a decision.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A span of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seconds(pub u32);

/// The hash that names a revision. Shared, because a search copies worlds by the million.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RevisionId(Arc<str>);

/// The name of a pod.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodName(Arc<str>);

/// One deployment: what is wanted and what there is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct World {
    /// What the user wants.
    pub goal: Goal,
    /// The deployment is being deleted; its objects go with it.
    pub deleting: bool,
    /// How long a pod may take to become ready, and a rollout to get a step further.
    pub deadline: Seconds,
    /// The revision that was the last to be ready in full, if any ever was. Once the wanted
    /// revision is that one, a pod that fails disturbs a deployment that works.
    pub settled: Option<RevisionId>,
    /// Every revision that is recorded or has a workload.
    pub revisions: BTreeMap<RevisionId, Revision>,
}

/// What the user wants.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Goal {
    /// The revision that the specification describes.
    pub revision: RevisionId,
    /// How many pods of it.
    pub replicas: u32,
}

/// A revision as it stands in the cluster.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    /// Its place in the order of creation; higher is newer.
    pub sequence: i64,
    /// Whether there is a record of it.
    pub recorded: bool,
    /// Its workload; none before the first and after the last pod.
    pub workload: Option<Workload>,
}

/// The pods of a revision and how many there should be.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Workload {
    /// How many pods it asks for.
    pub replicas: u32,
    /// For how long it has asked for that many.
    pub since: Seconds,
    /// Its pods, those that are terminating included.
    pub pods: BTreeMap<PodName, Pod>,
    /// The newest of its pods that ended as a whole and was replaced.
    pub ended: Option<Ended>,
    /// Why the cluster creates no more pods for it.
    pub refused: Option<Refusal>,
}

/// A pod that is only a memory: evicted, rejected by its node, or stopped with it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ended {
    /// Its name.
    pub pod: PodName,
    /// How long ago it ended.
    pub since: Seconds,
    /// Why.
    pub failure: Failure,
}

/// The cluster creates no more pods.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Refusal {
    /// Why, in the cluster's words (a quota, an admission rule).
    pub message: String,
    /// For how long.
    pub since: Seconds,
}

/// A pod.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pod {
    /// Where it stands.
    pub phase: PodPhase,
    /// For how long it has been ready or not ready.
    pub since: Seconds,
    /// Why its container last ended. Remembered until it is ready, so that a container that
    /// fails, starts and fails again reads as one failure and not as a flicker.
    pub failure: Option<Failure>,
}

/// Where a pod stands.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PodPhase {
    /// The scheduler finds no place for it.
    Unschedulable {
        /// The scheduler's own words.
        message: String,
    },
    /// Its container cannot start or has not started.
    Waiting {
        /// The kubelet's reason, for example `ImagePullBackOff`.
        reason: String,
        /// The kubelet's words; may be empty.
        message: String,
    },
    /// Its container runs and has not passed its gates.
    Starting,
    /// It passed its gates and may be routed to.
    Ready,
    /// It is on its way out.
    Terminating,
}

/// Why a container, or a pod as a whole, ended.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Failure {
    /// The container; none where the pod ended as a whole.
    pub container: Option<String>,
    /// A stable name in `PascalCase`, for example `DigestMismatch`.
    pub reason: String,
    /// A sentence that names the thing and the way out.
    pub message: String,
    /// Whether the same revision can be expected to fail again.
    pub class: FailureClass,
}

/// Whether the same revision can be expected to fail again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FailureClass {
    /// The same bytes and settings fail again.
    Deterministic,
    /// The surroundings failed; trying again may help.
    Transient,
}

// === impl Seconds ===

impl Seconds {
    /// What is left of `self` after `spent`; zero when nothing is.
    #[must_use]
    pub fn minus(self, spent: Self) -> Self {
        Self(self.0.saturating_sub(spent.0))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

// === impl RevisionId ===

impl RevisionId {
    /// A revision's name.
    pub fn new(hash: impl Into<String>) -> Self {
        Self(hash.into().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl PodName ===

impl PodName {
    /// A pod's name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl World ===

impl World {
    /// The workload of the wanted revision.
    pub fn wanted(&self) -> Option<&Workload> {
        self.revisions.get(&self.goal.revision).and_then(|revision| revision.workload.as_ref())
    }

    /// The workloads of all other revisions.
    pub fn older(&self) -> impl Iterator<Item = (&RevisionId, &Workload)> {
        self.revisions
            .iter()
            .filter(|(id, _)| **id != self.goal.revision)
            .filter_map(|(id, revision)| Some((id, revision.workload.as_ref()?)))
    }

    /// The wanted revision was ready in full before.
    pub fn is_settled(&self) -> bool {
        self.settled.as_ref() == Some(&self.goal.revision)
    }

    /// Pods of all revisions that are on their way out. They hold nothing up: one whose node is
    /// lost stays so until a person or the node's removal ends it.
    pub fn terminating(&self) -> u32 {
        let workloads = self.revisions.values().filter_map(|revision| revision.workload.as_ref());
        let pods = workloads.flat_map(|workload| workload.pods.values());
        count(pods.filter(|pod| pod.phase == PodPhase::Terminating))
    }

    /// Ready pods of the wanted revision.
    pub fn wanted_ready(&self) -> u32 {
        self.wanted().map_or(0, Workload::ready)
    }

    /// The wanted revision has as many ready pods as are wanted.
    pub fn is_complete(&self) -> bool {
        self.wanted().is_some() && self.wanted_ready() >= self.goal.replicas
    }
}

// === impl Workload ===

impl Workload {
    /// How many of its pods are ready.
    pub fn ready(&self) -> u32 {
        count(self.pods.values().filter(|pod| pod.phase == PodPhase::Ready))
    }

    /// How many of its pods are not on their way out.
    pub fn present(&self) -> u32 {
        count(self.pods.values().filter(|pod| pod.phase != PodPhase::Terminating))
    }

    /// It has a pod that may be routed to.
    pub fn is_routable(&self) -> bool {
        self.ready() > 0
    }

    /// It asks for no pod and has none.
    pub fn is_empty(&self) -> bool {
        self.replicas == 0 && self.pods.is_empty()
    }
}

/// The length of an iterator as a number of replicas.
pub(crate) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    items.fold(0, |sum, _| u32::saturating_add(sum, 1))
}
