//! A rollout begins.

use super::{Turn, now};
use crate::rollout::act::sweep;
use crate::rollout::memory::{Class, Direction, Environment, Phase, Placed, Rolling, Rollout};
use crate::rollout::plan::Note;
use crate::rollout::strategy::{self, Facts, Kind, Trigger};
use crate::rollout::world::{OnInsufficientCapacity, Resolved, Workload, World};
use crate::terms::RevisionId;

/// What stands between a wish and its rollout.
pub(crate) enum Obstacle {
    /// Nothing new is to begin.
    Paused,
    /// The Service cannot be used.
    ServiceUnusable(String),
    /// It is not known yet what the models are.
    Unresolved,
    /// The user's strategy cannot be followed.
    Refused(Vec<Trigger>),
    /// Pods of something given up have to go first.
    Leftover(RevisionId),
}

/// From what serves, or from nothing, to a revision. `fallback` is where to return.
pub(super) fn begin(world: &World, to: &RevisionId, fallback: Option<&Placed>) -> Option<Turn> {
    let rollout = plan(world, to, fallback).ok()?;
    let note = Note::Began {
        from: rollout.from.as_ref().map(|from| from.revision.clone()),
        to: rollout.to.revision.clone(),
        strategy: rollout.strategy,
        triggers: rollout.triggers.clone(),
    };
    let phase = match rollout.strategy {
        Kind::Initial | Kind::BlueGreen => Phase::Gating(rollout, now()),
        Kind::Rolling => {
            let direction = Direction::Forward;
            Phase::Rolling(Rolling { rollout, direction, since: now(), withdrawn: None })
        }
    };
    Some(Turn::to(world, phase).with(note))
}

/// The rollout, or why it cannot begin yet.
pub(crate) fn plan(
    world: &World,
    to: &RevisionId,
    fallback: Option<&Placed>,
) -> Result<Rollout, Obstacle> {
    if world.goal.paused {
        return Err(Obstacle::Paused);
    }
    if let Some(why) = &world.service.unusable {
        return Err(Obstacle::ServiceUnusable(why.clone()));
    }
    let new = facts(world, to).ok_or(Obstacle::Unresolved)?;
    let from = world.memory.active.clone();
    // Who goes back to what is kept comes back to where they were.
    let fallback = fallback.filter(|kept| kept.revision != *to).cloned().or(from.clone());
    let (strategy, triggers) = match &from {
        None => (Kind::Initial, vec![Trigger::First]),
        // What serves without being known was there before anybody could look.
        Some(from) => {
            let old = facts(world, &from.revision).cloned().unwrap_or_default();
            strategy::choose(&old, new, &world.policy, found_no_place(world, to))
                .map_err(|refused| Obstacle::Refused(refused.0))?
        }
    };
    let environment = environment(world, to, from.as_ref(), strategy)?;
    let apart = (strategy != Kind::Rolling).then_some(environment);
    if let Some(leftover) = leftover(world, to, apart, fallback.as_ref()) {
        return Err(Obstacle::Leftover(leftover));
    }
    let to = Placed { revision: to.clone(), environment };
    Ok(Rollout { from, to, fallback, strategy, triggers })
}

fn facts<'a>(world: &'a World, revision: &RevisionId) -> Option<&'a Facts> {
    match &world.revisions.get(revision)?.resolved {
        Resolved::Known(facts) => Some(facts),
        Resolved::Unknown | Resolved::Running(_) | Resolved::Failed(..) => None,
    }
}

fn found_no_place(world: &World, to: &RevisionId) -> bool {
    world.policy.capacity == OnInsufficientCapacity::Fallback
        && world.memory.failed.get(to).is_some_and(|failed| failed.class == Class::Capacity)
}

/// Where the candidate's pods go: where they are already, if that will do.
fn environment(
    world: &World,
    to: &RevisionId,
    from: Option<&Placed>,
    strategy: Kind,
) -> Result<Environment, Obstacle> {
    let here = world.workload(to).map(|workload| workload.environment);
    let serving = from.map(|from| from.environment);
    match (strategy, serving, here) {
        (Kind::Rolling, Some(serving), None) => Ok(serving),
        (Kind::Rolling, Some(serving), Some(here)) if here == serving => Ok(serving),
        // Its pods carry the name of another environment.
        (Kind::Rolling, _, Some(_)) => Err(Obstacle::Leftover(to.clone())),
        (_, Some(serving), Some(here)) if here == serving => Err(Obstacle::Leftover(to.clone())),
        (_, _, Some(here)) => Ok(here),
        (_, _, None) => {
            let is_free = |environment: &Environment| {
                Some(*environment) != serving
                    && !world.workloads().any(|(_, workload)| workload.environment == *environment)
            };
            let free = Environment::ALL.into_iter().find(is_free);
            free.ok_or_else(|| Obstacle::Leftover(any(world, to)))
        }
    }
}

fn any(world: &World, to: &RevisionId) -> RevisionId {
    world.workloads().map(|(id, _)| id).last().unwrap_or(to).clone()
}

/// A workload that nothing needs and that has pods, or is in the way of the new one. Pods that are
/// leaving do not count: one whose node is lost stays until a person or the node's removal ends
/// it. If it holds a device that the candidate needs, the scheduler will say so. Pods beside those
/// that serve do not count either while they are missed: they stay until the new one serves.
fn leftover(
    world: &World,
    to: &RevisionId,
    apart: Option<Environment>,
    fallback: Option<&Placed>,
) -> Option<RevisionId> {
    let is_needed = |id: &RevisionId, environment: Environment| {
        let placed = Placed { revision: id.clone(), environment };
        id == to || fallback == Some(&placed) || world.memory.active.as_ref() == Some(&placed)
    };
    let serving = world.memory.active.as_ref().map(|active| active.environment);
    let stays = |id: &RevisionId, workload: &Workload| {
        Some(workload.environment) == serving && sweep::is_missed(world, id, workload)
    };
    world
        .workloads()
        .filter(|(id, workload)| !is_needed(id, workload.environment) && !stays(id, workload))
        .find(|(_, workload)| {
            workload.replicas > 0 || workload.present() > 0 || Some(workload.environment) == apart
        })
        .map(|(id, _)| id.clone())
}
