//! Step 7: how it stands, as a status and events. Pure: derived from what was observed and what
//! was really done, also when that stopped halfway.

mod candidate;
mod conditions;
mod decisions;
mod events;
mod history;
mod progress;
mod routable;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use lamplighter_api::{
    ActiveRevision, Conditions, ModelDeployment, ModelDeploymentStatus, ServedModel, names,
};
use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::{Environment, Plan, retry_after};
use lamplighter_plan::standing::{self, Verdict, World as Standing};

use super::apply::{Applied, Decided, Obstacle};
use super::fetch::Fetched;
use super::memory::{self, Remembered};
use super::observe::{self, has_ended, is_ready};
use super::render;
use super::resolving;
use super::validate::Invalid;
use crate::backoff;

pub use crate::polls::PROGRESS_PERIOD;
pub use decisions::Decision;
pub use events::{Event, Severity};

/// In how long to look again after something was remembered.
const REMEMBERED: Duration = Duration::from_secs(2);

/// What the report is about.
pub struct Subject<'a> {
    /// The resource, with the status of the last report.
    pub deployment: &'a ModelDeployment,
    /// What is known about its children.
    pub fetched: &'a Fetched,
    /// What its status remembers.
    pub remembered: &'a Remembered,
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
    /// What became of it: what was decided, and conditions that changed. To be told once the status
    /// says so.
    pub transitions: Vec<Event>,
    /// What was decided. To be counted once the status says so.
    pub decisions: Vec<Decision>,
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

/// The report on a plan and on what was done of it. `standing` is how the pods of the wanted
/// revision stand.
pub fn planned(
    subject: &Subject<'_>,
    decided: &Decided<'_>,
    standing: &Standing,
    applied: Applied,
) -> Report {
    let plan = decided.plan;
    let progress = progress::progress(subject.fetched);
    let verdict =
        Verdict { routable: routable::routable(decided.world), ..standing::verdict(standing) };
    let basis = conditions::Basis { subject, decided, standing, verdict: &verdict };
    let conditions = conditions::planned(&basis, progress.as_deref(), applied.failure.as_ref());
    let previous = subject.deployment.status.clone().unwrap_or_default();
    let policy = &decided.valid.policy;
    let remembered =
        memory::write(&plan.memory, subject.remembered, &previous, subject.now, |failed| {
            retry_after(failed, policy)
        });
    let status = ModelDeploymentStatus {
        active: active(subject, decided, &previous),
        candidate: candidate::candidate(&basis, &remembered, &previous, progress.as_deref()),
        rollback_until: candidate::rollback_until(decided, &remembered),
        history: history::history(plan, &previous, subject.now),
        ..remembered
    };
    let mut report = subject.report(status, &conditions, Some(plan), applied);
    report.transitions.extend(events::not_atomic(plan, subject.remembered, decided.valid));
    report
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
        let environment = status
            .active
            .as_ref()
            .map_or_else(|| self.environment().to_string(), |active| active.environment.clone());
        let selector = names::environment_selector(&self.deployment.name_any(), &environment);
        let is_active =
            |pod: &&Pod| pod.labels().get(names::LABEL_ENVIRONMENT) == Some(&environment);
        let status = ModelDeploymentStatus {
            observed_generation: generation,
            replicas: number(pods(self).filter(is_active).count()),
            ready_replicas: number(
                pods(self).filter(is_active).filter(|pod| is_ready(pod)).count(),
            ),
            selector: Some(names::selector_string(&selector)),
            conditions: conditions.build(before, generation, &Time(self.now)),
            ..status
        };
        let revision = status
            .candidate
            .as_ref()
            .map(|candidate| candidate.revision.as_str())
            .or(status.active.as_ref().map(|active| active.revision.as_str()));
        let mut transitions = events::decided(plan, self.remembered);
        transitions.extend(events::transitions(before, &status.conditions, revision));
        Report {
            done: events::done(plan, &applied.changes),
            decisions: plan.map(|plan| decisions::decisions(self, plan)).unwrap_or_default(),
            transitions,
            again: self.again(plan),
            failure: applied.failure,
            status,
        }
    }

    /// The environment that the Service selects.
    fn environment(&self) -> Environment {
        let service = self.fetched.service.as_ref();
        let selector = service.and_then(|service| service.spec.as_ref()?.selector.as_ref());
        selector.and_then(observe::environment).unwrap_or(Environment::Blue)
    }

    fn again(&self, plan: Option<&Plan>) -> Duration {
        let wake = plan
            .and_then(|plan| plan.wake)
            .map(|seconds| Duration::from_secs(u64::from(seconds.0)));
        let resync = backoff::resync(&self.deployment.uid().unwrap_or_default());
        // A memory is acted on when it comes back by the watch; this is in case that takes long.
        let remembers = plan.is_some_and(|plan| plan.remembers(&self.remembered.memory));
        let acts = remembers.then_some(REMEMBERED);
        [self.fetched.ask_again, wake, acts].into_iter().flatten().fold(resync, Duration::min)
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

/// What serves, by the memory.
fn active(
    subject: &Subject<'_>,
    decided: &Decided<'_>,
    previous: &ModelDeploymentStatus,
) -> Option<ActiveRevision> {
    let placed = decided.plan.memory.active.as_ref()?;
    let same =
        previous.active.as_ref().filter(|active| active.revision == placed.revision.as_str());
    let known = same.map(|active| active.models.clone()).unwrap_or_default();
    Some(ActiveRevision {
        revision: placed.revision.to_string(),
        environment: placed.environment.to_string(),
        worker_outdated: is_outdated(decided, &placed.revision),
        since: same.map_or_else(|| Time(subject.now), |active| active.since.clone()),
        models: if known.is_empty() { models(subject, &placed.revision) } else { known },
        memory: same
            .and_then(|active| active.memory.clone())
            .or_else(|| progress::memory(subject.fetched, placed.revision.as_str())),
    })
}

/// The worker image of a revision was the default once and is not any more.
fn is_outdated(decided: &Decided<'_>, revision: &RevisionId) -> bool {
    let blueprint = render::blueprint(decided.valid, decided.fetched, revision);
    blueprint.and_then(Result::ok).is_some_and(|blueprint| {
        let default = decided.valid.images.of(blueprint.worker.effective_device());
        blueprint.worker.image.is_none()
            && default.is_some_and(|default| blueprint.snapshot.image() != default)
    })
}

/// The models of a revision, as its record says, else as its pods do.
fn models(subject: &Subject<'_>, revision: &RevisionId) -> Vec<ServedModel> {
    let records = &subject.fetched.records;
    records
        .iter()
        .find(|record| observe::revision_of(record.as_ref()).as_ref() == Some(revision))
        .and_then(|record| resolving::kept(record))
        .map_or_else(
            || progress::served_models(subject.fetched, revision.as_str()),
            |found| found.iter().map(progress::served_model).collect(),
        )
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
