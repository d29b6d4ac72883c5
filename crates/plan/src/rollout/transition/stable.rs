//! Nothing is under way.

use super::begin::begin;
use super::{Turn, now};
use crate::rollout::heading::{heading, is_given_up};
use crate::rollout::health;
use crate::rollout::memory::{Phase, Placed, Rollout};
use crate::rollout::strategy::{Kind, Trigger};
use crate::rollout::world::World;
use crate::terms::RevisionId;

/// A rollout begins when another revision is headed for than the one that serves.
pub(super) fn next(world: &World) -> Option<Turn> {
    let active = world.memory.active.as_ref();
    let heading = heading(world).revision;
    if active.is_none_or(|active| is_dead(world, active))
        && let Some(turn) = adopted(world, heading.as_ref())
    {
        return Some(turn);
    }
    let revision = heading?;
    if active.is_some_and(|active| active.revision == revision) {
        return extinct(world).or_else(|| unproven(world));
    }
    begin(world, &revision, active)
}

fn is_dead(world: &World, placed: &Placed) -> bool {
    let serves = world.placed(placed).is_some_and(|workload| workload.serving() > 0);
    !serves && world.service.selects == Some(placed.environment)
}

/// What was given up while nothing else served, and answers requests after all. It is the only one
/// that does, so it is kept until something better serves.
fn adopted(world: &World, heading: Option<&RevisionId>) -> Option<Turn> {
    let environment = world.service.selects?;
    let (id, _) = world.workloads().find(|(id, workload)| {
        workload.environment == environment && workload.serving() > 0 && Some(*id) != heading
    })?;
    let placed = Placed { revision: id.clone(), environment };
    Some(Turn::of(world, |memory| memory.active = Some(placed)))
}

/// What serves fails by its own fault. What proved itself once is left where it is while a single
/// pod serves: whoever changed the surroundings may change them back. What never did is not.
fn extinct(world: &World) -> Option<Turn> {
    let active = world.memory.active.as_ref()?;
    let workload = world.placed(active)?;
    let is_known = is_given_up(world, &active.revision);
    let is_proven = world.memory.known_good.contains(&active.revision);
    let is_left_alone = if is_proven { workload.ready() > 0 } else { !world.policy.auto_rollback };
    if world.goal.replicas == 0 || is_left_alone || is_known {
        return None;
    }
    let fault = health::evidence(workload)?;
    Some(Turn::of(world, |_| {}).fails(&active.revision, fault))
}

/// What serves in full and never proved itself begins to: a return led to it before it could, or
/// what it should have been left for was given up.
fn unproven(world: &World) -> Option<Turn> {
    let active = world.memory.active.as_ref()?;
    let workload = world.placed(active)?;
    let is_known = world.memory.known_good.contains(&active.revision);
    let is_whole = world.goal.replicas > 0 && workload.serving() >= world.goal.replicas;
    if is_known || !is_whole || health::evidence(workload).is_some() {
        return None;
    }
    let rollout = Rollout {
        from: None,
        to: active.clone(),
        fallback: None,
        strategy: Kind::Initial,
        triggers: vec![Trigger::First],
    };
    Some(Turn::to(world, Phase::Baking(rollout, now())))
}
