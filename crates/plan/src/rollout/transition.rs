//! The memory machine: which thought comes next. Nothing here touches the cluster.

pub(crate) mod begin;
pub(crate) mod candidate;
mod commands;
pub(crate) mod rolling;
mod serving;
mod stable;

use super::heading::heading;
use super::health::Fault;
use super::memory::{Class, Memory, Phase, Placed, Rollout};
use super::plan::{Note, Outcome};
use super::world::{Resolved, World};
use crate::terms::{RevisionId, Seconds, count};

/// A new memory, and why.
pub(crate) struct Turn {
    pub(crate) memory: Memory,
    pub(crate) notes: Vec<Note>,
}

/// The next memory; none while this one still says what is meant.
pub(crate) fn next(world: &World) -> Option<Turn> {
    commands::heard(world)
        .or_else(|| unpinned(world))
        .or_else(|| unresolvable(world))
        .or_else(|| in_phase(world))
}

fn in_phase(world: &World) -> Option<Turn> {
    match &world.memory.phase {
        Phase::Stable => stable::next(world),
        Phase::Gating(rollout, since) => candidate::gating(world, rollout, *since),
        Phase::AwaitingPromotion(rollout, since) => candidate::awaiting(world, rollout, *since),
        Phase::CuttingOver(rollout, since) => serving::cutting_over(world, rollout, *since),
        Phase::Shedding(rollout, since) => serving::shedding(world, rollout, *since),
        Phase::Baking(rollout, since) => serving::baking(world, rollout, *since),
        Phase::Reverting(rollout, since) => serving::reverting(world, rollout, *since),
        Phase::Clearing(rollout, since) => serving::clearing(world, rollout, *since),
        Phase::Rolling(rolling) => rolling::next(world, rolling),
    }
}

/// The specification describes something else than when a person asked to return.
fn unpinned(world: &World) -> Option<Turn> {
    let pin = world.memory.pin.as_ref().filter(|pin| pin.instead_of != world.goal.revision)?;
    let note = Note::Unpinned(pin.revision.clone());
    Some(Turn::of(world, |memory| memory.pin = None).with(note))
}

/// The models of the revision that is headed for cannot be read, or it takes too long.
fn unresolvable(world: &World) -> Option<Turn> {
    let revision = heading(world).revision?;
    // What serves has been read by those who serve it.
    if world.memory.active.as_ref().is_some_and(|active| active.revision == revision) {
        return None;
    }
    let known = world.memory.failed.get(&revision);
    let fault = match &world.revisions.get(&revision)?.resolved {
        Resolved::Unknown | Resolved::Known(_) => None,
        Resolved::Running(since) => (*since > world.policy.progress).then(|| Fault {
            class: Class::Transient,
            reason: "ResolveDeadlineExceeded".to_owned(),
            message: format!("its models were not read within {}", world.policy.progress),
        }),
        // An older failure is the one that is remembered; it is to be tried again now.
        Resolved::Failed(_, since) if known.is_some_and(|known| *since >= known.since) => None,
        Resolved::Failed(failure, _) => Some(Fault {
            class: failure.class.into(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
        }),
    }?;
    Some(Turn::of(world, |_| {}).fails(&revision, fault))
}

// === impl Turn ===

impl Turn {
    /// The memory with a change.
    pub(crate) fn of(world: &World, change: impl FnOnce(&mut Memory)) -> Self {
        let mut memory = world.memory.clone();
        change(&mut memory);
        Self { memory, notes: Vec::new() }
    }

    /// The memory in another phase.
    pub(crate) fn to(world: &World, phase: Phase) -> Self {
        Self::of(world, |memory| memory.phase = phase)
    }

    pub(crate) fn with(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }

    /// A revision failed.
    pub(crate) fn fails(mut self, revision: &RevisionId, fault: Fault) -> Self {
        let Fault { class, reason, message } = fault;
        self.memory.fail(revision, class, &reason, message.clone());
        self.with(Note::Failed { revision: revision.clone(), class, reason, message })
    }

    /// The rollout is over.
    pub(crate) fn finished(self, rollout: &Rollout, outcome: Outcome) -> Self {
        let from = rollout.from.as_ref().map(|from| from.revision.clone());
        self.with(Note::Finished { from, to: rollout.to.revision.clone(), outcome })
    }
}

/// Whether the rollout still leads where it is wanted to lead.
fn leads_on(world: &World, rollout: &Rollout) -> bool {
    heading(world).revision.as_ref() == Some(&rollout.to.revision)
}

/// An attempt that was given up left the revision's pods elsewhere, after this one had begun.
fn is_misplaced(world: &World, placed: &Placed) -> bool {
    world
        .workload(&placed.revision)
        .is_some_and(|workload| workload.environment != placed.environment)
}

/// Pods that the Service reaches and that are not at this place.
pub(crate) fn routed_elsewhere(world: &World, place: &Placed) -> u32 {
    let others = world.workloads().filter(|(id, workload)| {
        **id != place.revision || workload.environment != place.environment
    });
    count(others.flat_map(|(_, workload)| workload.pods.values()).filter(|pod| pod.routed))
}

/// The Service selects this place, and its endpoints say so.
fn is_confirmed(world: &World, place: &Placed, at_least: u32) -> bool {
    world.service.selects == Some(place.environment)
        && world.placed(place).map_or(0, super::world::Workload::serving) >= at_least
        && routed_elsewhere(world, place) == 0
}

fn now() -> Seconds {
    Seconds(0)
}
