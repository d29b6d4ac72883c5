//! The environment that the Service is to select.

use super::Steps;
use crate::rollout::memory::{Environment, Phase, Placed};
use crate::rollout::plan::{Action, Note};
use crate::rollout::strategy::Kind;
use crate::rollout::transition::routed_elsewhere;
use crate::rollout::world::{Workload, World};

/// The environment that the Service is to select.
pub(crate) fn selected(world: &World) -> Option<Environment> {
    let active = || world.memory.active.as_ref().map(|active| active.environment);
    match &world.memory.phase {
        Phase::CuttingOver(rollout, _) => Some(rollout.to.environment),
        Phase::Reverting(rollout, _) => {
            rollout.fallback.as_ref().map(|fallback| fallback.environment).or_else(active)
        }
        Phase::Gating(rollout, _) if rollout.strategy == Kind::Initial => {
            Some(rollout.to.environment)
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => active(),
    }
}

pub(super) fn select(world: &World, steps: &mut Steps) {
    let Some(to) = selected(world).filter(|_| world.service.unusable.is_none()) else { return };
    let from = world.service.selects;
    if from != Some(to) && leads_to_pods(world) {
        steps.act(Action::Select { from, to });
    }
    let place = match &world.memory.phase {
        Phase::CuttingOver(rollout, _) => Some(&rollout.to),
        Phase::Reverting(rollout, _) => rollout.fallback.as_ref(),
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => None,
    };
    if let Some(place) = place {
        steps.note(Note::Confirming {
            routed: world.placed(place).map_or(0, Workload::serving),
            of: world.goal.replicas,
            others: routed_elsewhere(world, place),
        });
    }
}

/// A switch leads to pods that can answer, now: whoever decided it may have done so on a memory
/// that is out of date. What serves already is selected in any case.
fn leads_to_pods(world: &World) -> bool {
    let ready = |placed: &Placed| world.placed(placed).map_or(0, Workload::ready);
    match &world.memory.phase {
        Phase::CuttingOver(rollout, _) => ready(&rollout.to) >= world.goal.replicas.max(1),
        Phase::Reverting(rollout, _) => rollout
            .fallback
            .as_ref()
            .is_some_and(|fallback| ready(fallback) >= world.goal.replicas.min(1)),
        // Somebody answers in the environment of an attempt that was given up.
        Phase::Gating(rollout, _) if rollout.strategy == Kind::Initial => {
            !world.workloads().any(|(_, workload)| {
                Some(workload.environment) == world.service.selects && workload.ready() > 0
            })
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => true,
    }
}
