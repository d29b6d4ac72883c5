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
use lamplighter_plan::{
    Failure, FailureClass, Goal, PodName, PodPhase, Revision, RevisionId, Seconds, Workload, World,
};
use lamplighter_protocol::{self as protocol, Class};

use super::fetch::Fetched;
use super::validate::Valid;

/// The container that serves; the only one of the pod.
pub const CONTAINER: &str = "worker";

/// Longest part of a container's last words that is repeated in a message, in bytes.
const MAX_LAST_WORDS: usize = 512;

/// The world, as it is known now.
pub fn observe(valid: &Valid, settled: Option<&str>, fetched: &Fetched, now: Timestamp) -> World {
    let deadline = Seconds(valid.progress_deadline_seconds);
    let ages = Ages { now, most: Seconds(deadline.0.saturating_add(1)) };
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
    World {
        goal: Goal { revision: valid.revision.clone(), replicas: valid.replicas },
        deleting: false,
        deadline,
        settled: settled.map(RevisionId::new),
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

/// Pods that ended and stay as a memory: evicted, or lost with their node. The ReplicaSet has
/// replaced them, so they count as gone.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Turns times into ages. Ages end at the largest that makes a difference, so that worlds which
/// differ only in what is long past are equal.
struct Ages {
    now: Timestamp,
    most: Seconds,
}

impl Ages {
    fn since(&self, time: &Time) -> Seconds {
        let seconds = self.now.as_second().saturating_sub(time.0.as_second());
        Seconds(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)).min(self.most)
    }

    fn workload(&self, set: &ReplicaSet, fetched: &Fetched) -> Workload {
        let uid = set.uid().unwrap_or_default();
        let pods = fetched
            .pods
            .iter()
            .filter(|pod| super::ownership::is_controlled_by(pod.meta(), &uid) && !has_ended(pod))
            .map(|pod| (PodName::new(pod.name_any()), self.pod(pod)))
            .collect();
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        Workload {
            replicas: u32::try_from(replicas).unwrap_or_default(),
            since: ordered(set).map(|time| self.since(time)).unwrap_or_default(),
            pods,
            refused: refused(set),
        }
    }

    fn pod(&self, pod: &Pod) -> lamplighter_plan::Pod {
        let phase = phase(pod);
        let failure = if phase == PodPhase::Ready { None } else { failure(pod) };
        lamplighter_plan::Pod {
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

/// Why the cluster makes no pods for it: a quota, or an admission rule.
fn refused(set: &ReplicaSet) -> Option<String> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|found| found.type_ == "ReplicaFailure" && found.status == "True")?;
    failure.message.clone().or_else(|| failure.reason.clone())
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

/// How the container last ended, if it ended at all.
fn failure(pod: &Pod) -> Option<Failure> {
    let worker = worker(pod)?;
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let terminated = ended(&worker.state).or_else(|| ended(&worker.last_state))?;
    Some(typed(pod, &terminated))
}

fn typed(pod: &Pod, terminated: &ContainerStateTerminated) -> Failure {
    let message = terminated.message.as_deref().unwrap_or_default();
    let (reason, message, class) = if terminated.reason.as_deref() == Some("OOMKilled") {
        let reason = protocol::Reason::OutOfMemory;
        (reason.as_str(), out_of_memory(pod), class(reason))
    } else if let Some(said) = protocol::Failure::from_termination_message(message) {
        (said.reason.as_str(), details(&said), class(said.reason))
    } else {
        (Reason::ContainerCrashed.as_str(), crashed(terminated, message), FailureClass::Transient)
    };
    Failure { container: CONTAINER.to_owned(), reason: reason.to_owned(), message, class }
}

fn class(reason: protocol::Reason) -> FailureClass {
    match reason.class() {
        Class::Deterministic => FailureClass::Deterministic,
        Class::Transient => FailureClass::Transient,
    }
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
