//! Step 3: the cluster in the words of the plan. The only place where times become ages and
//! Kubernetes' many ways to say that a pod is not well become a few.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use lamplighter_api::{Reason, names};
use lamplighter_plan::standing::{Ended, Goal, PodPhase, Revision, Workload, World};
use lamplighter_plan::{Failure, FailureClass, PodName, Refusal, RevisionId, Seconds};
use lamplighter_protocol::{self as protocol, Class};

use super::fetch::Fetched;
use super::memory::Remembered;
use super::validate::Valid;

mod arriving;
mod endpoints;
mod exits;
mod held_up;
mod world;

pub use endpoints::routed;
pub use held_up::{held_up, reader_held_up};
pub use world::{environment, epoch, latest_epoch, to_forgive, world};

/// The container that serves; the only one of the pod.
pub const CONTAINER: &str = "worker";

/// Longest part of a container's last words that is repeated in a message, in bytes.
const MAX_LAST_WORDS: usize = 512;

/// How the pods of the wanted revision stand, for the words of the status.
pub fn standing(valid: &Valid, remembered: &Remembered, fetched: &Fetched, ages: &Ages) -> World {
    let mut revisions: BTreeMap<RevisionId, Revision> = BTreeMap::new();
    for record in &fetched.records {
        if let Some(id) = revision_of(record.as_ref()) {
            let entry = revisions.entry(id).or_default();
            entry.recorded = true;
            entry.sequence = record.revision;
        }
    }
    for set in &fetched.replica_sets {
        if let Some(id) = revision_of(set.as_ref()) {
            revisions.entry(id).or_default().workload = Some(ages.workload(set, fetched));
        }
    }
    let active = remembered.memory.active.as_ref();
    World {
        goal: Goal { revision: valid.wanted.revision.clone(), replicas: valid.replicas },
        deleting: false,
        deadline: valid.policy.progress,
        settled: active.map(|active| active.revision.clone()),
        revisions,
    }
}

/// The revision that an object belongs to.
pub fn revision_of<K: Resource>(object: &K) -> Option<RevisionId> {
    object.labels().get(names::LABEL_REVISION).map(RevisionId::new)
}

/// The kubelet says that the pod passed its readiness probe, and it is not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Pods that ended and stay as a memory: evicted, rejected by the kubelet, or stopped with their
/// node. The ReplicaSet has replaced them, so they count as gone; the newest is remembered.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Turns times into ages.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    now: Timestamp,
}

impl Ages {
    /// Ages at a time.
    pub fn at(now: Timestamp) -> Self {
        Self { now }
    }

    /// The time at which ages are taken.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The age of a time; zero for one that is yet to come.
    pub fn since(&self, time: &Time) -> Seconds {
        let seconds = self.now.as_second().saturating_sub(time.0.as_second());
        Seconds(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }

    fn workload(&self, set: &ReplicaSet, fetched: &Fetched) -> Workload {
        let uid = set.uid().unwrap_or_default();
        let (ended, pods): (Vec<&Pod>, Vec<&Pod>) = fetched
            .pods
            .iter()
            .map(AsRef::as_ref)
            .filter(|pod| super::ownership::is_controlled_by(pod.meta(), &uid))
            .partition(|pod| has_ended(pod));
        let name = |pod: &Pod| PodName::new(pod.name_any());
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        Workload {
            replicas: u32::try_from(replicas).unwrap_or_default(),
            since: ordered(set).map(|time| self.since(time)).unwrap_or_default(),
            pods: pods.into_iter().map(|pod| (name(pod), self.pod(pod))).collect(),
            ended: ended
                .into_iter()
                .filter_map(|pod| Some((end(pod)?, pod)))
                .max_by_key(|(time, _)| *time)
                .map(|(time, pod)| Ended {
                    pod: name(pod),
                    since: self.since(time),
                    failure: end_of_pod(pod),
                }),
            refused: self.refused(set),
        }
    }

    /// Why the cluster makes no pods for it: a quota, or an admission rule.
    fn refused(&self, set: &ReplicaSet) -> Option<Refusal> {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions
            .iter()
            .find(|found| found.type_ == "ReplicaFailure" && found.status == "True")?;
        let message = failure.message.clone().or_else(|| failure.reason.clone())?;
        let since = failure.last_transition_time.as_ref();
        Some(Refusal { message, since: since.map(|time| self.since(time)).unwrap_or_default() })
    }

    fn pod(&self, pod: &Pod) -> lamplighter_plan::standing::Pod {
        let phase = phase(pod);
        let failure = if phase == PodPhase::Ready { None } else { failure(pod) };
        lamplighter_plan::standing::Pod {
            phase,
            since: changed(pod).map(|time| self.since(time)).unwrap_or_default(),
            failure,
        }
    }
}

/// When we last wrote the number of replicas: the apiserver keeps the time of every manager.
fn ordered(set: &ReplicaSet) -> Option<&Time> {
    set.managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
        .filter_map(|entry| entry.time.as_ref())
        .max()
        .or(set.metadata.creation_timestamp.as_ref())
}

/// When it became ready or not ready; the creation, before a node has it.
fn changed(pod: &Pod) -> Option<&Time> {
    condition(pod, "Ready")
        .and_then(|ready| ready.last_transition_time.as_ref())
        .or(pod.metadata.creation_timestamp.as_ref())
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|found| found.type_ == kind)
}

fn worker(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)
}

fn phase(pod: &Pod) -> PodPhase {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodPhase::Terminating;
    }
    if is_ready(pod) {
        return PodPhase::Ready;
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|found| found.status == "False")
    {
        let reason = scheduled.reason.clone().unwrap_or_default();
        let message = scheduled.message.clone().unwrap_or_default();
        return match reason.as_str() {
            "Unschedulable" => PodPhase::Unschedulable { message },
            _ => PodPhase::Waiting { reason, message },
        };
    }
    let state = worker(pod).and_then(|worker| worker.state.as_ref());
    match state.and_then(|state| state.waiting.as_ref()) {
        Some(waiting) => PodPhase::Waiting {
            reason: waiting.reason.clone().unwrap_or_else(|| "Waiting".to_owned()),
            message: waiting.message.clone().unwrap_or_default(),
        },
        None if state.is_some() => PodPhase::Starting,
        None => PodPhase::Waiting { reason: "Pending".to_owned(), message: String::new() },
    }
}

/// How the container last ended, if that is why it is not ready. A container that passed its gates
/// after it was started again has left its last failure behind.
fn failure(pod: &Pod) -> Option<Failure> {
    let worker = worker(pod)?;
    let state = worker.state.as_ref();
    let ended = |state: Option<&ContainerState>| state?.terminated.clone();
    let running = state.and_then(|state| state.running.as_ref());
    if running.is_some_and(|running| was_ready_since(pod, running.started_at.as_ref())) {
        return None;
    }
    let terminated = ended(state).or_else(|| ended(worker.last_state.as_ref()))?;
    Some(said_at_end(pod, CONTAINER, &terminated))
}

/// The pod was ready in the run that began then: it stopped being so after the beginning.
fn was_ready_since(pod: &Pod, start: Option<&Time>) -> bool {
    let lost = condition(pod, "Ready")
        .filter(|ready| ready.status != "True")
        .and_then(|ready| ready.last_transition_time.as_ref());
    lost.zip(start).is_some_and(|(lost, start)| lost > start)
}

/// Why a container ended, in its own words where it left any.
pub(super) fn said_at_end(
    pod: &Pod,
    container: &str,
    terminated: &ContainerStateTerminated,
) -> Failure {
    let message = terminated.message.as_deref().unwrap_or_default();
    let served = was_ready_since(pod, terminated.started_at.as_ref());
    let (reason, message, class) = if terminated.reason.as_deref() == Some("OOMKilled") {
        let reason = protocol::Reason::OutOfMemory;
        (reason.as_str(), out_of_memory(pod), class(reason, served))
    } else if let Some(said) = protocol::Failure::from_termination_message(message) {
        (said.reason.as_str(), details(&said), class(said.reason, served))
    } else {
        (Reason::ContainerCrashed.as_str(), crashed(terminated, message), FailureClass::Transient)
    };
    Failure { container: Some(container.to_owned()), reason: reason.to_owned(), message, class }
}

/// What does not fit while it loads and warms up never fits. What served did fit, and a request
/// used up the rest.
fn class(reason: protocol::Reason, served: bool) -> FailureClass {
    match reason.class() {
        Class::Deterministic if served && reason == protocol::Reason::OutOfMemory => {
            FailureClass::Transient
        }
        Class::Deterministic => FailureClass::Deterministic,
        Class::Transient => FailureClass::Transient,
        Class::Outside => FailureClass::Outside,
    }
}

/// When a pod ended: the last thing that is known to have happened to it.
pub(super) fn end(pod: &Pod) -> Option<&Time> {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let ended = containers
        .into_iter()
        .flatten()
        .filter_map(|found| found.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    conditions
        .filter_map(|found| found.last_transition_time.as_ref())
        .chain(ended)
        .chain(pod.metadata.creation_timestamp.as_ref())
        .max()
}

/// Why a pod ended as a whole. The node or the cluster did that, so another pod may fare better.
pub(super) fn end_of_pod(pod: &Pod) -> Failure {
    let status = pod.status.as_ref();
    let said = status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    Failure {
        container: None,
        reason: as_reason(said).unwrap_or_else(|| Reason::PodFailed.as_str().to_owned()),
        message: status.and_then(|status| status.message.clone()).unwrap_or_default(),
        class: FailureClass::Transient,
    }
}

/// A word of the kubelet's as the reason of a condition, which may hold letters and digits but
/// neither the dots nor the slash of `OutOfnvidia.com/gpu`.
fn as_reason(said: &str) -> Option<String> {
    let word: String = said.chars().filter(char::is_ascii_alphanumeric).collect();
    word.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(word)
}

fn out_of_memory(pod: &Pod) -> String {
    let limit = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.containers.iter().find(|container| container.name == CONTAINER))
        .and_then(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
    match limit {
        Some(limit) => format!(
            "the kernel killed it at its memory limit of {}; raise spec.worker.resources.limits.memory or serve fewer models",
            limit.0
        ),
        None => "the kernel killed it because the node ran out of memory; set spec.worker.resources.requests.memory to what the models need".to_owned(),
    }
}

/// The worker's own words, with the file, and what was expected and found.
fn details(said: &protocol::Failure) -> String {
    let sentence = match &said.model {
        Some(model) => format!("model {model}: {}", said.message),
        None => said.message.clone(),
    };
    let facts = [
        ("file", &said.file),
        ("tensor", &said.tensor),
        ("expected", &said.expected),
        ("found", &said.found),
    ];
    let facts = facts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    std::iter::once(sentence)
        .chain(facts.map(|(name, value)| format!("{name} {value}")))
        .collect::<Vec<_>>()
        .join("; ")
}

fn crashed(terminated: &ContainerStateTerminated, message: &str) -> String {
    let code = terminated.exit_code;
    let how = match terminated.reason.as_deref() {
        None | Some("Error" | "Completed") => format!("exit code {code}"),
        Some(reason) => format!("exit code {code} ({reason})"),
    };
    match tail(message.trim()) {
        "" => how,
        words => format!("{how}; its last words: {words}"),
    }
}

/// The end of a text: a process says last why it ends.
fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MAX_LAST_WORDS);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
