//! Rollouts that are over.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use lamplighter_api::{ModelDeploymentStatus, PastRollout};
use lamplighter_plan::rollout::{Note, Plan};

use crate::reconcile::memory::outcome_word;

/// How many are kept.
const KEPT: usize = 10;

/// The rollouts that are over, newest first.
pub(super) fn history(
    plan: &Plan,
    previous: &ModelDeploymentStatus,
    now: Timestamp,
) -> Vec<PastRollout> {
    let finished = plan.notes.iter().filter_map(|note| match note {
        Note::Finished { from, to, outcome } => Some((from, to, *outcome)),
        _ => None,
    });
    let state = previous.rollout.as_ref();
    let new = finished.map(|(from, to, outcome)| PastRollout {
        from: from.as_ref().map(ToString::to_string),
        to: to.to_string(),
        strategy: state.map(|state| state.strategy.clone()).unwrap_or_default(),
        outcome: outcome_word(outcome).to_owned(),
        started_time: state.map_or_else(|| Time(now), |state| state.started_time.clone()),
        finished_time: Time(now),
    });
    new.chain(previous.history.iter().cloned()).take(KEPT).collect()
}
