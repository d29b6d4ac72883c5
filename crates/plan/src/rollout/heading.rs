//! Where to go: the revision that a rollout, if one is needed, leads to.

use super::memory::{Class, Direction, Failed, Phase};
use super::plan::Note;
use super::world::{OnInsufficientCapacity, Policy, World};
use crate::terms::{RevisionId, Seconds};

/// Where to go, and why not where the specification says.
pub(crate) struct Heading {
    /// The revision; none while nothing serves and nothing is to.
    pub(crate) revision: Option<RevisionId>,
    /// Why it is not the wanted one.
    pub(crate) note: Option<Note>,
}

/// The revision that is wanted, unless it failed and it is not time to try again.
pub(crate) fn heading(world: &World) -> Heading {
    let wanted = wanted(world);
    if world.goal.replicas == 0 {
        let note = Some(Note::ScaledToZero).filter(|_| is_active(world, wanted).is_none());
        return Heading { revision: serving(world), note };
    }
    match world.memory.failed.get(wanted) {
        Some(failed) if !may_be_tried(failed, &world.policy) => Heading {
            revision: stay(world),
            note: Some(Note::Quarantined {
                revision: wanted.clone(),
                reason: failed.reason.clone(),
                retry: retry_in(failed, &world.policy),
            }),
        },
        Some(_) | None => Heading { revision: Some(wanted.clone()), note: None },
    }
}

/// The revision that a person wants: the one asked to return to, or the specification's.
pub(crate) fn wanted(world: &World) -> &RevisionId {
    world.memory.pin.as_ref().map_or(&world.goal.revision, |pin| &pin.revision)
}

/// How long to wait after so many failed attempts.
pub(crate) fn backoff(attempts: u32, policy: &Policy) -> Seconds {
    let doublings = attempts.saturating_sub(1).min(31);
    let wait = policy.retry.backoff.0.saturating_mul(1 << doublings);
    Seconds(wait).min(policy.retry.cap)
}

/// After which time a failed revision is tried again; none where only a person can ask for it.
pub fn retry_after(failed: &Failed, policy: &Policy) -> Option<Seconds> {
    if failed.released {
        return Some(Seconds(0));
    }
    let may = match failed.class {
        Class::Deterministic | Class::Withdrawn => false,
        Class::Transient => failed.attempts < policy.retry.attempts,
        // Nobody says when it was put right, so it is looked at again and again.
        Class::Outside => true,
        Class::Capacity => policy.capacity != OnInsufficientCapacity::Reject,
    };
    may.then(|| backoff(failed.attempts, policy))
}

fn retry_in(failed: &Failed, policy: &Policy) -> Option<Seconds> {
    retry_after(failed, policy).map(|wait| wait.minus(failed.since))
}

/// Whether a revision failed and it is not time to try it again.
pub(crate) fn is_given_up(world: &World, revision: &RevisionId) -> bool {
    let failed = world.memory.failed.get(revision);
    failed.is_some_and(|failed| !may_be_tried(failed, &world.policy))
}

fn may_be_tried(failed: &Failed, policy: &Policy) -> bool {
    retry_after(failed, policy).is_some_and(|wait| failed.since >= wait)
}

fn is_active<'a>(world: &World, revision: &'a RevisionId) -> Option<&'a RevisionId> {
    let active = world.memory.active.as_ref()?;
    (active.revision == *revision).then_some(revision)
}

fn serving(world: &World) -> Option<RevisionId> {
    world.memory.active.as_ref().map(|active| active.revision.clone())
}

/// Where to be while what is wanted cannot be.
fn stay(world: &World) -> Option<RevisionId> {
    let serving = serving(world)?;
    if !is_given_up(world, &serving) {
        return Some(serving);
    }
    // It failed while it serves: back to where it came from, as long as that is kept; later to
    // what is known to be good, unless it is that itself and still serves somebody.
    let on_the_way = |to: &RevisionId| (!is_given_up(world, to)).then(|| to.clone());
    match &world.memory.phase {
        Phase::Shedding(rollout, _) | Phase::Baking(rollout, _) => {
            rollout.fallback.as_ref().map(|fallback| fallback.revision.clone())
        }
        Phase::Gating(rollout, _)
        | Phase::AwaitingPromotion(rollout, _)
        | Phase::CuttingOver(rollout, _) => on_the_way(&rollout.to.revision),
        Phase::Rolling(rolling) => match rolling.direction {
            Direction::Forward => on_the_way(&rolling.rollout.to.revision),
            Direction::Back => rolling.rollout.from.as_ref().map(|from| from.revision.clone()),
        },
        Phase::Stable => proven(world, &serving),
        Phase::Reverting(..) | Phase::Clearing(..) => None,
    }
    .or(Some(serving))
}

/// The newest other revision that is known to be good.
fn proven(world: &World, serving: &RevisionId) -> Option<RevisionId> {
    let memory = &world.memory;
    let is_dead = world.workload(serving).is_none_or(|workload| workload.serving() == 0);
    let is_unproven = !memory.known_good.contains(serving) && world.policy.auto_rollback;
    let mut good = memory.known_good.iter();
    good.find(|known| *known != serving && !is_given_up(world, known))
        .filter(|_| is_dead || is_unproven)
        .cloned()
}
