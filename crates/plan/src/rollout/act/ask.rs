//! What pods are asked for besides serving.

use super::Steps;
use crate::rollout::memory::{Phase, Rollout};
use crate::rollout::plan::{Action, Note};
use crate::rollout::transition::candidate;
use crate::rollout::world::{Workload, World};
use crate::terms::{RevisionId, count};

/// What pods are asked for besides serving.
pub(super) fn ask(world: &World, steps: &mut Steps) {
    let connected = |workload: &Workload| workload.pods.values().any(|pod| pod.connected);
    match &world.memory.phase {
        Phase::Shedding(rollout, _) => {
            for (id, workload) in world.workloads() {
                if *id != rollout.to.revision && connected(workload) {
                    shed(id, workload, steps);
                }
            }
        }
        Phase::Clearing(rollout, _) => {
            let left = world.placed(&rollout.to).filter(|workload| connected(workload));
            if let Some(workload) = left {
                shed(&rollout.to.revision, workload, steps);
            }
        }
        Phase::Gating(rollout, _) => gates(world, rollout, steps),
        Phase::AwaitingPromotion(rollout, _) => {
            steps.note(Note::PromotionAwaited(rollout.to.revision.clone()));
            if let Some(age) = candidate::stale(world, rollout) {
                steps.act(Action::Validate(rollout.to.revision.clone()));
                let limit = world.policy.validation_age;
                steps.note(Note::ValidationStale { age, limit });
            }
        }
        Phase::Baking(rollout, since) => steps.note(Note::Bakes {
            revision: rollout.to.revision.clone(),
            since: *since,
            of: world.policy.bake,
        }),
        Phase::Stable | Phase::CuttingOver(..) | Phase::Reverting(..) | Phase::Rolling(_) => {}
    }
}

fn gates(world: &World, rollout: &Rollout, steps: &mut Steps) {
    let ready = world.placed(&rollout.to).map_or(0, Workload::ready);
    steps.note(Note::Gates { ready, of: world.goal.replicas });
    if world.goal.paused {
        steps.note(Note::Paused);
    }
}

fn shed(id: &RevisionId, workload: &Workload, steps: &mut Steps) {
    steps.act(Action::Shed(id.clone()));
    let pods = count(workload.pods.values().filter(|pod| pod.connected));
    steps.note(Note::Connected { pods });
}
