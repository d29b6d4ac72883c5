//! What a person asked for. Each command is heard once; one that cannot be followed is said to be
//! so and forgotten.

use super::Turn;
use crate::rollout::heading::wanted;
use crate::rollout::memory::{Class, Phase, Pin, Rollout};
use crate::rollout::plan::Note;
use crate::rollout::world::{Command, CommandKind, World};

/// The first command that was not heard yet.
pub(super) fn heard(world: &World) -> Option<Turn> {
    let unheard = |kind: &CommandKind, command: &Command| {
        world.memory.acknowledged.get(kind) != Some(&command.token)
    };
    world
        .goal
        .commands
        .iter()
        .filter(|(kind, command)| unheard(kind, command))
        .find_map(|(kind, command)| follow(world, *kind, command))
}

/// Whether a person promoted this rollout and was not answered yet.
pub(super) fn is_promoted(world: &World, rollout: &Rollout) -> bool {
    world.goal.commands.get(&CommandKind::Promote).is_some_and(|command| {
        command.revision.as_ref() == Some(&rollout.to.revision)
            && world.memory.acknowledged.get(&CommandKind::Promote) != Some(&command.token)
    })
}

/// The promotion is used up.
pub(super) fn promotion_heard(world: &World, turn: Turn) -> Turn {
    match world.goal.commands.get(&CommandKind::Promote) {
        Some(command) => acknowledge(turn, CommandKind::Promote, command),
        None => turn,
    }
}

fn follow(world: &World, kind: CommandKind, command: &Command) -> Option<Turn> {
    let turn = match kind {
        CommandKind::Promote => promote(world)?,
        CommandKind::Retry => retry(world),
        CommandKind::Abort => abort(world),
        CommandKind::RollbackTo => roll_back(world, command),
    };
    Some(acknowledge(turn, kind, command))
}

fn acknowledge(mut turn: Turn, kind: CommandKind, command: &Command) -> Turn {
    turn.memory.acknowledged.insert(kind, command.token.clone());
    turn
}

fn unchanged(world: &World, note: Note) -> Turn {
    Turn::of(world, |_| {}).with(note)
}

/// A promotion waits for its candidate to be ready. Of anything else it is no promotion.
fn promote(world: &World) -> Option<Turn> {
    let is_for_candidate = match &world.memory.phase {
        Phase::Gating(rollout, _) | Phase::AwaitingPromotion(rollout, _) => {
            is_promoted(world, rollout)
        }
        Phase::Stable
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => false,
    };
    (!is_for_candidate).then(|| unchanged(world, Note::Inapplicable(CommandKind::Promote)))
}

fn retry(world: &World) -> Turn {
    let revision = wanted(world);
    if world.memory.failed.contains_key(revision) {
        Turn::of(world, |memory| memory.release(revision)).with(Note::Heard(CommandKind::Retry))
    } else {
        unchanged(world, Note::Inapplicable(CommandKind::Retry))
    }
}

/// Gives the rollout up. With nothing under way there is nothing to give up, least of all what
/// serves: <https://github.com/argoproj/argo-rollouts/issues/1292>.
fn abort(world: &World) -> Turn {
    let given_up = match &world.memory.phase {
        Phase::Gating(rollout, _) | Phase::AwaitingPromotion(rollout, _) => Some(rollout),
        Phase::CuttingOver(rollout, _)
        | Phase::Shedding(rollout, _)
        | Phase::Baking(rollout, _) => Some(rollout).filter(|rollout| rollout.fallback.is_some()),
        Phase::Rolling(rolling) => Some(&rolling.rollout),
        Phase::Stable | Phase::Reverting(..) | Phase::Clearing(..) => None,
    };
    match given_up {
        Some(rollout) => Turn::of(world, |memory| {
            let message = "a person gave it up; the annotation for a retry tries it again";
            memory.fail(&rollout.to.revision, Class::Withdrawn, "Aborted", message.to_owned());
        })
        .with(Note::Heard(CommandKind::Abort)),
        None => unchanged(world, Note::Inapplicable(CommandKind::Abort)),
    }
}

fn roll_back(world: &World, command: &Command) -> Turn {
    let known = command
        .revision
        .as_ref()
        .filter(|revision| world.revisions.get(*revision).is_some_and(|found| found.recorded));
    match known {
        Some(revision) => Turn::of(world, |memory| {
            let instead_of = world.goal.revision.clone();
            memory.release(revision);
            memory.pin = Some(Pin { revision: revision.clone(), instead_of });
        })
        .with(Note::Heard(CommandKind::RollbackTo)),
        None => unchanged(world, Note::Inapplicable(CommandKind::RollbackTo)),
    }
}
