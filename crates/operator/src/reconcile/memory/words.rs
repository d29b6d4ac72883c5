//! The plan's enums as words of the status, and back.

use lamplighter_api::names;
use lamplighter_plan::rollout::strategy::Kind;
use lamplighter_plan::rollout::{
    Class, CommandKind, Direction, Environment, Outcome, Phase, Rolling,
};

/// Every command: its annotation, and its word in the status.
pub(super) const COMMANDS: [(CommandKind, &str, &str); 4] = [
    (CommandKind::Promote, names::COMMAND_PROMOTE, "promote"),
    (CommandKind::Abort, names::COMMAND_ABORT, "abort"),
    (CommandKind::Retry, names::COMMAND_RETRY, "retry"),
    (CommandKind::RollbackTo, names::COMMAND_ROLLBACK_TO, "rollback-to"),
];

const KINDS: [(Kind, &str); 3] =
    [(Kind::Initial, "Initial"), (Kind::Rolling, "Rolling"), (Kind::BlueGreen, "BlueGreen")];

const CLASSES: [(Class, &str); 5] = [
    (Class::Deterministic, "Deterministic"),
    (Class::Transient, "Transient"),
    (Class::Outside, "Outside"),
    (Class::Capacity, "Capacity"),
    (Class::Withdrawn, "Withdrawn"),
];

pub(super) fn environment(word: &str) -> Option<Environment> {
    Environment::ALL.into_iter().find(|environment| environment.as_str() == word)
}

pub(super) fn kind(word: &str) -> Option<Kind> {
    value(&KINDS, word)
}

/// The strategy as the status names it.
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Initial => "Initial",
        Kind::Rolling => "Rolling",
        Kind::BlueGreen => "BlueGreen",
    }
}

pub(super) fn class(word: &str) -> Option<Class> {
    value(&CLASSES, word)
}

/// The class of a failure as the status names it.
pub fn class_word(class: Class) -> &'static str {
    match class {
        Class::Deterministic => "Deterministic",
        Class::Transient => "Transient",
        Class::Outside => "Outside",
        Class::Capacity => "Capacity",
        Class::Withdrawn => "Withdrawn",
    }
}

pub(super) fn command(word: &str) -> Option<CommandKind> {
    COMMANDS.into_iter().find(|(_, _, known)| *known == word).map(|(kind, ..)| kind)
}

pub(super) fn command_word(kind: CommandKind) -> &'static str {
    match kind {
        CommandKind::Promote => "promote",
        CommandKind::Abort => "abort",
        CommandKind::Retry => "retry",
        CommandKind::RollbackTo => "rollback-to",
    }
}

/// The phase as the status names it.
pub fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Stable => "Stable",
        Phase::Gating(..) => "Gating",
        Phase::AwaitingPromotion(..) => "AwaitingPromotion",
        Phase::CuttingOver(..) => "CuttingOver",
        Phase::Shedding(..) => "Shedding",
        Phase::Baking(..) => "Baking",
        Phase::Reverting(..) => "Reverting",
        Phase::Clearing(..) => "Clearing",
        Phase::Rolling(Rolling { direction: Direction::Forward, .. }) => "RollingForward",
        Phase::Rolling(Rolling { direction: Direction::Back, .. }) => "RollingBack",
    }
}

/// The outcome as the status names it.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Promoted => "Promoted",
        Outcome::FastPromoted => "FastPromoted",
        Outcome::Aborted => "Aborted",
        Outcome::Superseded => "Superseded",
        Outcome::RolledBack => "RolledBack",
        Outcome::RolledBackAuto => "RolledBackAuto",
        Outcome::Blocked => "Blocked",
    }
}

fn value<T: Copy>(words: &[(T, &str)], word: &str) -> Option<T> {
    words.iter().find(|(_, known)| *known == word).map(|(value, _)| *value)
}
