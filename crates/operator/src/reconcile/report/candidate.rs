//! The revision that is on its way, or that is wanted and cannot be.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::ToSpan;
use lamplighter_api::{Candidate, ModelDeploymentStatus, PodCounts, names};
use lamplighter_plan::rollout::{
    Note, Phase, Placed, Promotion, Resolved, Rollout, Stage, Workload, World,
};
use lamplighter_plan::{RevisionId, Seconds};

use super::conditions::{Basis, cause, with_progress};
use crate::reconcile::apply::Decided;
use crate::reconcile::memory::{phase_word, shortened};
use crate::reconcile::resolving;

/// Longest `candidate.reason`, in bytes; a rule of the CRD.
const MAX_REASON: usize = 1024;

/// The revision that is on its way, or that is wanted and cannot be. `now` is the status as far as
/// it is remembered.
pub(super) fn candidate(
    basis: &Basis<'_>,
    now: &ModelDeploymentStatus,
    previous: &ModelDeploymentStatus,
    progress: Option<&str>,
) -> Option<Candidate> {
    let Decided { world, plan, .. } = basis.decided;
    let memory = &plan.memory;
    let under_way = before_the_switch(&memory.phase);
    let revision = match under_way {
        Some(rollout) => rollout.to.revision.clone(),
        None => waiting(world, memory)?,
    };
    let state = now.rollout.as_ref().filter(|_| under_way.is_some());
    let same = previous.candidate.as_ref().filter(|same| same.revision == revision.as_str());
    let started = state.map(|state| state.started_time.clone());
    let started = started.or_else(|| same.map(|same| same.started_time.clone()));
    let workload = world.workload(&revision);
    Some(Candidate {
        environment: under_way.map(|rollout| rollout.to.environment.to_string()),
        strategy: state.map(|state| state.strategy.clone()),
        step: Some(step(basis, &revision, under_way.is_some())),
        because: state
            .map(|state| shortened(state.because.join(" and "), MAX_REASON))
            .filter(|because| !because.is_empty()),
        reason: reason(basis, progress).map(|reason| shortened(reason, MAX_REASON)),
        started_time: started.unwrap_or(Time(basis.subject.now)),
        deadline_time: deadline(basis, under_way),
        preview_service: preview(basis, under_way),
        pods: workload.map(counts).unwrap_or_default(),
        revision: revision.to_string(),
    })
}

/// The rollout, while its candidate does not serve alone.
fn before_the_switch(phase: &Phase) -> Option<&Rollout> {
    match phase {
        Phase::Gating(rollout, _)
        | Phase::AwaitingPromotion(rollout, _)
        | Phase::CuttingOver(rollout, _) => Some(rollout),
        Phase::Rolling(rolling) => Some(&rolling.rollout),
        Phase::Stable
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..) => None,
    }
}

/// The wanted revision, if it is not what serves.
fn waiting(world: &World, memory: &lamplighter_plan::rollout::Memory) -> Option<RevisionId> {
    let wanted = &world.goal.revision;
    let serves = memory.active.as_ref().is_some_and(|active| active.revision == *wanted);
    let is_idle = world.goal.replicas == 0 && world.workload(wanted).is_none();
    (!serves && !is_idle).then(|| wanted.clone())
}

fn step(basis: &Basis<'_>, revision: &RevisionId, is_under_way: bool) -> String {
    let Decided { world, plan, .. } = basis.decided;
    let resolved = world.revisions.get(revision).map(|found| &found.resolved);
    if is_under_way {
        phase_word(&plan.memory.phase).to_owned()
    } else if plan.memory.failed.contains_key(revision) {
        "Blocked".to_owned()
    } else if matches!(resolved, None | Some(Resolved::Unknown | Resolved::Running(_))) {
        "Resolving".to_owned()
    } else {
        "Waiting".to_owned()
    }
}

/// What it waits for: what the plan says, or what its pods do.
fn reason(basis: &Basis<'_>, progress: Option<&str>) -> Option<String> {
    let plan = basis.decided.plan;
    let waits = plan.notes.iter().find(|note| {
        matches!(
            note,
            Note::Resolving(_)
                | Note::Quarantined { .. }
                | Note::Failed { .. }
                | Note::PromotionAwaited(_)
                | Note::ServiceUnusable(_)
                | Note::RollingRefused(_)
                | Note::Sweeping { .. }
                | Note::Paused
        )
    });
    let pods = || cause(&basis.verdict.state).map(|cause| with_progress(cause, progress));
    let held_up = |note: &Note| match note {
        Note::Resolving(revision) => resolving::held_up(basis.subject.fetched, revision),
        _ => None,
    };
    let waits = waits.map(|note| match held_up(note) {
        Some(why) => format!("{}, but {}: {}", told(note), why.reason, why.message),
        None => told(note),
    });
    waits.or_else(pods)
}

/// What a note says, without a number that counts down and would be written again and again. The
/// time of the next attempt stands in `status.failedRevisions`.
fn told(note: &Note) -> String {
    match note {
        Note::Quarantined { revision, reason, retry: Some(_) } => {
            format!("{revision} failed with {reason} and is tried again")
        }
        other => other.to_string(),
    }
}

/// When the step is given up unless it gets on.
fn deadline(basis: &Basis<'_>, under_way: Option<&Rollout>) -> Option<Time> {
    let Decided { world, plan, valid, .. } = basis.decided;
    let in_time = |age: Seconds, limit: Seconds| {
        let left = i64::from(limit.0) - i64::from(age.0);
        let whole = basis.subject.now.as_second().checked_add(left)?;
        k8s_openapi::jiff::Timestamp::from_second(whole).ok().map(Time)
    };
    let policy = &valid.policy;
    let Some(rollout) = under_way else {
        return match world.revisions.get(&world.goal.revision).map(|found| &found.resolved) {
            Some(Resolved::Running(since)) => in_time(*since, policy.progress),
            _ => None,
        };
    };
    let standstill = |since: Seconds| {
        world.placed(&rollout.to).map_or(since, |found| found.standstill().min(since))
    };
    match &plan.memory.phase {
        Phase::Gating(_, since) => in_time(standstill(*since), policy.progress),
        Phase::Rolling(rolling) => in_time(standstill(rolling.since), policy.progress),
        Phase::CuttingOver(_, since) => in_time(*since, policy.confirm),
        Phase::AwaitingPromotion(_, since) => match policy.promotion {
            Promotion::Manual(limit) => in_time(*since, limit),
            Promotion::Automatic => None,
        },
        _ => None,
    }
}

fn preview(basis: &Basis<'_>, under_way: Option<&Rollout>) -> Option<String> {
    let is_before =
        matches!(basis.decided.plan.memory.phase, Phase::Gating(..) | Phase::AwaitingPromotion(..));
    under_way
        .filter(|rollout| is_before && rollout.from.is_some())
        .map(|_| names::preview_service(&basis.decided.valid.identity.name))
}

fn counts(workload: &Workload) -> PodCounts {
    let mut counts = PodCounts::default();
    for pod in workload.pods.values() {
        match (&pod.stage, &pod.failure) {
            (Stage::Leaving, _) => {}
            (Stage::Ready, _) => counts.ready += 1,
            (Stage::Starting | Stage::Unschedulable(_), Some(_)) => counts.failed += 1,
            (Stage::Starting | Stage::Unschedulable(_), None) => counts.loading += 1,
        }
    }
    counts
}

/// Until when a failure returns to what was there before.
pub(super) fn rollback_until(decided: &Decided<'_>, now: &ModelDeploymentStatus) -> Option<Time> {
    let Phase::Baking(rollout, _) = &decided.plan.memory.phase else { return None };
    let returns = |fallback: &Placed| fallback.revision != rollout.to.revision;
    rollout.fallback.as_ref().filter(|fallback| returns(fallback))?;
    let since = &now.rollout.as_ref()?.since;
    let window = i64::from(decided.valid.policy.bake.0).seconds();
    since.0.checked_add(window).ok().map(Time)
}
