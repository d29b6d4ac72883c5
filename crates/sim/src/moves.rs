//! Everything that can happen, and who does it.

use std::fmt;

use lamplighter_plan::rollout::{CommandKind, Plan, Resolved, Stage, World, decide};
use lamplighter_plan::{PodName, RevisionId};

use crate::cluster::{Cluster, Nature, failure, leave};

/// One thing that happens.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Move {
    /// The operator decides and does all of it.
    Reconcile,
    /// The operator decides, does the first of its actions and is killed.
    Crash {
        /// How many it does.
        after: usize,
    },
    /// An operator that lost its lease goes on with what it remembered.
    Ghost,
    /// The operator is stopped with what it remembers, and another one takes over.
    Freeze,
    /// Kubernetes makes and removes pods and gives them places.
    Control,
    /// The endpoints follow.
    Publish,
    /// A second passes.
    Tick,
    /// A resolving pod ends.
    Resolved(RevisionId),
    /// A pod passes its gates.
    Ready(PodName),
    /// A pod fails its gates.
    Fails(PodName),
    /// A pod gives a wrong answer twice.
    Wrong(PodName),
    /// A pod is gone.
    Gone(PodName),
    /// A container that serves ends by itself.
    Exits(PodName),
    /// A pod is evicted.
    Evicted(PodName),
    /// Somebody does something.
    User {
        /// Which of [`crate::scenario::Scenario::people`].
        line: usize,
        /// What.
        edit: Edit,
    },
}

/// What a user does.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Edit {
    /// The specification describes another revision.
    Revision(RevisionId),
    /// The specification asks for another number of pods.
    Replicas(u32),
    /// Paused, or not any more.
    Paused(bool),
    /// A command.
    Command(CommandKind, Option<RevisionId>),
    /// The deployment is deleted.
    Delete,
    /// A revision behaves in another way from now on: somebody changed its models, or what is
    /// around them.
    Nature(RevisionId, Nature),
    /// The Service becomes somebody else's, or ours again.
    Taken(bool),
    /// The endpoints stop to follow, or follow again.
    Halted(bool),
    /// So many pods find a place from now on.
    Places(u32),
}

/// What a reconcile saw and decided.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What was seen.
    pub seen: World,
    /// What was decided.
    pub plan: Plan,
}

impl Move {
    /// Makes it happen. A move of an operator gives back what it saw and decided.
    pub fn make(&self, cluster: &mut Cluster) -> Option<Decided> {
        match self {
            Self::Reconcile => return Some(reconcile(cluster, usize::MAX)),
            Self::Crash { after } => return Some(reconcile(cluster, *after)),
            Self::Ghost => return ghost(cluster),
            Self::Freeze => cluster.old = Some(cluster.world.memory.clone()),
            Self::Control => cluster.control(),
            Self::Publish if cluster.halted => {}
            Self::Publish => cluster.publish(),
            Self::Tick => cluster.tick(),
            Self::Resolved(revision) => cluster.resolved(revision),
            Self::Ready(name) => stage(cluster, name, Stage::Ready),
            Self::Fails(name) => {
                if let Some(pod) = cluster.pod(name) {
                    pod.failure = Some(failure(
                        "TensorShapeMismatch",
                        lamplighter_plan::FailureClass::Deterministic,
                    ));
                }
            }
            Self::Wrong(name) => {
                if let Some(pod) = cluster.pod(name) {
                    pod.wrong = true;
                }
            }
            Self::Gone(name) => {
                for found in cluster.world.revisions.values_mut() {
                    if let Some(workload) = &mut found.workload {
                        workload.pods.remove(name);
                    }
                }
            }
            Self::Exits(name) => {
                stage(cluster, name, Stage::Starting);
                if let Some(pod) = cluster.pod(name) {
                    pod.exits = pod.exits.saturating_add(1);
                }
            }
            Self::Evicted(name) => {
                for found in cluster.world.revisions.values_mut() {
                    if let Some(workload) = &mut found.workload {
                        leave(workload, name);
                    }
                }
            }
            Self::User { edit, .. } => edit.make(cluster),
        }
        None
    }

    /// Whether it is something that goes wrong.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Crash { .. } | Self::Exits(_) | Self::Evicted(_))
    }
}

impl Edit {
    fn make(&self, cluster: &mut Cluster) {
        match self {
            Self::Revision(revision) => cluster.world.goal.revision = revision.clone(),
            Self::Replicas(replicas) => cluster.world.goal.replicas = *replicas,
            Self::Paused(paused) => cluster.world.goal.paused = *paused,
            Self::Command(kind, revision) => cluster.command(*kind, revision.as_ref()),
            Self::Delete => cluster.world.goal.deleting = true,
            Self::Nature(revision, nature) => {
                cluster.nature.insert(revision.clone(), *nature);
            }
            Self::Taken(taken) => {
                let why = "it is managed by somebody else".to_owned();
                cluster.world.service.unusable = taken.then_some(why);
            }
            Self::Halted(halted) => cluster.halted = *halted,
            Self::Places(places) => cluster.places = *places,
        }
    }
}

/// What can happen by itself, faults and users aside.
pub fn natural(cluster: &Cluster) -> Vec<Move> {
    let mut moves = Vec::new();
    for (id, found) in &cluster.world.revisions {
        let nature = cluster.nature.get(id).copied().unwrap_or(Nature::Good);
        if matches!(found.resolved, Resolved::Running(_)) {
            moves.push(Move::Resolved(id.clone()));
        }
        let Some(workload) = &found.workload else { continue };
        for (name, pod) in &workload.pods {
            let name = name.clone();
            match (&pod.stage, nature) {
                (Stage::Starting, Nature::Good | Nature::Poisoned) => moves.push(Move::Ready(name)),
                (Stage::Starting, Nature::Broken) if pod.failure.is_none() => {
                    moves.push(Move::Fails(name));
                }
                (Stage::Ready, Nature::Poisoned) if pod.routed && !pod.wrong => {
                    moves.push(Move::Wrong(name));
                }
                (Stage::Leaving, _) if !cluster.stuck.contains(id) => moves.push(Move::Gone(name)),
                (Stage::Unschedulable(_) | Stage::Starting | Stage::Ready | Stage::Leaving, _) => {}
            }
        }
    }
    moves
}

/// What can go wrong.
pub fn faults(cluster: &Cluster) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    let actions = decide(&cluster.seen()).actions.len();
    moves.extend((1..actions).map(|after| Move::Crash { after }));
    for (_, workload) in cluster.world.workloads() {
        for (name, pod) in &workload.pods {
            if pod.stage == Stage::Ready {
                moves.push(Move::Exits(name.clone()));
                moves.push(Move::Evicted(name.clone()));
            }
        }
    }
    moves
}

fn stage(cluster: &mut Cluster, name: &PodName, stage: Stage) {
    if let Some(pod) = cluster.pod(name) {
        pod.stage = stage;
        pod.since = lamplighter_plan::Seconds(0);
        pod.failure = None;
        pod.validated = lamplighter_plan::Seconds(0);
    }
}

fn reconcile(cluster: &mut Cluster, limit: usize) -> Decided {
    let seen = cluster.seen();
    let plan = decide(&seen);
    cluster.remember(&seen.memory, &plan);
    for action in plan.actions.iter().take(limit) {
        cluster.act(action, seen.memory.epoch);
    }
    Decided { seen, plan }
}

/// It sees the cluster as it is and remembers what was: a memory that it writes is refused.
fn ghost(cluster: &mut Cluster) -> Option<Decided> {
    let old = cluster.old.clone()?;
    let seen = cluster.seen_with(&old);
    let plan = decide(&seen);
    cluster.remember(&old, &plan);
    for action in &plan.actions {
        cluster.act(action, old.epoch);
    }
    Some(Decided { seen, plan })
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconcile => f.write_str("the operator decides"),
            Self::Crash { after: 0 } => {
                f.write_str("the operator decides and is killed before its first action")
            }
            Self::Crash { after: 1 } => {
                f.write_str("the operator decides and is killed after its first action")
            }
            Self::Crash { after } => {
                write!(f, "the operator decides and is killed after {after} of its actions")
            }
            Self::Ghost => f.write_str("the operator that lost its lease acts once more"),
            Self::Freeze => f.write_str("the operator stands still, and another one leads"),
            Self::Control => f.write_str("Kubernetes makes, places and removes pods"),
            Self::Publish => f.write_str("the endpoints follow"),
            Self::Tick => f.write_str("a second passes"),
            Self::Resolved(revision) => write!(f, "the models of {revision} are read"),
            Self::Ready(pod) => write!(f, "{pod} passes its gates"),
            Self::Fails(pod) => write!(f, "{pod} fails its gates"),
            Self::Wrong(pod) => write!(f, "{pod} gives the same wrong answer twice"),
            Self::Gone(pod) => write!(f, "{pod} is gone"),
            Self::Exits(pod) => write!(f, "the container of {pod} ends by itself"),
            Self::Evicted(pod) => write!(f, "{pod} is evicted"),
            Self::User { edit, .. } => write!(f, "{edit}"),
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => write!(f, "a person wants {revision}"),
            Self::Replicas(1) => f.write_str("a person wants 1 pod"),
            Self::Replicas(replicas) => write!(f, "a person wants {replicas} pods"),
            Self::Paused(true) => f.write_str("a person pauses"),
            Self::Paused(false) => f.write_str("a person resumes"),
            Self::Command(kind, None) => write!(f, "a person asks for {kind}"),
            Self::Command(kind, Some(of)) => write!(f, "a person asks for {kind} {of}"),
            Self::Delete => f.write_str("a person deletes the deployment"),
            Self::Nature(revision, nature) => write!(f, "from now on {revision} {nature}"),
            Self::Taken(true) => f.write_str("somebody else takes the Service"),
            Self::Taken(false) => f.write_str("the Service is given back"),
            Self::Halted(true) => f.write_str("the endpoints stop to follow"),
            Self::Halted(false) => f.write_str("the endpoints follow again"),
            Self::Places(1) => f.write_str("from now on 1 pod finds a place"),
            Self::Places(places) => write!(f, "from now on {places} pods find a place"),
        }
    }
}

impl fmt::Display for Nature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "is good",
            Self::Unreadable => "cannot be read",
            Self::Unreachable => "is out of reach",
            Self::Broken => "fails its gates",
            Self::Endless => "never gets through its gates",
            Self::Poisoned => "answers wrongly after a while",
        })
    }
}
