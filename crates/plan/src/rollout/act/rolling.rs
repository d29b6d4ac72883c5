//! Pods are replaced one at a time: one is withdrawn and leaves, one of the target follows.

use super::Steps;
use super::size::{resize, to_zero};
use crate::rollout::memory::{Placed, Rolling};
use crate::rollout::plan::{Action, Note};
use crate::rollout::transition::rolling;
use crate::rollout::world::{Stage, Workload, World};
use crate::terms::count;

pub(super) fn roll(world: &World, rolling: &Rolling, steps: &mut Steps) {
    let Some(target) = rolling::target(rolling) else { return };
    let wanted = world.goal.replicas;
    steps.note(Note::Rolls {
        direction: rolling.direction,
        there: world.placed(target).map_or(0, Workload::serving),
        of: wanted,
    });
    if rolling::is_held(world, rolling) {
        steps.note(Note::Paused);
    }
    if wanted == 0 {
        let all = rolling::others(world, target).map(|(id, _)| id);
        for id in all.chain([&target.revision]) {
            to_zero(world, id, steps);
        }
        return;
    }
    if rolling.withdrawn.is_some() {
        withdraw(world, rolling, steps);
        return;
    }
    grow(world, rolling, target, steps);
    if let Err(rolling::FloorHolds { serving, floor }) = rolling::victim(world, rolling, target) {
        steps.note(Note::FloorHolds { serving, floor });
    }
}

/// The pod that leaves next gets no new requests; when no node routes to it any more it is told to
/// go.
fn withdraw(world: &World, rolling: &Rolling, steps: &mut Steps) {
    let Some(withdrawn) = &rolling.withdrawn else { return };
    let Some(workload) = world.workload(&withdrawn.revision) else { return };
    let Some(pod) = workload.pods.get(&withdrawn.pod) else { return };
    if pod.stage == Stage::Leaving {
        return;
    }
    if pod.traffic {
        steps.act(Action::Withdraw(withdrawn.pod.clone()));
    }
    let is_out = withdrawn.out.is_some_and(|out| out >= world.policy.propagation);
    if is_out && !pod.traffic && !pod.routed && workload.replicas > withdrawn.leaves {
        steps.act(Action::Scale {
            revision: withdrawn.revision.clone(),
            from: workload.replicas,
            to: withdrawn.leaves,
        });
    }
}

/// A pod that was withdrawn and stays after all.
pub(super) fn restore(world: &World, steps: &mut Steps) {
    let leaves = world.memory.withdrawn().map(|withdrawn| &withdrawn.pod);
    for (name, pod) in world.workloads().flat_map(|(_, workload)| &workload.pods) {
        if !pod.traffic && pod.stage != Stage::Leaving && Some(name) != leaves {
            steps.act(Action::Restore(name.clone()));
        }
    }
}

/// One pod more of the target, when all that it has are reached and there is room. Pods that are
/// leaving hold their devices until they are gone, unless their node is lost.
fn grow(world: &World, rolling: &Rolling, target: &Placed, steps: &mut Steps) {
    // A pod that left before it was paused is made up for.
    let is_short = rolling::asked(world, target) < world.goal.replicas;
    let is_held = rolling::is_held(world, rolling) && !is_short;
    let workload = world.workload(&target.revision);
    if workload.is_some_and(|workload| workload.environment != target.environment) {
        return;
    }
    let has = workload.map_or(0, |workload| workload.replicas);
    let wanted = world.goal.replicas;
    // Pods that it did not ask for any more and still has are as good as new ones.
    let kept = workload.map_or(0, Workload::present).min(wanted);
    if has > wanted || has < kept {
        resize(world, target, has.clamp(kept, wanted), steps);
        return;
    }
    let holds = |workload: &Workload| {
        count(
            workload
                .pods
                .values()
                .filter(|pod| pod.stage != Stage::Leaving || pod.since <= world.policy.progress),
        )
    };
    let held = world
        .workloads()
        .filter(|(_, workload)| workload.environment == target.environment)
        .fold(0, |sum: u32, (_, workload)| {
            sum.saturating_add(holds(workload).max(workload.replicas))
        });
    if has < wanted && held < rolling::room(world) && rolling::is_in_step(world, target) && !is_held
    {
        resize(world, target, has.saturating_add(1), steps);
    }
}
