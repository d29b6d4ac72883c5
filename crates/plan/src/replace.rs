//! The steps of a decision. Each looks at the whole world and answers for one concern.

use crate::output::{Action, Note};
use crate::world::{RevisionId, Workload, World, count};

/// How many records of revisions without a workload are kept, newest first. Ten is what a
/// Deployment keeps by default (`revisionHistoryLimit`), so that nobody has to learn a new number:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#revision-history-limit>.
pub const KEPT_RECORDS: usize = 10;

/// An action, or the reason for none.
pub(crate) struct Step {
    pub(crate) action: Option<Action>,
    pub(crate) note: Note,
}

impl Step {
    fn act(action: Action, note: Note) -> Self {
        Self { action: Some(action), note }
    }

    fn wait(note: Note) -> Self {
        Self { action: None, note }
    }
}

/// The wanted revision has a workload of the wanted size.
pub(crate) fn raise_wanted(world: &World) -> Vec<Step> {
    let revision = world.goal.revision.clone();
    let replicas = world.goal.replicas;
    match world.wanted() {
        None => vec![Step::act(
            Action::Create { revision: revision.clone(), replicas },
            Note::Created { revision, replicas },
        )],
        Some(workload) if workload.replicas != replicas => {
            let (from, to) = (workload.replicas, replicas);
            vec![Step::act(
                Action::Scale { revision: revision.clone(), from, to },
                Note::Resized { revision, from, to },
            )]
        }
        Some(workload) if replicas == 0 && !workload.is_empty() => {
            vec![Step::wait(Note::Draining { revision, pods: count(workload.pods.iter()) })]
        }
        Some(_) => Vec::new(),
    }
}

/// Older revisions that ask for pods: kept, or scaled to zero.
pub(crate) fn retire_older(world: &World) -> Vec<Step> {
    world
        .older()
        .filter(|(_, workload)| workload.replicas > 0)
        .map(|(id, workload)| retire(world, id, workload))
        .collect()
}

fn retire(world: &World, id: &RevisionId, workload: &Workload) -> Step {
    let from = workload.replicas;
    let to_zero = Action::Scale { revision: id.clone(), from, to: 0 };
    if world.goal.replicas == 0 || world.is_complete() {
        let wanted = world.goal.replicas;
        return Step::act(to_zero, Note::Retired { revision: id.clone(), from, wanted });
    }
    if let Some((serving, ready)) = serving_instead_of(world, id, workload) {
        let note = Note::MadeRoom { revision: id.clone(), from, serving: serving.clone(), ready };
        return Step::act(to_zero, note);
    }
    Step::wait(Note::Kept {
        revision: id.clone(),
        replicas: from,
        wanted_ready: world.wanted_ready(),
        wanted: world.goal.replicas,
    })
}

/// The older revision that serves while `id` serves nobody. Without this, a correction of a
/// revision that failed could wait for ever for the devices which the failed pods hold.
fn serving_instead_of<'a>(
    world: &'a World,
    id: &RevisionId,
    workload: &Workload,
) -> Option<(&'a RevisionId, u32)> {
    if workload.is_routable() {
        return None;
    }
    world
        .older()
        .filter(|(other, workload)| *other != id && workload.replicas > 0)
        .map(|(other, workload)| (other, workload.ready()))
        .filter(|(_, ready)| *ready > 0)
        .max_by_key(|(other, ready)| (*ready, (*other).clone()))
}

/// Older workloads that ask for no pod: deleted once they have none.
pub(crate) fn delete_empty(world: &World) -> Vec<Step> {
    world
        .older()
        .filter(|(_, workload)| workload.replicas == 0)
        .map(|(id, workload)| {
            if workload.is_empty() {
                let revision = id.clone();
                Step::act(Action::Delete { revision: revision.clone() }, Note::Deleted { revision })
            } else {
                let pods = count(workload.pods.iter());
                Step::wait(Note::Draining { revision: id.clone(), pods })
            }
        })
        .collect()
}

/// Records beyond the newest [`KEPT_RECORDS`] of revisions without a workload are deleted.
pub(crate) fn forget_records(world: &World) -> Vec<Step> {
    let mut past: Vec<_> = world
        .revisions
        .iter()
        .filter(|(id, revision)| {
            revision.recorded && revision.workload.is_none() && **id != world.goal.revision
        })
        .map(|(id, revision)| (revision.sequence, id))
        .collect();
    past.sort_unstable();
    let excess = past.len().saturating_sub(KEPT_RECORDS);
    past.into_iter()
        .take(excess)
        .map(|(_, id)| {
            Step::act(
                Action::Forget { revision: id.clone() },
                Note::Forgotten { revision: id.clone(), kept: KEPT_RECORDS },
            )
        })
        .collect()
}
