//! What the memory asks of the cluster. Nothing here changes the memory.

mod ask;
mod rolling;
mod select;
mod size;
pub(crate) mod sweep;

use super::heading::heading;
use super::memory::Phase;
use super::plan::{Action, Note};
use super::transition::{self, begin};
use super::world::{Resolved, Workload, World};

/// Actions, and the reasons for them and for others' absence.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) actions: Vec<Action>,
    pub(crate) notes: Vec<Note>,
}

/// Everything that is to be done now. Who takes something away relies on what others give, so
/// what is given comes first: any prefix of this is safe.
pub(crate) fn steps(world: &World) -> Steps {
    let mut steps = Steps::default();
    resolve(world, &mut steps);
    waiting(world, &mut steps);
    select::select(world, &mut steps);
    rolling::restore(world, &mut steps);
    match &world.memory.phase {
        Phase::Rolling(walk) => {
            size::size(world, Some(walk.rollout.to.environment), &mut steps);
            rolling::roll(world, walk, &mut steps);
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..) => size::size(world, None, &mut steps),
    }
    ask::ask(world, &mut steps);
    sweep::sweep(world, &mut steps);
    sweep::forget(world, &mut steps);
    steps
}

impl Steps {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

/// What is headed for has to be known before anything else happens.
fn resolve(world: &World, steps: &mut Steps) {
    let Some(revision) = heading(world).revision else { return };
    let is_active = world.memory.active.as_ref().is_some_and(|active| active.revision == revision);
    match world.revisions.get(&revision).map(|found| &found.resolved) {
        Some(Resolved::Known(_)) => {}
        Some(Resolved::Running(_)) => steps.note(Note::Resolving(revision)),
        Some(Resolved::Unknown | Resolved::Failed(..)) | None => {
            if !is_active {
                steps.act(Action::Resolve(revision.clone()));
                steps.note(Note::Resolving(revision));
            }
        }
    }
}

/// Why nothing begins.
fn waiting(world: &World, steps: &mut Steps) {
    let heading = heading(world);
    steps.notes.extend(heading.note);
    let active = world.memory.active.as_ref();
    let is_idle = match &world.memory.phase {
        Phase::Stable => true,
        Phase::Baking(rollout, _) => heading.revision.as_ref() != Some(&rollout.to.revision),
        Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..) => false,
        Phase::Rolling(walk) => transition::rolling::third(world, walk).is_some(),
    };
    let Some(revision) = heading.revision.filter(|_| is_idle) else { return };
    if active.is_some_and(|active| active.revision == revision) {
        return;
    }
    match begin::plan(world, &revision, active) {
        Ok(_) | Err(begin::Obstacle::Unresolved) => {}
        Err(begin::Obstacle::Paused) => steps.note(Note::Paused),
        Err(begin::Obstacle::ServiceUnusable(why)) => steps.note(Note::ServiceUnusable(why)),
        Err(begin::Obstacle::Refused(triggers)) => steps.note(Note::RollingRefused(triggers)),
        Err(begin::Obstacle::Leftover(id)) => {
            let pods = world.workload(&id).map_or(0, Workload::present);
            steps.note(Note::Sweeping { revision: id, pods });
        }
    }
}
