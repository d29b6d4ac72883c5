//! What was decided, for the metrics.

use lamplighter_api::ModelDeploymentStatus;
use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::{Memory, Note, Phase, Plan};

use super::Subject;
use crate::reconcile::memory::{class_word, kind_word, outcome_word, phase_word};

/// Something that was decided and is remembered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// A rollout is over.
    Finished {
        /// How it was made.
        strategy: &'static str,
        /// How it ended.
        outcome: &'static str,
        /// How long it took, the rollback window included.
        took: Seconds,
    },
    /// A revision failed.
    Failed {
        /// What that means for the next attempt.
        class: &'static str,
    },
    /// A phase is over.
    Left {
        /// Which.
        phase: &'static str,
        /// How long it took.
        took: Seconds,
    },
}

/// What was decided; nothing where nothing is remembered.
pub(super) fn decisions(subject: &Subject<'_>, plan: &Plan) -> Vec<Decision> {
    let before = &subject.remembered.memory;
    if !plan.remembers(before) {
        return Vec::new();
    }
    let status = subject.deployment.status.as_ref();
    let said = plan.notes.iter().filter_map(|note| match note {
        Note::Finished { outcome, .. } => Some(Decision::Finished {
            strategy: before.rollout().map_or("None", |rollout| kind_word(rollout.strategy)),
            outcome: outcome_word(*outcome),
            took: took(subject, status),
        }),
        Note::Failed { class, .. } => Some(Decision::Failed { class: class_word(*class) }),
        _ => None,
    });
    left(before, &plan.memory).into_iter().chain(said).collect()
}

fn took(subject: &Subject<'_>, status: Option<&ModelDeploymentStatus>) -> Seconds {
    let started = status.and_then(|status| Some(&status.rollout.as_ref()?.started_time));
    started.map_or(Seconds(0), |started| super::observe::Ages::at(subject.now).since(started))
}

fn left(before: &Memory, after: &Memory) -> Option<Decision> {
    let phase = phase_word(&before.phase);
    let took = match &before.phase {
        Phase::Stable => return None,
        Phase::Gating(_, since)
        | Phase::AwaitingPromotion(_, since)
        | Phase::CuttingOver(_, since)
        | Phase::Shedding(_, since)
        | Phase::Baking(_, since)
        | Phase::Reverting(_, since)
        | Phase::Clearing(_, since) => *since,
        Phase::Rolling(rolling) => rolling.since,
    };
    (phase != phase_word(&after.phase)).then_some(Decision::Left { phase, took })
}
