//! What to do next, how things stand, and why.

use std::collections::BTreeMap;

use crate::world::{Failure, PodName, RevisionId, Seconds};

/// A decision.
#[must_use = "a plan that nobody executes or reports changes nothing"]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Plan {
    /// What to do, in this order. Any prefix is safe: the rest is decided again.
    pub actions: Vec<Action>,
    /// How things stood when this was decided.
    pub verdict: Verdict,
    /// Decide again after this time even if nothing changes. None: wait for a change.
    pub wake: Option<Seconds>,
    /// Why these actions, and why not others.
    pub notes: Vec<Note>,
}

/// One change of the cluster.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Create the workload of a revision.
    Create {
        /// Whose.
        revision: RevisionId,
        /// With how many replicas.
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
    /// Delete a workload that asks for no pod and has none, with what only it needs.
    Delete {
        /// Whose.
        revision: RevisionId,
    },
    /// Delete the record of a revision without a workload.
    Forget {
        /// Whose.
        revision: RevisionId,
    },
}

/// How things stand.
#[must_use = "a verdict is for the user"]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Verdict {
    /// The rollout as a whole.
    pub state: State,
    /// Who can answer requests.
    pub routable: Routable,
}

/// The pods that can answer requests.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Routable {
    /// Ready pods of the wanted revision.
    pub wanted: u32,
    /// How many are wanted.
    pub of: u32,
    /// Ready pods of older revisions, for those that have any.
    pub older: BTreeMap<RevisionId, u32>,
}

/// The rollout as a whole.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Everything goes with the deployment.
    Deleting,
    /// No pod is wanted, and none is left that is not on its way out.
    ScaledToZero,
    /// The wanted revision is ready in full, and whatever else there is is on its way out.
    Complete,
    /// On its way.
    Progressing(Cause),
    /// The wanted revision was ready in full before and some of it is not now.
    Disturbed(Cause),
    /// Waiting will not help: a person has to change something.
    Stalled {
        /// What stands in the way.
        cause: Cause,
        /// The deadline that passed; none when the cause alone is final.
        deadline: Option<Seconds>,
    },
}

/// What is being waited for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// The wanted pods do not exist yet.
    Creating {
        /// How many pods there are.
        pods: u32,
        /// How many are wanted.
        of: u32,
    },
    /// The cluster refuses to create pods.
    Refused {
        /// The cluster's words.
        message: String,
    },
    /// The scheduler finds no place.
    Unschedulable {
        /// The pod.
        pod: PodName,
        /// The scheduler's words.
        message: String,
    },
    /// A container cannot start or has not started.
    Waiting {
        /// The pod.
        pod: PodName,
        /// The kubelet's reason.
        reason: String,
        /// The kubelet's words; may be empty.
        message: String,
    },
    /// A container or a pod ended, and what took its place has not been ready since.
    Failed {
        /// The pod.
        pod: PodName,
        /// How it ended.
        failure: Failure,
    },
    /// Pods load their models and pass their gates.
    Starting {
        /// How many are ready.
        ready: u32,
        /// How many are wanted.
        of: u32,
    },
    /// Pods that are not wanted any more have yet to be told to leave.
    Retiring {
        /// How many of them there are.
        pods: u32,
    },
}

/// Why an action, or why none. [`crate::explain`] makes a sentence of each.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Note {
    /// The wanted revision had no workload.
    Created {
        /// The revision.
        revision: RevisionId,
        /// Its replicas.
        replicas: u32,
    },
    /// The wanted revision follows the wanted number.
    Resized {
        /// The revision.
        revision: RevisionId,
        /// What it asked for.
        from: u32,
        /// What is wanted.
        to: u32,
    },
    /// An older revision keeps its pods because the wanted one is not ready in full.
    Kept {
        /// The older revision.
        revision: RevisionId,
        /// Its replicas.
        replicas: u32,
        /// Ready pods of the wanted revision.
        wanted_ready: u32,
        /// How many are wanted.
        wanted: u32,
    },
    /// An older revision gives up its pods because the wanted one is ready in full.
    Retired {
        /// The older revision.
        revision: RevisionId,
        /// What it asked for.
        from: u32,
        /// How many pods are wanted, all of them ready; 0 when none is wanted.
        wanted: u32,
    },
    /// An older revision that serves nobody makes room while another one serves.
    MadeRoom {
        /// The older revision without a ready pod.
        revision: RevisionId,
        /// What it asked for.
        from: u32,
        /// The revision that serves.
        serving: RevisionId,
        /// Its ready pods.
        ready: u32,
    },
    /// A revision without replicas still has pods.
    Draining {
        /// The revision.
        revision: RevisionId,
        /// How many pods are left.
        pods: u32,
    },
    /// The last pod of an older revision is gone.
    Deleted {
        /// The revision.
        revision: RevisionId,
    },
    /// There are more records than are kept.
    Forgotten {
        /// The revision.
        revision: RevisionId,
        /// How many records are kept.
        kept: usize,
    },
}

// === impl Plan ===

impl Plan {
    /// A plan that only reports.
    pub fn without_actions(verdict: Verdict) -> Self {
        Self { actions: Vec::new(), verdict, wake: None, notes: Vec::new() }
    }
}

// === impl Action ===

impl Action {
    /// The revision that it touches.
    pub fn revision(&self) -> &RevisionId {
        match self {
            Self::Create { revision, .. }
            | Self::Scale { revision, .. }
            | Self::Delete { revision }
            | Self::Forget { revision } => revision,
        }
    }
}

// === impl Note ===

impl Note {
    /// The revision that it is about.
    pub fn revision(&self) -> &RevisionId {
        match self {
            Self::Created { revision, .. }
            | Self::Resized { revision, .. }
            | Self::Kept { revision, .. }
            | Self::Retired { revision, .. }
            | Self::MadeRoom { revision, .. }
            | Self::Draining { revision, .. }
            | Self::Deleted { revision }
            | Self::Forgotten { revision, .. } => revision,
        }
    }
}

// === impl Routable ===

impl Routable {
    /// Ready pods of all revisions.
    pub fn total(&self) -> u32 {
        self.older.values().fold(self.wanted, |sum, ready| sum.saturating_add(*ready))
    }
}
