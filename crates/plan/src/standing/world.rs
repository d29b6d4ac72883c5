//! The pods of a deployment in small comparable types.

use std::collections::BTreeMap;

use crate::terms::{Failure, PodName, Refusal, RevisionId, Seconds, count};

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
