//! The cluster in the words of the rollout.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::ToSpan;
use kube::{Resource, ResourceExt};
use lamplighter_api::names;
use lamplighter_plan::rollout::{
    Command, CommandKind, Environment, Goal, Phase, Resolved, Revision, Service, Stage, Workload,
    World,
};
use lamplighter_plan::{Failure, PodName, RevisionId, Seconds};

use super::{
    Ages, arriving, changed, condition, end, end_of_pod, exits, failure, has_ended, held_up,
    is_ready, ordered, revision_of, worker,
};
use crate::reconcile::fetch::Fetched;
use crate::reconcile::memory::Remembered;
use crate::reconcile::ownership::is_controlled_by;
use crate::reconcile::resolving;
use crate::reconcile::validate::Valid;

/// The world of one deployment, as it is known now.
pub fn world(
    valid: &Valid,
    remembered: &Remembered,
    commands: BTreeMap<CommandKind, Command>,
    fetched: &Fetched,
    ages: &Ages,
) -> World {
    let memory = &remembered.memory;
    let viewer = Viewer {
        ages,
        fetched,
        routed: fetched.routed(),
        progress: valid.policy.progress,
        is_shedding: matches!(memory.phase, Phase::Shedding(..) | Phase::Clearing(..)),
    };
    let mut revisions: BTreeMap<RevisionId, Revision> = BTreeMap::new();
    for record in &fetched.records {
        let Some(id) = revision_of(record.as_ref()) else { continue };
        let entry = revisions.entry(id.clone()).or_insert_with(unknown);
        entry.recorded = true;
        entry.sequence = record.revision;
        entry.resolved = resolving::resolved(record, memory, fetched, ages, valid.policy.progress);
    }
    for set in &fetched.replica_sets {
        if let (Some(id), Some(workload)) = (revision_of(set.as_ref()), viewer.workload(set)) {
            revisions.entry(id).or_insert_with(unknown).workload = Some(workload);
        }
    }
    World {
        goal: Goal {
            revision: valid.wanted.revision.clone(),
            replicas: valid.replicas,
            paused: valid.paused,
            deleting: false,
            commands,
        },
        policy: valid.policy.clone(),
        memory: memory.clone(),
        overtaken: latest_epoch(fetched) > memory.epoch,
        revisions,
        service: service(fetched),
    }
}

fn unknown() -> Revision {
    Revision { sequence: 0, recorded: false, resolved: Resolved::Unknown, workload: None }
}

/// The latest epoch that any object was written under.
pub fn latest_epoch(fetched: &Fetched) -> u64 {
    let sets = fetched.replica_sets.iter().filter_map(|set| epoch(set.as_ref()));
    let service = fetched.service.iter().filter_map(|service| epoch(service.as_ref()));
    sets.chain(service).max().unwrap_or_default()
}

/// The epoch that an object was written under.
pub fn epoch<K: Resource>(object: &K) -> Option<u64> {
    object.annotations().get(names::ANNOTATION_EPOCH)?.parse().ok()
}

/// The environment that an object's labels or selector name.
pub fn environment(labels: &BTreeMap<String, String>) -> Option<Environment> {
    let word = labels.get(names::LABEL_ENVIRONMENT)?;
    Environment::ALL.into_iter().find(|environment| environment.as_str() == word)
}

fn service(fetched: &Fetched) -> Service {
    let Some(service) = &fetched.service else { return Service::default() };
    let spec = service.spec.as_ref();
    let selects = spec.and_then(|spec| environment(spec.selector.as_ref()?));
    let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let unusable =
        is_external.then(|| "its type is ExternalName, which selects nothing".to_owned());
    Service { selects, unusable }
}

struct Viewer<'a> {
    ages: &'a Ages,
    fetched: &'a Fetched,
    routed: BTreeSet<&'a str>,
    is_shedding: bool,
    progress: Seconds,
}

impl Viewer<'_> {
    fn workload(&self, set: &ReplicaSet) -> Option<Workload> {
        let environment = environment(set.labels())?;
        let uid = set.uid().unwrap_or_default();
        let (ended, pods): (Vec<&Pod>, Vec<&Pod>) = self
            .fetched
            .pods
            .iter()
            .map(AsRef::as_ref)
            .filter(|pod| is_controlled_by(pod.meta(), &uid))
            .partition(|pod| has_ended(pod));
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        // What still arrives is a step forward.
        let is_arriving = pods.iter().any(|pod| self.is_arriving(pod));
        let ordered = ordered(set).filter(|_| !is_arriving);
        let since = ordered.map(|time| self.ages.since(time)).unwrap_or_default();
        let last_end = self.last_end(&ended, since);
        let pod = |pod: &Pod| (PodName::new(pod.name_any()), self.pod(pod, last_end.as_ref()));
        Some(Workload {
            environment,
            replicas: u32::try_from(replicas).unwrap_or_default(),
            since,
            pods: pods.into_iter().map(pod).collect(),
            refused: self.ages.refused(set),
        })
    }

    fn is_arriving(&self, pod: &Pod) -> bool {
        let report = self.fetched.reports.get(&pod.name_any()).and_then(|said| said.as_ref().ok());
        !is_ready(pod) && report.is_some_and(|said| arriving::is_arriving(said, self.progress))
    }

    /// Why the last pod of the workload that ended as a whole did so, as long as that can be why
    /// its successor is not ready.
    fn last_end(&self, ended: &[&Pod], since: Seconds) -> Option<Failure> {
        let last = ended.iter().filter_map(|pod| Some((end(pod)?, *pod)));
        let (time, pod) = last.max_by_key(|(time, _)| *time)?;
        (self.ages.since(time) <= since).then(|| end_of_pod(pod))
    }

    fn pod(&self, pod: &Pod, last_end: Option<&Failure>) -> lamplighter_plan::rollout::Pod {
        let uid = pod.uid().unwrap_or_default();
        let stage = stage(pod);
        let why = || failure(pod).or_else(|| held_up(worker(pod)?)).or_else(|| last_end.cloned());
        lamplighter_plan::rollout::Pod {
            since: self.since(pod, &stage),
            failure: if stage == Stage::Starting { why() } else { None },
            traffic: pod.labels().get(names::LABEL_TRAFFIC).map(String::as_str)
                == Some(names::TRAFFIC),
            routed: self.routed.contains(uid.as_str()),
            connected: self.is_shedding && self.is_connected(pod, &uid),
            exits: exits::exits(pod),
            wrong: exits::was_wrong(pod) || self.says_wrong(pod, &stage),
            validated: self.validated(pod),
            stage,
        }
    }

    fn since(&self, pod: &Pod, stage: &Stage) -> Seconds {
        let age = |time: Option<&Time>| time.map(|time| self.ages.since(time)).unwrap_or_default();
        match stage {
            Stage::Unschedulable(_) => {
                let scheduled = condition(pod, "PodScheduled");
                age(scheduled.and_then(|found| found.last_transition_time.as_ref()))
            }
            Stage::Leaving => age(told_to_leave(pod).as_ref()),
            Stage::Starting | Stage::Ready => age(changed(pod)),
        }
    }

    /// Connections from before it was told to shed them may be open: it says so, was not told in
    /// this phase, or cannot be asked. A container that does not run has none.
    fn is_connected(&self, pod: &Pod, uid: &str) -> bool {
        let is_running = worker(pod)
            .and_then(|worker| worker.state.as_ref())
            .is_some_and(|state| state.running.is_some());
        let said =
            self.fetched.reports.get(&pod.name_any()).and_then(|report| report.as_ref().ok());
        let left = said.and_then(|report| report.connections_before_shed);
        is_running && (!self.fetched.told_to_shed.contains(uid) || left != Some(0))
    }

    /// It has taken itself out of service for wrong answers, and is finishing its requests before it
    /// ends: nobody has to wait for that.
    fn says_wrong(&self, pod: &Pod, stage: &Stage) -> bool {
        const TWICE: u64 = 2;
        let said =
            self.fetched.reports.get(&pod.name_any()).and_then(|report| report.as_ref().ok());
        let revalidation = said.and_then(|report| report.revalidation);
        *stage == Stage::Starting && revalidation.is_some_and(|rounds| rounds.wrong >= TWICE)
    }

    /// How long ago it proved its answers; for ever, where it does not say.
    fn validated(&self, pod: &Pod) -> Seconds {
        let said =
            self.fetched.reports.get(&pod.name_any()).and_then(|report| report.as_ref().ok());
        let ago = said.and_then(|report| report.validated_seconds_ago);
        ago.map_or(Seconds(u32::MAX), whole)
    }
}

/// Seconds, rounded down; for ever where they are no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value was brought into range before"
)]
fn whole(seconds: f64) -> Seconds {
    if seconds.is_finite() {
        Seconds(seconds.clamp(0.0, f64::from(u32::MAX)) as u32)
    } else {
        Seconds(u32::MAX)
    }
}

fn stage(pod: &Pod) -> Stage {
    if pod.metadata.deletion_timestamp.is_some() {
        return Stage::Leaving;
    }
    if is_ready(pod) {
        return Stage::Ready;
    }
    let unscheduled = condition(pod, "PodScheduled").filter(|found| {
        found.status == "False" && found.reason.as_deref() == Some("Unschedulable")
    });
    match unscheduled {
        Some(found) => Stage::Unschedulable(found.message.clone().unwrap_or_default()),
        None => Stage::Starting,
    }
}

/// The apiserver's timestamp is the end of the grace period.
fn told_to_leave(pod: &Pod) -> Option<Time> {
    let end = pod.metadata.deletion_timestamp.as_ref()?;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
    Some(Time(end.0.checked_sub(grace.seconds()).unwrap_or(end.0)))
}

/// Pods whose ends are to be forgiven, and up to which count.
pub fn to_forgive(fetched: &Fetched, ages: &Ages) -> Vec<(std::sync::Arc<Pod>, u32)> {
    let ready = |pod: &Pod| {
        is_ready(pod).then(|| changed(pod).map(|time| ages.since(time)).unwrap_or_default())
    };
    fetched
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod))
        .filter_map(|pod| Some((pod.clone(), exits::to_forgive(pod, ready(pod))?)))
        .collect()
}
