//! Step 7: how it stands, as a status and events. Pure: derived from what was observed and what
//! was really done, also when that stopped halfway.

mod conditions;
mod events;
mod progress;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use lamplighter_api::{
    ActiveRevision, Candidate, Conditions, ModelDeployment, ModelDeploymentStatus, PodCounts, names,
};
use lamplighter_plan::{Cause, Plan, PodPhase, RevisionId, State, World};

use super::apply::{Applied, Obstacle};
use super::fetch::Fetched;
use super::observe::{has_ended, is_ready};
use super::validate::{ENVIRONMENT, Invalid, Valid};
use crate::backoff;

pub use crate::polls::PROGRESS_PERIOD;
pub use events::{Event, Severity};

/// Longest `candidate.reason`, in bytes; a rule of the CRD.
const MAX_REASON: usize = 1024;

/// What the report is about.
pub struct Subject<'a> {
    /// The resource, with the status of the last report.
    pub deployment: &'a ModelDeployment,
    /// What is known about its children.
    pub fetched: &'a Fetched,
    /// The time.
    pub now: Timestamp,
}

/// What to tell the user, and when to look again.
#[derive(Debug)]
pub struct Report {
    /// The status.
    pub status: ModelDeploymentStatus,
    /// What was done.
    pub done: Vec<Event>,
    /// What became of it: for conditions that changed, to be told once the status says so.
    pub transitions: Vec<Event>,
    /// When to look again although nothing may change.
    pub again: Duration,
    /// What stopped the reconcile.
    pub failure: Option<Obstacle>,
}

/// The report on a spec that cannot be acted on. Pods that serve go on serving and are reported.
pub fn invalid(subject: &Subject<'_>, why: &Invalid) -> Report {
    let serving = pods(subject).filter(|pod| is_ready(pod)).count();
    let previous = subject.deployment.status.clone().unwrap_or_default();
    let conditions = conditions::invalid(serving, why, &previous.conditions);
    let status = ModelDeploymentStatus { candidate: None, ..previous };
    subject.report(status, &conditions, None, Applied::default())
}

/// The report on a plan and on what was done of it.
pub fn planned(
    subject: &Subject<'_>,
    valid: &Valid,
    world: &World,
    plan: &Plan,
    applied: Applied,
) -> Report {
    let progress = progress::progress(subject.fetched);
    let conditions = conditions::planned(
        &conditions::Basis { subject, valid, world, verdict: &plan.verdict },
        progress.as_deref(),
        applied.failure.as_ref(),
    );
    let active = active(subject, valid, world, &plan.verdict.state);
    let is_candidate =
        active.as_ref().is_none_or(|active| active.revision != valid.revision.as_str())
            && (world.wanted().is_some() || plan.verdict.state != State::ScaledToZero);
    let candidate =
        is_candidate.then(|| candidate(subject, valid, world, plan, progress.as_deref()));
    let status = ModelDeploymentStatus { active, candidate, ..ModelDeploymentStatus::default() };
    subject.report(status, &conditions, Some(plan), applied)
}

impl Subject<'_> {
    /// Fills in what every report has.
    fn report(
        &self,
        status: ModelDeploymentStatus,
        conditions: &Conditions,
        plan: Option<&Plan>,
        applied: Applied,
    ) -> Report {
        let previous = self.deployment.status.as_ref();
        let before = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let generation = self.deployment.metadata.generation;
        let selector = names::environment_selector(&self.deployment.name_any(), ENVIRONMENT);
        let status = ModelDeploymentStatus {
            observed_generation: generation,
            replicas: number(pods(self).count()),
            ready_replicas: number(pods(self).filter(|pod| is_ready(pod)).count()),
            selector: Some(names::selector_string(&selector)),
            conditions: conditions.build(before, generation, &Time(self.now)),
            ..status
        };
        let revision = status
            .candidate
            .as_ref()
            .map(|candidate| candidate.revision.as_str())
            .or(status.active.as_ref().map(|active| active.revision.as_str()));
        Report {
            done: events::done(plan, &applied.changes),
            transitions: events::transitions(before, &status.conditions, revision),
            again: self.again(plan),
            failure: applied.failure,
            status,
        }
    }

    fn again(&self, plan: Option<&Plan>) -> Duration {
        let stalled = plan.is_some_and(|plan| matches!(plan.verdict.state, State::Stalled { .. }));
        let ask_again = self.fetched.ask_again.filter(|_| !stalled);
        let wake = plan
            .and_then(|plan| plan.wake)
            .map(|seconds| Duration::from_secs(u64::from(seconds.0)));
        let resync = backoff::resync(&self.deployment.uid().unwrap_or_default());
        [ask_again, wake].into_iter().flatten().fold(resync, Duration::min)
    }
}

/// The pods that are there and not on their way out.
fn pods<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = &'a Pod> {
    subject
        .fetched
        .pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod))
}

/// The revision that serves: the wanted one once it was ready in full, until then the one before.
/// With no pod wanted and none left, only a revision that still has a workload can serve again.
fn active(
    subject: &Subject<'_>,
    valid: &Valid,
    world: &World,
    state: &State,
) -> Option<ActiveRevision> {
    let previous = subject.deployment.status.as_ref().and_then(|status| status.active.clone());
    if *state == State::ScaledToZero {
        let has_workload = |active: &ActiveRevision| {
            let id = RevisionId::new(active.revision.as_str());
            world.revisions.get(&id).is_some_and(|revision| revision.workload.is_some())
        };
        return previous.filter(has_workload);
    }
    if world.goal.replicas == 0 || !world.is_complete() {
        return previous;
    }
    let revision = valid.revision.as_str();
    let same = previous.filter(|active| active.revision == revision);
    let known = same.as_ref().map(|active| active.models.clone()).unwrap_or_default();
    Some(ActiveRevision {
        revision: revision.to_owned(),
        environment: ENVIRONMENT.to_owned(),
        since: same.map_or_else(|| Time(subject.now), |active| active.since),
        models: if known.is_empty() {
            progress::served_models(subject.fetched, revision)
        } else {
            known
        },
    })
}

fn candidate(
    subject: &Subject<'_>,
    valid: &Valid,
    world: &World,
    plan: &Plan,
    progress: Option<&str>,
) -> Candidate {
    let revision = valid.revision.as_str();
    let previous = subject
        .deployment
        .status
        .as_ref()
        .and_then(|status| status.candidate.as_ref())
        .filter(|candidate| candidate.revision == revision);
    let created = subject
        .fetched
        .replica_sets
        .iter()
        .find(|set| super::observe::revision_of(set.as_ref()).as_ref() == Some(&valid.revision))
        .and_then(|set| set.metadata.creation_timestamp.clone());
    let started = previous.map(|candidate| candidate.started_time.clone()).or(created);
    Candidate {
        revision: revision.to_owned(),
        reason: cause(&plan.verdict.state).map(|cause| {
            conditions::shortened(conditions::with_progress(cause, progress), MAX_REASON)
        }),
        started_time: started.unwrap_or(Time(subject.now)),
        pods: counts(world),
    }
}

/// What is waited for, if anything is.
fn cause(state: &State) -> Option<&Cause> {
    match state {
        State::Progressing(cause) | State::Disturbed(cause) | State::Stalled { cause, .. } => {
            Some(cause)
        }
        State::Deleting | State::ScaledToZero | State::Complete => None,
    }
}

fn counts(world: &World) -> PodCounts {
    let mut counts = PodCounts::default();
    for pod in world.wanted().iter().flat_map(|workload| workload.pods.values()) {
        match (&pod.phase, &pod.failure) {
            (PodPhase::Terminating, _) => {}
            (PodPhase::Ready, _) => counts.ready += 1,
            (_, Some(_)) => counts.failed += 1,
            (_, None) => counts.loading += 1,
        }
    }
    counts
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
