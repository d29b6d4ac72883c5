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
    /// The user does something.
    User(Edit),
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
            Self::User(edit) => edit.make(cluster),
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
                (Stage::Leaving, _) => moves.push(Move::Gone(name)),
                (Stage::Unschedulable(_) | Stage::Starting | Stage::Ready, _) => {}
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
            Self::Reconcile => f.write_str("operator"),
            Self::Crash { after } => write!(f, "operator, killed after {after} of its actions"),
            Self::Ghost => f.write_str("operator that lost its lease"),
            Self::Freeze => f.write_str("operator is stopped; another one leads"),
            Self::Control => f.write_str("kubernetes makes and removes pods"),
            Self::Publish => f.write_str("endpoints follow"),
            Self::Tick => f.write_str("a second passes"),
            Self::Resolved(revision) => write!(f, "the models of {revision} are read"),
            Self::Ready(pod) => write!(f, "{} passes its gates", pod.as_str()),
            Self::Fails(pod) => write!(f, "{} fails its gates", pod.as_str()),
            Self::Wrong(pod) => write!(f, "{} gives a wrong answer twice", pod.as_str()),
            Self::Gone(pod) => write!(f, "{} is gone", pod.as_str()),
            Self::Exits(pod) => write!(f, "{} ends by itself", pod.as_str()),
            Self::Evicted(pod) => write!(f, "{} is evicted", pod.as_str()),
            Self::User(Edit::Revision(revision)) => write!(f, "user wants {revision}"),
            Self::User(Edit::Replicas(replicas)) => write!(f, "user wants {replicas} pods"),
            Self::User(Edit::Paused(true)) => f.write_str("user pauses"),
            Self::User(Edit::Paused(false)) => f.write_str("user goes on"),
            Self::User(Edit::Command(kind, None)) => write!(f, "user asks for {kind}"),
            Self::User(Edit::Command(kind, Some(of))) => write!(f, "user asks for {kind} of {of}"),
        }
    }
}
