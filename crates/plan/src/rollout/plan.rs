//! What to do next, what to remember, and why.

use super::memory::{Class, Direction, Environment, Memory, Placed, Withdrawn};
use super::strategy::{Kind, Trigger};
use super::world::CommandKind;
use crate::terms::{PodName, RevisionId, Seconds};

/// A decision: either a change of the cluster, or a new memory, never both. So whatever is
/// interrupted, the next decision finds a memory that says what was meant and a cluster in which
/// any number of its actions have been done.
#[must_use = "a plan that nobody executes or reports changes nothing"]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Plan {
    /// What to do, in this order. Any prefix is safe: the rest is decided again.
    pub actions: Vec<Action>,
    /// What to remember; equal to the world's memory when nothing is to change.
    pub memory: Memory,
    /// Decide again after this time even if nothing changes. None: wait for a change.
    pub wake: Option<Seconds>,
    /// Why, and why not something else.
    pub notes: Vec<Note>,
}

/// One change of the cluster. Each says what it expects to find; where it finds something else
/// it is not done.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Find out what the models of a revision are.
    Resolve(RevisionId),
    /// Create the workload of a revision.
    Create {
        /// Whose, and where.
        placed: Placed,
        /// With how many pods.
        replicas: u32,
    },
    /// Change how many pods a workload asks for.
    Scale {
        /// Whose.
        revision: RevisionId,
        /// What it asks for now.
        from: u32,
        /// What it shall ask for.
        to: u32,
    },
    /// Make the Service select an environment.
    Select {
        /// What it selects now.
        from: Option<Environment>,
        /// What it shall select.
        to: Environment,
    },
    /// Take a pod out of the Service, and make it the first to go.
    Withdraw(PodName),
    /// Give a pod back to the Service.
    Restore(PodName),
    /// Ask the pods of a revision to close the connections that they have.
    Shed(RevisionId),
    /// Ask the pods of a revision to prove their answers again.
    Validate(RevisionId),
    /// Delete a workload that asks for no pod and has none.
    Delete(RevisionId),
    /// Delete the record of a revision without a workload.
    Forget(RevisionId),
}

/// Why, or why not. [`super::explain`] makes a sentence of each.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Note {
    /// Objects are ahead of the memory, which has to be read again first.
    Overtaken,
    /// Nothing new begins because the deployment is paused.
    Paused,
    /// No pod is wanted, so no revision is brought up.
    ScaledToZero,
    /// The Service cannot be used.
    ServiceUnusable(String),
    /// The models of a revision are not known yet.
    Resolving(RevisionId),
    /// What was tried before is still being removed.
    Sweeping {
        /// The revision.
        revision: RevisionId,
        /// How many pods are left.
        pods: u32,
    },
    /// A rollout began.
    Began {
        /// From what.
        from: Option<RevisionId>,
        /// To what.
        to: RevisionId,
        /// How.
        strategy: Kind,
        /// Why so.
        triggers: Vec<Trigger>,
    },
    /// The user's strategy would mix outputs that do not go together.
    RollingRefused(Vec<Trigger>),
    /// Pods of the candidate have to pass their gates.
    Gates {
        /// How many did.
        ready: u32,
        /// How many have to.
        of: u32,
    },
    /// Every pod of the candidate passed its gates.
    Passed {
        /// How many.
        pods: u32,
    },
    /// A person has to promote the candidate.
    PromotionAwaited(RevisionId),
    /// A person promoted the candidate.
    Promoted(RevisionId),
    /// The answers of the candidate were proved too long ago.
    ValidationStale {
        /// How long ago the oldest was.
        age: Seconds,
        /// How old it may be.
        limit: Seconds,
    },
    /// The endpoints do not show the switch yet.
    Confirming {
        /// Pods of the selected environment that are routed to.
        routed: u32,
        /// How many have to be.
        of: u32,
        /// Pods elsewhere that still are.
        others: u32,
    },
    /// The endpoints show the switch.
    Confirmed(Environment),
    /// Old connections are open.
    Connected {
        /// On how many pods.
        pods: u32,
    },
    /// It serves, and what was there before is kept.
    Bakes {
        /// The revision.
        revision: RevisionId,
        /// For how long.
        since: Seconds,
        /// For how long it has to.
        of: Seconds,
    },
    /// Pods are replaced.
    Rolls {
        /// Which way.
        direction: Direction,
        /// Pods of the revision that is rolled to.
        there: u32,
        /// How many there have to be.
        of: u32,
    },
    /// A pod leaves next.
    Leaves(Withdrawn),
    /// It stays: another pod left in its place, too few would serve without it, or it is paused.
    Stays(PodName),
    /// No pod can be taken away.
    FloorHolds {
        /// How many serve.
        serving: u32,
        /// How many have to.
        floor: u32,
    },
    /// A revision failed.
    Failed {
        /// The revision.
        revision: RevisionId,
        /// What that means.
        class: Class,
        /// A stable name.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// It fails after the switch, and there is nothing to return to.
    NoWayBack(RevisionId),
    /// A rollout is over.
    Finished {
        /// From what.
        from: Option<RevisionId>,
        /// To what.
        to: RevisionId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A revision that is wanted is not brought up because it failed.
    Quarantined {
        /// The revision.
        revision: RevisionId,
        /// Why.
        reason: String,
        /// When it is tried again; none where only a person can ask for it.
        retry: Option<Seconds>,
    },
    /// A command was heard.
    Heard(CommandKind),
    /// A command asks for what cannot be.
    Inapplicable(CommandKind),
    /// The specification changed, so the return that a person asked for is over.
    Unpinned(RevisionId),
    /// Pods that nothing needs any more.
    Swept(RevisionId),
    /// It follows the wanted number.
    Resized {
        /// The revision.
        revision: RevisionId,
        /// What it asked for.
        from: u32,
        /// What is wanted.
        to: u32,
    },
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// It served for as long as it takes to be sure.
    Promoted,
    /// It was known to be good before.
    FastPromoted,
    /// It failed before it served.
    Aborted,
    /// Something else was wanted before it served.
    Superseded,
    /// A person returned from it.
    RolledBack,
    /// It failed while it served, and was left by itself.
    RolledBackAuto,
    /// It found no place, or its models cannot be read.
    Blocked,
}

// === impl Plan ===

impl Plan {
    /// Nothing to do and nothing new to remember.
    pub(crate) fn idle(world: &super::world::World, notes: Vec<Note>) -> Self {
        Self { actions: Vec::new(), memory: world.memory.clone(), wake: None, notes }
    }

    /// Whether it would have something remembered that was not.
    pub fn remembers(&self, memory: &Memory) -> bool {
        self.memory != *memory
    }
}
