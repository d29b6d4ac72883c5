//! What is: everything that a decision may depend on, the memory of earlier ones included.
//!
//! All types are `Ord + Hash` and all collections are ordered, so that a world can be a state of
//! a search and the order in which facts arrived cannot reach a decision.

use std::collections::BTreeMap;

use super::memory::{Environment, Memory, Placed};
use super::strategy::Facts;
use crate::terms::{Failure, PodName, Refusal, RevisionId, Seconds, count};

/// One deployment: what is wanted, what was decided before, and what there is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct World {
    /// What the user wants.
    pub goal: Goal,
    /// How the user wants changes to be made.
    pub policy: Policy,
    /// What earlier decisions left behind.
    pub memory: Memory,
    /// An object was written under a later memory than this one, which is therefore out of date:
    /// another operator leads, or the cache lags.
    pub overtaken: bool,
    /// Every revision that is recorded or has a workload.
    pub revisions: BTreeMap<RevisionId, Revision>,
    /// Where requests enter.
    pub service: Service,
}

/// What the user wants.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Goal {
    /// The revision that the specification describes.
    pub revision: RevisionId,
    /// How many pods of it.
    pub replicas: u32,
    /// Nothing new is to begin.
    pub paused: bool,
    /// The deployment is being deleted; its objects go with it.
    pub deleting: bool,
    /// The latest command of each kind, acknowledged or not.
    pub commands: BTreeMap<CommandKind, Command>,
}

/// What a person can ask for besides a change of the specification.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CommandKind {
    /// Move the Service to a candidate that waits for it.
    Promote,
    /// Give the rollout that is under way up and return.
    Abort,
    /// Try a revision again that was given up.
    Retry,
    /// Serve an earlier revision until the specification changes.
    RollbackTo,
}

/// A command.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Command {
    /// Tells it from the one before.
    pub token: String,
    /// The revision it is about; none where the kind needs none.
    pub revision: Option<RevisionId>,
}

/// How changes are made. Spans of time are limits unless they say otherwise.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Policy {
    /// The strategy, if the user insists on one.
    pub strategy: Option<super::strategy::Kind>,
    /// Whether two versions may answer at the same time.
    pub compatibility: super::strategy::Compatibility,
    /// How many of the wanted pods may be missing during a rolling update.
    pub max_unavailable: u32,
    /// How many pods there may be beyond the wanted ones during a rolling update.
    pub max_surge: u32,
    /// Who moves the Service to a candidate.
    pub promotion: Promotion,
    /// What to do when a candidate finds no place.
    pub capacity: OnInsufficientCapacity,
    /// Whether a revision that fails after the switch is left by itself.
    pub auto_rollback: bool,
    /// How long a rollout may go without a step forward.
    pub progress: Seconds,
    /// How long a candidate may wait for a place.
    pub scheduling: Seconds,
    /// How long a switch may take to be seen in the endpoints.
    pub confirm: Seconds,
    /// How long an address must be out of the endpoints until no node routes to it any more.
    pub propagation: Seconds,
    /// How long connections from before a switch may stay open.
    pub shed: Seconds,
    /// For how long a revision has to serve well until it is known to be good.
    pub bake: Seconds,
    /// How old the validation of a candidate may be when it is promoted.
    pub validation_age: Seconds,
    /// What happens after a failure that may pass.
    pub retry: Retry,
}

/// Who moves the Service to a candidate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Promotion {
    /// The operator, once every pod has passed its gates.
    Automatic,
    /// A person, within this time.
    Manual(Seconds),
}

/// What to do when a candidate finds no place.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OnInsufficientCapacity {
    /// Free what it holds, and ask again after a while.
    Wait,
    /// Roll instead, where both versions may answer at the same time; else wait.
    Fallback,
    /// Give it up.
    Reject,
}

/// What happens after a failure that may pass.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Retry {
    /// How many attempts a revision gets in all.
    pub attempts: u32,
    /// How long to wait after the first; twice as long after each further one.
    pub backoff: Seconds,
    /// The longest wait.
    pub cap: Seconds,
}

/// A revision as it stands in the cluster.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    /// Its place in the order of creation; higher is newer.
    pub sequence: i64,
    /// Whether there is a record of it.
    pub recorded: bool,
    /// What is known about its models.
    pub resolved: Resolved,
    /// Its pods; none before the first and after the last.
    pub workload: Option<Workload>,
}

/// What is known about the models of a revision before a pod loads them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Resolved {
    /// Nobody has looked.
    Unknown,
    /// Somebody has been looking for so long.
    Running(Seconds),
    /// They could not be read, or are not what they should be, as was found so long ago.
    Failed(Failure, Seconds),
    /// What they are.
    Known(Facts),
}

/// The pods of a revision and how many there should be.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Workload {
    /// Where it belongs. Its pods carry the name, so it cannot move.
    pub environment: Environment,
    /// How many pods it asks for.
    pub replicas: u32,
    /// For how long it has asked for that many.
    pub since: Seconds,
    /// Its pods, those that are leaving included.
    pub pods: BTreeMap<PodName, Pod>,
    /// Why the cluster creates no more pods for it.
    pub refused: Option<Refusal>,
}

/// A pod.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts from four sources, each of which may hold without the others"
)]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pod {
    /// Where it stands.
    pub stage: Stage,
    /// For how long it has stood there.
    pub since: Seconds,
    /// Why its container last ended, until it is ready.
    pub failure: Option<Failure>,
    /// It carries the label that the Service selects.
    pub traffic: bool,
    /// Its address is in the endpoints of the Service.
    pub routed: bool,
    /// It has connections that were made before it was told to shed them.
    pub connected: bool,
    /// How often its container ended by itself after it had been ready.
    pub exits: u32,
    /// It gave the same wrong answer twice.
    pub wrong: bool,
    /// How long ago it last proved its answers.
    pub validated: Seconds,
}

/// Where a pod stands.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// The scheduler finds no place for it, in the scheduler's own words.
    Unschedulable(String),
    /// It has a place and has not passed its gates.
    Starting,
    /// It passed its gates.
    Ready,
    /// It was told to leave.
    Leaving,
}

/// Where requests enter.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Service {
    /// The environment whose pods it selects; none before there is a Service.
    pub selects: Option<Environment>,
    /// Why it cannot be used: it is somebody else's, or of a kind that selects nothing.
    pub unusable: Option<String>,
}

// === impl World ===

impl World {
    /// The workload of a revision.
    pub fn workload(&self, revision: &RevisionId) -> Option<&Workload> {
        self.revisions.get(revision)?.workload.as_ref()
    }

    /// The workload at a place; none if the revision's pods are elsewhere.
    pub fn placed(&self, placed: &Placed) -> Option<&Workload> {
        self.workload(&placed.revision)
            .filter(|workload| workload.environment == placed.environment)
    }

    /// Every workload.
    pub fn workloads(&self) -> impl Iterator<Item = (&RevisionId, &Workload)> {
        self.revisions.iter().filter_map(|(id, found)| Some((id, found.workload.as_ref()?)))
    }

    /// How many pods can be reached through the Service.
    pub fn routed(&self) -> u32 {
        count(
            self.workloads()
                .flat_map(|(_, workload)| workload.pods.values())
                .filter(|pod| pod.serves()),
        )
    }

    /// The fewest pods that must be reachable while a rollout takes some away.
    pub fn floor(&self) -> u32 {
        self.goal.replicas.saturating_sub(self.policy.max_unavailable).max(1)
    }

    /// How many pods there may be beyond the wanted ones while rolling. One more than the user
    /// allows where none could be missed: an update of the only pod would be an outage.
    pub fn surge(&self) -> u32 {
        let none_can_be_missed =
            self.policy.max_unavailable == 0 || self.goal.replicas <= self.policy.max_unavailable;
        if none_can_be_missed { self.policy.max_surge.max(1) } else { self.policy.max_surge }
    }
}

// === impl Workload ===

impl Workload {
    /// Pods that passed their gates and are not leaving.
    pub fn ready(&self) -> u32 {
        count(self.pods.values().filter(|pod| pod.stage == Stage::Ready))
    }

    /// Pods that are not leaving.
    pub fn present(&self) -> u32 {
        count(self.pods.values().filter(|pod| pod.stage != Stage::Leaving))
    }

    /// Pods that can be reached through the Service.
    pub fn serving(&self) -> u32 {
        count(self.pods.values().filter(|pod| pod.serves()))
    }

    /// Whether the address of any of its pods is in the endpoints of the Service.
    pub fn is_routed(&self) -> bool {
        self.pods.values().any(|pod| pod.routed)
    }

    /// It asks for no pod and has none.
    pub fn is_empty(&self) -> bool {
        self.replicas == 0 && self.pods.is_empty()
    }

    /// For how long it got no step further: since it asks for this many pods, or since one of
    /// them became ready.
    pub fn standstill(&self) -> Seconds {
        let ready = self.pods.values().filter(|pod| pod.stage == Stage::Ready);
        ready.map(|pod| pod.since).fold(self.since, Seconds::min)
    }
}

// === impl Pod ===

impl Pod {
    /// Requests reach it and it answers them.
    pub fn serves(&self) -> bool {
        self.routed && self.stage == Stage::Ready
    }
}
