//! How things stand, and what is waited for.

use std::collections::BTreeMap;

use crate::terms::{Failure, PodName, RevisionId, Seconds};

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

// === impl Routable ===

impl Routable {
    /// Ready pods of all revisions.
    pub fn total(&self) -> u32 {
        self.older.values().fold(self.wanted, |sum, ready| sum.saturating_add(*ready))
    }
}
