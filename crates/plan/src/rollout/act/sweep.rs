//! What nothing needs goes: pods, workloads, records.

use super::Steps;
use super::size::to_zero;
use crate::rollout::memory::Placed;
use crate::rollout::plan::{Action, Note};
use crate::rollout::world::{Workload, World};
use crate::terms::RevisionId;

/// How many records of revisions without a workload are kept, newest first. Ten is what a
/// Deployment keeps by default (`revisionHistoryLimit`), so that nobody has to learn a new number:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#revision-history-limit>.
const KEPT_RECORDS: usize = 10;

/// What nothing needs goes, once nobody can reach it.
pub(super) fn sweep(world: &World, steps: &mut Steps) {
    for (id, workload) in world.workloads() {
        let placed = Placed { revision: id.clone(), environment: workload.environment };
        if world.memory.needs(&placed) || world.memory.rolls_in(workload.environment) {
            continue;
        }
        if workload.is_empty() {
            steps.act(Action::Delete(id.clone()));
        } else if is_missed(world, id, workload) {
            let pods = workload.present();
            steps.note(Note::Sweeping { revision: id.clone(), pods });
        } else if workload.replicas > 0 {
            to_zero(world, id, steps);
            steps.note(Note::Swept(id.clone()));
        }
    }
}

/// Requests reach it, and too few pods would serve without it.
pub(crate) fn is_missed(world: &World, id: &RevisionId, workload: &Workload) -> bool {
    workload.is_routed() && !is_served_without(world, id)
}

/// As many pods serve as are wanted, this revision's not counted.
fn is_served_without(world: &World, id: &RevisionId) -> bool {
    let others = world.workloads().filter(|(other, _)| *other != id);
    let serving = others.fold(0, |sum: u32, (_, workload)| sum.saturating_add(workload.serving()));
    serving >= world.goal.replicas
}

/// Records beyond the newest [`KEPT_RECORDS`] go, except of what may be returned to.
pub(super) fn forget(world: &World, steps: &mut Steps) {
    let memory = &world.memory;
    let is_in_use = |id: &RevisionId| {
        *id == world.goal.revision
            || memory.known_good.contains(id)
            || memory.active.as_ref().is_some_and(|active| active.revision == *id)
            || memory.pin.as_ref().is_some_and(|pin| pin.revision == *id)
            || memory.rollout().is_some_and(|rollout| {
                let ends = [rollout.from.as_ref(), rollout.fallback.as_ref(), Some(&rollout.to)];
                ends.into_iter().flatten().any(|placed| placed.revision == *id)
            })
    };
    let mut past: Vec<_> = world
        .revisions
        .iter()
        .filter(|(id, found)| found.recorded && found.workload.is_none() && !is_in_use(id))
        .map(|(id, found)| (found.sequence, id))
        .collect();
    past.sort_unstable();
    let excess = past.len().saturating_sub(KEPT_RECORDS);
    for (_, id) in past.into_iter().take(excess) {
        steps.act(Action::Forget(id.clone()));
    }
}
