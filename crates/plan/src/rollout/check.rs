//! What no plan may do, whatever the world. Tests and the search hold every plan against this
//! list; the operator runs it on every plan, refuses to act on one that breaks it, and counts.

use std::collections::BTreeSet;
use std::fmt;

use super::heading::is_given_up;
use super::memory::{Phase, Placed};
use super::plan::{Action, Plan};
use super::world::{Stage, Workload, World};
use crate::terms::{RevisionId, count};

/// A plan breaks a rule: always a bug.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Violation {
    /// It acts and remembers at once.
    ActedWhileRemembering,
    /// A deployment that is being deleted is left to the garbage collector.
    ActedWhileDeleting,
    /// The memory is out of date.
    ActedWhileOvertaken,
    /// A new memory does not have the next epoch.
    WrongEpoch,
    /// Two actions on one workload.
    ActedTwice(RevisionId),
    /// It does not start from what there is, or changes nothing.
    WrongStart(Action),
    /// The Service would select an environment in which nobody can answer.
    SelectedNobody(Action),
    /// Fewer pods would serve than have to.
    ServingLowered {
        /// The action.
        action: Action,
        /// How many would serve.
        serving: u32,
        /// How many have to.
        floor: u32,
    },
    /// A pod that requests are routed to would leave.
    RoutedPodRemoved(Action),
    /// While pods are replaced there would be more than there may be.
    Surged {
        /// The action.
        action: Action,
        /// How many there would be.
        pods: u32,
        /// How many there may be.
        most: u32,
    },
    /// A revision that was given up would get pods.
    GivenUpRaised(RevisionId),
    /// What serves, may serve next or is kept to return to would be taken away.
    NeededRemoved(Action),
    /// More environments would hold pods than what serves, what is next and what is kept.
    TooManyEnvironments(Action),
    /// A revision would be known to be good that did not serve for long enough.
    ProvenTooEarly(RevisionId),
    /// It waits, and neither a deadline nor a change ends that.
    EndlessWait,
}

impl Violation {
    /// A stable name, for a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ActedWhileRemembering => "ActedWhileRemembering",
            Self::ActedWhileDeleting => "ActedWhileDeleting",
            Self::ActedWhileOvertaken => "ActedWhileOvertaken",
            Self::WrongEpoch => "WrongEpoch",
            Self::ActedTwice(_) => "ActedTwice",
            Self::WrongStart(_) => "WrongStart",
            Self::SelectedNobody(_) => "SelectedNobody",
            Self::ServingLowered { .. } => "ServingLowered",
            Self::RoutedPodRemoved(_) => "RoutedPodRemoved",
            Self::Surged { .. } => "Surged",
            Self::GivenUpRaised(_) => "GivenUpRaised",
            Self::NeededRemoved(_) => "NeededRemoved",
            Self::TooManyEnvironments(_) => "TooManyEnvironments",
            Self::ProvenTooEarly(_) => "ProvenTooEarly",
            Self::EndlessWait => "EndlessWait",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActedWhileRemembering => f.write_str("acts before its memory is written"),
            Self::ActedWhileDeleting => f.write_str("acts on a deployment that is being deleted"),
            Self::ActedWhileOvertaken => f.write_str("acts on a memory that is out of date"),
            Self::WrongEpoch => f.write_str("its memory does not have the next epoch"),
            Self::ActedTwice(revision) => write!(f, "two actions on revision {revision}"),
            Self::WrongStart(action) => {
                write!(f, "does not start from what there is, or changes nothing: {action}")
            }
            Self::SelectedNobody(action) => write!(f, "nobody can answer there: {action}"),
            Self::ServingLowered { action, serving, floor } => {
                write!(f, "{serving} pods would serve and {floor} have to: {action}")
            }
            Self::RoutedPodRemoved(action) => {
                write!(f, "a pod that requests are routed to would leave: {action}")
            }
            Self::Surged { action, pods, most } => {
                write!(f, "there would be {pods} pods and may be {most}: {action}")
            }
            Self::GivenUpRaised(revision) => {
                write!(f, "revision {revision} was given up and would get pods")
            }
            Self::NeededRemoved(action) => write!(f, "still needed: {action}"),
            Self::TooManyEnvironments(action) => write!(f, "one environment too many: {action}"),
            Self::ProvenTooEarly(revision) => {
                write!(f, "revision {revision} did not serve for long enough to be known as good")
            }
            Self::EndlessWait => f.write_str("waits without a deadline"),
        }
    }
}

/// Every rule that the plan breaks; empty for a plan that may be acted on.
pub fn violations(world: &World, plan: &Plan) -> Vec<Violation> {
    let mut found = remembering(world, plan);
    let mut touched = BTreeSet::new();
    for action in &plan.actions {
        if workload_of(action).is_some_and(|revision| !touched.insert(revision)) {
            found.extend(workload_of(action).cloned().map(Violation::ActedTwice));
        }
        found.extend(start(world, action));
        found.extend(selected_nobody(world, action));
        found.extend(lowered(world, action));
        found.extend(routed(world, action));
        found.extend(surged(world, action));
        found.extend(given_up(world, action));
        found.extend(needed(world, action));
        found.extend(environments(world, action));
    }
    found
}

fn workload_of(action: &Action) -> Option<&RevisionId> {
    match action {
        Action::Create { placed, .. } => Some(&placed.revision),
        Action::Scale { revision, .. } | Action::Delete(revision) | Action::Forget(revision) => {
            Some(revision)
        }
        Action::Resolve(_)
        | Action::Select { .. }
        | Action::Withdraw(_)
        | Action::Restore(_)
        | Action::Shed(_)
        | Action::Validate(_) => None,
    }
}

fn remembering(world: &World, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let acts = !plan.actions.is_empty();
    let remembers = plan.remembers(&world.memory);
    if acts && remembers {
        found.push(Violation::ActedWhileRemembering);
    }
    if world.goal.deleting && (acts || remembers) {
        found.push(Violation::ActedWhileDeleting);
    }
    if world.overtaken && (acts || remembers) {
        found.push(Violation::ActedWhileOvertaken);
    }
    if remembers && plan.memory.epoch != world.memory.epoch.saturating_add(1) {
        found.push(Violation::WrongEpoch);
    }
    let has_baked = |revision: &RevisionId| match &world.memory.phase {
        Phase::Baking(rollout, since) => {
            rollout.to.revision == *revision
                && *since >= world.policy.bake
                && world.goal.replicas > 0
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => false,
    };
    let early = plan
        .memory
        .known_good
        .iter()
        .filter(|revision| !world.memory.known_good.contains(revision) && !has_baked(revision));
    found.extend(early.cloned().map(Violation::ProvenTooEarly));
    if !acts && !remembers && plan.wake.is_none() && must_end(world) {
        found.push(Violation::EndlessWait);
    }
    found
}

/// Whether this wait has to have an end that time brings. A switch or a return that is late has
/// none: it ends when the endpoints show it, and it is not undone while nobody answers where it
/// would lead.
fn must_end(world: &World) -> bool {
    if world.goal.deleting || world.overtaken || world.goal.paused {
        return false;
    }
    match &world.memory.phase {
        Phase::Stable | Phase::Reverting(..) | Phase::Rolling(_) => false,
        Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..) => true,
        Phase::CuttingOver(_, since) => *since <= world.policy.confirm,
    }
}

fn start(world: &World, action: &Action) -> Option<Violation> {
    let replicas = |revision| world.workload(revision).map(|workload| workload.replicas);
    let fits = match action {
        Action::Create { placed, .. } => world.workload(&placed.revision).is_none(),
        Action::Scale { revision, from, to } => from != to && replicas(revision) == Some(*from),
        Action::Select { from, to } => world.service.selects == *from && *from != Some(*to),
        Action::Delete(revision) => world.workload(revision).is_some_and(Workload::is_empty),
        Action::Forget(revision) => {
            let found = world.revisions.get(revision);
            found.is_some_and(|found| found.recorded && found.workload.is_none())
        }
        Action::Withdraw(pod) => pod_of(world, pod).is_some_and(|pod| pod.traffic),
        Action::Restore(pod) => pod_of(world, pod).is_some_and(|pod| !pod.traffic),
        Action::Resolve(_) | Action::Shed(_) | Action::Validate(_) => true,
    };
    (!fits).then(|| Violation::WrongStart(action.clone()))
}

fn pod_of<'a>(world: &'a World, name: &crate::terms::PodName) -> Option<&'a super::world::Pod> {
    world.workloads().find_map(|(_, workload)| workload.pods.get(name))
}

fn selected_nobody(world: &World, action: &Action) -> Option<Violation> {
    let Action::Select { from: Some(from), to } = action else { return None };
    let ready_in = |environment| {
        let there = world.workloads().filter(|(_, workload)| workload.environment == environment);
        there.fold(0, |sum: u32, (_, workload)| sum.saturating_add(workload.ready()))
    };
    let leads_nowhere = ready_in(*to) == 0 && ready_in(*from) > 0 && world.goal.replicas > 0;
    leads_nowhere.then(|| Violation::SelectedNobody(action.clone()))
}

/// The fewest pods of a workload that still serve when it asks for fewer. Its controller takes
/// those first that are not ready, then those that were withdrawn, then those that have been
/// ready for the shortest time: of all these none may be in the endpoints yet.
fn serving_after(workload: &Workload, to: u32) -> u32 {
    let surplus = workload.present().saturating_sub(to);
    let spare =
        count(workload.pods.values().filter(|pod| pod.stage != Stage::Leaving && !pod.serves()));
    workload.serving().saturating_sub(surplus.saturating_sub(spare))
}

fn lowered(world: &World, action: &Action) -> Option<Violation> {
    let (before, after) = match action {
        Action::Scale { revision, to, .. } => {
            let workload = world.workload(revision)?;
            (workload.serving(), serving_after(workload, *to))
        }
        Action::Withdraw(pod) => {
            let serves = pod_of(world, pod).is_some_and(super::world::Pod::serves);
            (u32::from(serves), 0)
        }
        Action::Create { .. }
        | Action::Resolve(_)
        | Action::Select { .. }
        | Action::Restore(_)
        | Action::Shed(_)
        | Action::Validate(_)
        | Action::Delete(_)
        | Action::Forget(_) => return None,
    };
    let lost = before.saturating_sub(after);
    let serving = world.routed().saturating_sub(lost);
    let floor = world.floor();
    (lost > 0 && serving < floor && world.goal.replicas > 0).then(|| Violation::ServingLowered {
        action: action.clone(),
        serving,
        floor,
    })
}

/// Who asks for fewer pods loses some at once, and so do those who use what nothing needs.
fn routed(world: &World, action: &Action) -> Option<Violation> {
    let Action::Scale { revision, from, to } = action else { return None };
    let workload = world.workload(revision)?;
    let placed = Placed { revision: revision.clone(), environment: workload.environment };
    let follows_goal = *to == world.goal.replicas && world.memory.needs(&placed);
    if to >= from || follows_goal {
        return None;
    }
    let surplus = workload.present().saturating_sub(*to);
    let unrouted =
        count(workload.pods.values().filter(|pod| pod.stage != Stage::Leaving && !pod.routed));
    let serves_without = world.routed().saturating_sub(workload.serving()) >= world.goal.replicas;
    (surplus > unrouted && !serves_without).then(|| Violation::RoutedPodRemoved(action.clone()))
}

/// Pods that are leaving are not counted: one whose node is lost never goes.
fn surged(world: &World, action: &Action) -> Option<Violation> {
    let (Action::Create { placed: Placed { revision, .. }, replicas: to }
    | Action::Scale { revision, to, .. }) = action
    else {
        return None;
    };
    let Phase::Rolling(rolling) = &world.memory.phase else { return None };
    let environment = rolling.rollout.to.environment;
    let there = world.workloads().filter(|(_, found)| found.environment == environment);
    let others = there.filter(|(id, _)| *id != revision);
    let pods =
        others.fold(*to, |sum, (_, found)| sum.saturating_add(found.present().max(found.replicas)));
    let most = world.goal.replicas.saturating_add(world.surge());
    let makes_new = *to > world.workload(revision).map_or(0, Workload::present);
    (makes_new && pods > most).then(|| Violation::Surged { action: action.clone(), pods, most })
}

fn given_up(world: &World, action: &Action) -> Option<Violation> {
    let revision = match action {
        Action::Create { placed, replicas } if *replicas > 0 => &placed.revision,
        Action::Scale { revision, from, to } if to > from => revision,
        Action::Create { .. }
        | Action::Scale { .. }
        | Action::Resolve(_)
        | Action::Select { .. }
        | Action::Withdraw(_)
        | Action::Restore(_)
        | Action::Shed(_)
        | Action::Validate(_)
        | Action::Delete(_)
        | Action::Forget(_) => return None,
    };
    let serves = world.memory.active.as_ref().is_some_and(|active| active.revision == *revision);
    let is_fallback = world
        .memory
        .rollout()
        .and_then(|rollout| rollout.fallback.as_ref())
        .is_some_and(|fallback| fallback.revision == *revision);
    (is_given_up(world, revision) && !serves && !is_fallback)
        .then(|| Violation::GivenUpRaised(revision.clone()))
}

fn needed(world: &World, action: &Action) -> Option<Violation> {
    let revision = match action {
        Action::Scale { revision, to, .. } if *to < world.goal.replicas => revision,
        Action::Delete(revision) => revision,
        Action::Scale { .. }
        | Action::Create { .. }
        | Action::Resolve(_)
        | Action::Select { .. }
        | Action::Withdraw(_)
        | Action::Restore(_)
        | Action::Shed(_)
        | Action::Validate(_)
        | Action::Forget(_) => return None,
    };
    let workload = world.workload(revision)?;
    let rolls = world.memory.rolls_in(workload.environment);
    let placed = Placed { revision: revision.clone(), environment: workload.environment };
    let grows = matches!(action, Action::Scale { from, to, .. } if to > from);
    (world.memory.needs(&placed) && !rolls && !grows)
        .then(|| Violation::NeededRemoved(action.clone()))
}

fn environments(world: &World, action: &Action) -> Option<Violation> {
    let Action::Create { placed, .. } = action else { return None };
    let asks = world
        .workloads()
        .filter(|(_, workload)| workload.replicas > 0)
        .map(|(_, workload)| workload.environment);
    let mut used: BTreeSet<_> = asks.collect();
    used.insert(placed.environment);
    let kept = world.memory.rollout().is_some_and(|rollout| {
        let apart = |fallback: &Placed| Some(fallback) != world.memory.active.as_ref();
        rollout.fallback.as_ref().is_some_and(apart)
    });
    let allowed = if kept { 3 } else { 2 };
    (used.len() > allowed).then(|| Violation::TooManyEnvironments(action.clone()))
}
