//! A candidate in an environment of its own, before it serves.

use super::commands::{is_promoted, promotion_heard};
use super::{Turn, is_misplaced, leads_on, now};
use crate::rollout::health::{self, Fault};
use crate::rollout::memory::{Class, Phase, Rollout};
use crate::rollout::plan::{Note, Outcome};
use crate::rollout::strategy::Kind;
use crate::rollout::world::{Promotion, Workload, World};
use crate::terms::Seconds;

/// Its pods load, warm up and prove their answers.
pub(super) fn gating(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    if !leads_on(world, rollout) {
        return Some(given_up(world, rollout));
    }
    if is_misplaced(world, &rollout.to) {
        return Some(before(world, rollout));
    }
    let workload = world.placed(&rollout.to)?;
    if let Some(fault) = health::fault(workload, &world.policy, since) {
        return Some(failed(world, rollout, fault));
    }
    if !is_ready(world, workload) || world.goal.paused {
        return None;
    }
    let next = match (rollout.strategy, world.policy.promotion) {
        // The Service selected it from the beginning: there was nothing else.
        (Kind::Initial, _) => Phase::Baking(rollout.clone(), now()),
        (_, Promotion::Automatic) => Phase::CuttingOver(rollout.clone(), now()),
        (_, Promotion::Manual(_)) => Phase::AwaitingPromotion(rollout.clone(), now()),
    };
    let mut turn = Turn::to(world, next).with(Note::Passed { pods: workload.ready() });
    if rollout.strategy == Kind::Initial {
        turn.memory.active = Some(rollout.to.clone());
    }
    Some(turn)
}

/// A person has to promote it.
pub(super) fn awaiting(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    if !leads_on(world, rollout) {
        return Some(given_up(world, rollout));
    }
    let workload = world.placed(&rollout.to);
    if let Some(fault) = workload.and_then(health::evidence) {
        return Some(failed(world, rollout, fault));
    }
    if !workload.is_some_and(|workload| is_ready(world, workload)) {
        return Some(Turn::to(world, Phase::Gating(rollout.clone(), now())));
    }
    if is_promoted(world, rollout) {
        if world.goal.paused || stale(world, rollout).is_some() {
            return None;
        }
        let turn = Turn::to(world, Phase::CuttingOver(rollout.clone(), now()))
            .with(Note::Promoted(rollout.to.revision.clone()));
        return Some(promotion_heard(world, turn));
    }
    match world.policy.promotion {
        Promotion::Automatic if !world.goal.paused => {
            Some(Turn::to(world, Phase::CuttingOver(rollout.clone(), now())))
        }
        Promotion::Manual(limit) if since > limit => {
            let fault = Fault {
                class: Class::Withdrawn,
                reason: "PromotionExpired".to_owned(),
                message: format!("nobody promoted it within {limit}"),
            };
            Some(failed(world, rollout, fault))
        }
        Promotion::Automatic | Promotion::Manual(_) => None,
    }
}

/// The age of the oldest proof among the candidate's pods, if it is too old.
pub(crate) fn stale(world: &World, rollout: &Rollout) -> Option<Seconds> {
    let pods = world.placed(&rollout.to)?.pods.values();
    let oldest = pods.map(|pod| pod.validated).max()?;
    (oldest > world.policy.validation_age).then_some(oldest)
}

fn is_ready(world: &World, workload: &Workload) -> bool {
    workload.replicas == world.goal.replicas
        && workload.ready() >= world.goal.replicas
        && world.goal.replicas > 0
}

fn failed(world: &World, rollout: &Rollout, fault: Fault) -> Turn {
    let outcome = if fault.class == Class::Capacity { Outcome::Blocked } else { Outcome::Aborted };
    before(world, rollout).fails(&rollout.to.revision, fault).finished(rollout, outcome)
}

fn given_up(world: &World, rollout: &Rollout) -> Turn {
    let turn = before(world, rollout);
    match world.memory.failed.get(&rollout.to.revision) {
        Some(failed) if failed.class == Class::Withdrawn => {
            turn.finished(rollout, Outcome::Aborted)
        }
        Some(_) | None => turn.finished(rollout, Outcome::Superseded),
    }
}

/// As it was before the rollout began.
fn before(world: &World, rollout: &Rollout) -> Turn {
    let phase = match (&rollout.from, &rollout.fallback) {
        // It began while what serves had not proved itself. That has to start anew.
        (Some(from), Some(fallback)) if from != fallback => {
            let resumed = Rollout {
                from: Some(fallback.clone()),
                to: from.clone(),
                fallback: Some(fallback.clone()),
                strategy: Kind::BlueGreen,
                triggers: rollout.triggers.clone(),
            };
            Phase::Baking(resumed, now())
        }
        (Some(_) | None, _) => Phase::Stable,
    };
    let mut turn = Turn::to(world, phase);
    let serves = world.placed(&rollout.to).is_some_and(|workload| workload.serving() > 0);
    if rollout.strategy == Kind::Initial && serves {
        // Some of its pods answer requests, and nothing else does.
        turn.memory.active = Some(rollout.to.clone());
    }
    turn
}
