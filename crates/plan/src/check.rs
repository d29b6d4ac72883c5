//! What no plan may do, whatever the world. Tests hold every plan against this list; the operator
//! runs it on every plan, refuses to act on one that breaks it, and counts the case.

use std::collections::BTreeSet;
use std::fmt;

use crate::output::{Action, Plan, State};
use crate::world::{PodPhase, RevisionId, World};

/// A plan breaks a rule: always a bug.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Violation {
    /// A deployment that is being deleted is left to the garbage collector.
    ActedWhileDeleting(Action),
    /// The same thing is done twice, or two things to one workload.
    ActedTwice(RevisionId),
    /// An action names a revision that has no workload, or a creation one that has.
    WrongTarget(Action),
    /// An action starts from another number of replicas than there is, or changes nothing.
    WrongStart(Action),
    /// A revision that requests are routed to loses pods while nothing else serves in full.
    ServingLowered {
        /// The revision.
        revision: RevisionId,
        /// What it shall ask for.
        to: u32,
    },
    /// An older revision grows.
    OlderRaised(RevisionId),
    /// No pod is wanted and a workload keeps some.
    ZeroNotHonoured {
        /// The revision.
        revision: RevisionId,
        /// What it would keep.
        replicas: u32,
    },
    /// A workload with pods is deleted, or a record that is still needed.
    DeletedInUse(Action),
    /// It waits for pods, and neither a deadline nor a change ends that.
    EndlessWait,
}

impl Violation {
    /// A stable name, for a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ActedWhileDeleting(_) => "ActedWhileDeleting",
            Self::ActedTwice(_) => "ActedTwice",
            Self::WrongTarget(_) => "WrongTarget",
            Self::WrongStart(_) => "WrongStart",
            Self::ServingLowered { .. } => "ServingLowered",
            Self::OlderRaised(_) => "OlderRaised",
            Self::ZeroNotHonoured { .. } => "ZeroNotHonoured",
            Self::DeletedInUse(_) => "DeletedInUse",
            Self::EndlessWait => "EndlessWait",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActedWhileDeleting(action) => {
                write!(f, "the deployment is being deleted, and the plan says: {action}")
            }
            Self::ActedTwice(revision) => write!(f, "two actions on revision {revision}"),
            Self::WrongTarget(action) => {
                write!(f, "the revision is not there, or is already: {action}")
            }
            Self::WrongStart(action) => {
                write!(f, "does not start from what there is, or changes nothing: {action}")
            }
            Self::ServingLowered { revision, to } => write!(
                f,
                "revision {revision} serves and would be scaled to {to} before another serves in full"
            ),
            Self::OlderRaised(revision) => write!(f, "older revision {revision} would grow"),
            Self::ZeroNotHonoured { revision, replicas } => {
                write!(f, "no pod is wanted and revision {revision} would keep {replicas}")
            }
            Self::DeletedInUse(action) => write!(f, "still in use: {action}"),
            Self::EndlessWait => f.write_str("waits for pods without a deadline"),
        }
    }
}

/// Every rule that the plan breaks; empty for a plan that may be acted on.
pub fn violations(world: &World, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut touched = BTreeSet::new();
    for action in &plan.actions {
        if world.deleting {
            found.push(Violation::ActedWhileDeleting(action.clone()));
        }
        if !touched.insert(action.revision()) {
            found.push(Violation::ActedTwice(action.revision().clone()));
        }
        found.extend(target(world, action));
        found.extend(lowered(world, action));
    }
    found.extend(zero(world, plan));
    found.extend(endless(world, plan));
    found
}

/// The action fits what it names.
fn target(world: &World, action: &Action) -> Option<Violation> {
    let revision = world.revisions.get(action.revision());
    let workload = revision.and_then(|revision| revision.workload.as_ref());
    let is_wanted = *action.revision() == world.goal.revision;
    match (action, workload) {
        (Action::Create { .. }, None) if is_wanted => None,
        (Action::Create { .. }, _) | (Action::Scale { .. } | Action::Delete { .. }, None) => {
            Some(Violation::WrongTarget(action.clone()))
        }
        (Action::Scale { from, to, .. }, Some(workload)) => {
            if *from != workload.replicas || from == to {
                Some(Violation::WrongStart(action.clone()))
            } else if !is_wanted && to > from {
                Some(Violation::OlderRaised(action.revision().clone()))
            } else {
                None
            }
        }
        (Action::Delete { .. }, Some(workload)) => {
            (is_wanted || !workload.is_empty()).then(|| Violation::DeletedInUse(action.clone()))
        }
        (Action::Forget { .. }, Some(_)) => Some(Violation::DeletedInUse(action.clone())),
        (Action::Forget { .. }, None) => match revision {
            Some(revision) if revision.recorded && !is_wanted => None,
            Some(_) => Some(Violation::DeletedInUse(action.clone())),
            None => Some(Violation::WrongTarget(action.clone())),
        },
    }
}

/// Of the revisions that serve, none is scaled below what is wanted before the wanted one serves
/// in full.
fn lowered(world: &World, action: &Action) -> Option<Violation> {
    let Action::Scale { revision, to, .. } = action else {
        return None;
    };
    let serves_more_than = |to: u32| {
        let revision = world.revisions.get(revision)?;
        let workload = revision.workload.as_ref()?;
        Some(workload.is_routable() && to < workload.replicas)
    };
    let is_wanted = *revision == world.goal.revision;
    let is_allowed = world.goal.replicas == 0
        || !serves_more_than(*to).unwrap_or(false)
        || (is_wanted && *to >= world.goal.replicas)
        || (!is_wanted && world.is_complete());
    (!is_allowed).then(|| Violation::ServingLowered { revision: revision.clone(), to: *to })
}

/// When no pod is wanted, every workload asks for none after the plan.
fn zero(world: &World, plan: &Plan) -> Vec<Violation> {
    if world.goal.replicas > 0 || world.deleting {
        return Vec::new();
    }
    let after = |id: &RevisionId, now: u32| {
        plan.actions
            .iter()
            .filter_map(|action| match action {
                Action::Scale { revision, to, .. } if revision == id => Some(*to),
                Action::Scale { .. }
                | Action::Create { .. }
                | Action::Delete { .. }
                | Action::Forget { .. } => None,
            })
            .next_back()
            .unwrap_or(now)
    };
    world
        .revisions
        .iter()
        .filter_map(|(id, revision)| {
            let replicas = after(id, revision.workload.as_ref()?.replicas);
            (replicas > 0).then(|| Violation::ZeroNotHonoured { revision: id.clone(), replicas })
        })
        .collect()
}

/// A rollout under way that does nothing, or has pods that are not ready, ends by a deadline.
fn endless(world: &World, plan: &Plan) -> Option<Violation> {
    let State::Progressing(_) = plan.verdict.state else {
        return None;
    };
    let is_waiting = world.goal.replicas > 0
        && !world.is_complete()
        && world.wanted().is_some_and(|workload| {
            let is_settled = |phase| matches!(phase, &PodPhase::Ready | &PodPhase::Terminating);
            workload.pods.values().any(|pod| !is_settled(&pod.phase))
        });
    let must_end = is_waiting || plan.actions.is_empty();
    (must_end && plan.wake.is_none()).then_some(Violation::EndlessWait)
}
