//! How many pods each environment asks for.

use super::Steps;
use crate::rollout::heading::is_given_up;
use crate::rollout::memory::{Environment, Phase, Placed};
use crate::rollout::plan::{Action, Note};
use crate::rollout::world::World;
use crate::terms::RevisionId;

/// Every environment that is needed has as many pods as are wanted, except the one in which pods
/// are replaced.
pub(super) fn size(world: &World, except: Option<Environment>, steps: &mut Steps) {
    // A candidate that was given up stays as it is while nobody else can answer.
    let is_left = |placed: &Placed| {
        let is_candidate = world.memory.rollout().is_some_and(|rollout| rollout.to == *placed);
        let is_returning = matches!(world.memory.phase, Phase::Reverting(..));
        let serves = world.memory.active.as_ref() == Some(placed);
        is_candidate && (is_returning || !serves && is_given_up(world, &placed.revision))
    };
    let sized = |placed: &Placed| Some(placed.environment) != except && !is_left(placed);
    for placed in needed(world).into_iter().filter(sized) {
        resize(world, &placed, world.goal.replicas, steps);
    }
}

fn needed(world: &World) -> Vec<Placed> {
    let rollout = world.memory.rollout();
    let ends = rollout
        .into_iter()
        .flat_map(|rollout| [rollout.from.as_ref(), rollout.fallback.as_ref(), Some(&rollout.to)]);
    let mut found: Vec<Placed> = world
        .memory
        .active
        .iter()
        .chain(ends.flatten())
        .filter(|placed| world.memory.needs(placed) && is_kept_warm(world, placed))
        .cloned()
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Where the candidate replaced the pods of the fallback one by one, none of them is kept.
fn is_kept_warm(world: &World, placed: &Placed) -> bool {
    let active = world.memory.active.as_ref();
    active.is_none_or(|active| active == placed || active.environment != placed.environment)
}

pub(super) fn resize(world: &World, placed: &Placed, to: u32, steps: &mut Steps) {
    match world.workload(&placed.revision) {
        None => steps.act(Action::Create { placed: placed.clone(), replicas: to }),
        Some(workload) if workload.environment == placed.environment && workload.replicas != to => {
            let (revision, from) = (placed.revision.clone(), workload.replicas);
            steps.act(Action::Scale { revision: revision.clone(), from, to });
            steps.note(Note::Resized { revision, from, to });
        }
        Some(_) => {}
    }
}

pub(super) fn to_zero(world: &World, id: &RevisionId, steps: &mut Steps) {
    let from = world.workload(id).map_or(0, |workload| workload.replicas);
    if from > 0 {
        steps.act(Action::Scale { revision: id.clone(), from, to: 0 });
    }
}
