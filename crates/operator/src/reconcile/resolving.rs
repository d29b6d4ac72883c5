//! What the models of a revision are, before anything is touched for them: read by a short-lived
//! pod without a device, kept in an annotation of the revision's record.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;
use lamplighter_api::names;
use lamplighter_plan::rollout::strategy::{Described, Facts, ModelFacts};
use lamplighter_plan::rollout::{Class, Memory, Phase, Resolved};
use lamplighter_plan::{Failure, FailureClass, RevisionId, Seconds};
use lamplighter_protocol as protocol;
use lamplighter_protocol::ResolveRecord;

use super::fetch::Fetched;
use super::fitting::misfit;
use super::observe::{Ages, end, end_of_pod, reader_held_up, revision_of, said_at_end};
use super::render::{Digests, Pinned};
use super::revision::Snapshot;
use super::validate::Valid;

/// What is known about the models of a recorded revision. `limit`: how long reading them may take.
pub fn resolved(
    record: &ControllerRevision,
    memory: &Memory,
    fetched: &Fetched,
    ages: &Ages,
    limit: Seconds,
) -> Resolved {
    let pod = revision_of(record).and_then(|id| resolver(fetched, &id));
    if let Some(records) = recorded(record, fetched) {
        return known(record, &records, memory, fetched);
    }
    let Some(pod) = pod else { return Resolved::Unknown };
    match outcome(pod) {
        None => {
            let created = pod.metadata.creation_timestamp.as_ref();
            let age = created.map(|time| ages.since(time)).unwrap_or_default();
            let late = age > limit;
            match reader_held_up(pod).filter(|_| late) {
                Some(why) => Resolved::Failed(why, age.minus(limit)),
                None => Resolved::Running(age),
            }
        }
        Some(found) => {
            let since = || end(pod).map(|time| ages.since(time)).unwrap_or_default();
            match found {
                Ok(records) => known(record, &records, memory, fetched),
                Err(failure) => Resolved::Failed(failure, since()),
            }
        }
    }
}

/// What was found out, unless it contradicts what is served or cannot be in memory. That is judged
/// anew each time, so it is found just now, however old what was read is: who waits to try again
/// learns whether it holds. A revision that served has shown that it can.
fn known(
    record: &ControllerRevision,
    records: &[ResolveRecord],
    memory: &Memory,
    fetched: &Fetched,
) -> Resolved {
    if served(memory, record) {
        return Resolved::Known(facts(records));
    }
    let unfit = || misfit(record, records, fetched);
    match contradiction(records, memory, fetched).or_else(unfit) {
        Some(failure) => Resolved::Failed(failure, Seconds(0)),
        None => Resolved::Known(facts(records)),
    }
}

/// A model whose bytes are others than those that were served under its name and version. Whoever
/// relies on the answers of a version has to be able to rely on its bytes.
fn contradiction(records: &[ResolveRecord], memory: &Memory, fetched: &Fetched) -> Option<Failure> {
    let others = fetched.records.iter().filter(|other| served(memory, other));
    let others = others.filter_map(|other| Some((revision_of(other.as_ref())?, kept(other)?)));
    others.into_iter().find_map(|(id, others)| {
        let differs = |new: &&ResolveRecord| {
            others.iter().any(|old| old.model == new.model && old.digest != new.digest)
        };
        let new = records.iter().find(differs)?;
        let old = others.iter().find(|old| old.model == new.model)?;
        Some(Failure {
            container: None,
            reason: protocol::Reason::DigestMismatch.as_str().to_owned(),
            message: format!(
                "{} is {} now, and was served as {} by revision {id}: a version that served never \
                 changes its bytes; give the new ones a new version",
                new.model, new.digest, old.digest
            ),
            class: FailureClass::Deterministic,
        })
    })
}

/// Whether a revision serves, or ever did: what is known to be good is soon forgotten, and what
/// failed while it served never is, so the record says it, too.
fn served(memory: &Memory, record: &ControllerRevision) -> bool {
    is_marked(record) || revision_of(record).is_some_and(|id| serves(memory, &id))
}

fn is_marked(record: &ControllerRevision) -> bool {
    record.annotations().contains_key(names::ANNOTATION_SERVED)
}

/// Whether requests are sent to a revision, or were and the memory still tells.
fn serves(memory: &Memory, revision: &RevisionId) -> bool {
    let switched = match &memory.phase {
        // The mark is there before the switch.
        Phase::CuttingOver(rollout, _)
        | Phase::Shedding(rollout, _)
        | Phase::Baking(rollout, _)
        | Phase::Reverting(rollout, _)
        | Phase::Clearing(rollout, _) => Some(&rollout.to),
        Phase::Stable | Phase::Gating(..) | Phase::AwaitingPromotion(..) | Phase::Rolling(_) => {
            None
        }
    };
    memory.known_good.contains(revision)
        || [memory.active.as_ref(), switched]
            .into_iter()
            .flatten()
            .any(|placed| placed.revision == *revision)
}

/// Records whose revisions serve, and that do not say so yet.
pub fn unmarked(memory: &Memory, fetched: &Fetched) -> Vec<Arc<ControllerRevision>> {
    let is_unmarked = |record: &&Arc<ControllerRevision>| {
        !is_marked(record) && revision_of(record.as_ref()).is_some_and(|id| serves(memory, &id))
    };
    fetched.records.iter().filter(is_unmarked).cloned().collect()
}

/// Whether what was read for a revision is worth nothing any more: it failed by itself and never
/// served. Whoever asks for another attempt may have put the files right.
fn is_void(memory: &Memory, record: &ControllerRevision) -> bool {
    let failed = revision_of(record).and_then(|id| memory.failed.get(&id));
    failed.is_some_and(|failed| failed.class == Class::Deterministic && !failed.released)
        && !served(memory, record)
}

/// Records whose annotation is to go, because it is worth nothing any more.
pub fn voided(memory: &Memory, fetched: &Fetched) -> Vec<Arc<ControllerRevision>> {
    let is_voided = |record: &&Arc<ControllerRevision>| {
        record.annotations().contains_key(names::ANNOTATION_RESOLVED) && is_void(memory, record)
    };
    fetched.records.iter().filter(is_voided).cloned().collect()
}

/// The pod that reads what the models of a revision are.
pub fn resolver<'a>(fetched: &'a Fetched, revision: &RevisionId) -> Option<&'a Arc<Pod>> {
    fetched.resolvers.iter().find(|pod| revision_of(pod.as_ref()).as_ref() == Some(revision))
}

/// What the pods found out and is not in the records yet, as the value of the annotation.
pub fn learned(memory: &Memory, fetched: &Fetched) -> Vec<(Arc<ControllerRevision>, String)> {
    let new = |record: &Arc<ControllerRevision>| {
        if is_void(memory, record) || kept(record).is_some() {
            return None;
        }
        let read = || outcome(resolver(fetched, &revision_of(record.as_ref())?)?)?.ok();
        let records = borrowed(record, fetched).or_else(read)?;
        Some((record.clone(), serde_json::to_string(&records).ok()?))
    };
    fetched.records.iter().filter_map(new).collect()
}

/// Pods that nobody waits for: what they were to find out is recorded, or their revision is not
/// wanted any more, or they did not get ready in time and that was remembered.
pub fn obsolete(valid: &Valid, memory: &Memory, fetched: &Fetched, ages: &Ages) -> Vec<Arc<Pod>> {
    let is_recorded = |id: &RevisionId| {
        let mut records = fetched.records.iter();
        records.any(|record| {
            revision_of(record.as_ref()).as_ref() == Some(id) && kept(record).is_some()
        })
    };
    let is_wanted = |id: &RevisionId| {
        *id == valid.wanted.revision
            || memory.pin.as_ref().is_some_and(|pin| pin.revision == *id)
            || memory.rollout().is_some_and(|rollout| rollout.to.revision == *id)
            || memory.known_good.contains(id)
    };
    let is_late = |id: &RevisionId, pod: &Pod| {
        let created = pod.metadata.creation_timestamp.as_ref();
        let age = created.map(|time| ages.since(time)).unwrap_or_default();
        age > valid.policy.progress && outcome(pod).is_none() && memory.failed.contains_key(id)
    };
    fetched
        .resolvers
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| {
            revision_of(pod.as_ref())
                .is_none_or(|id| is_recorded(&id) || !is_wanted(&id) || is_late(&id, pod))
        })
        .cloned()
        .collect()
}

/// Why the models of a revision are not being read although a pod is there for it.
pub fn held_up(fetched: &Fetched, revision: &RevisionId) -> Option<Failure> {
    let pod = resolver(fetched, revision).filter(|pod| outcome(pod).is_none())?;
    reader_held_up(pod)
}

/// Whether a pod has found out, or has found out that it cannot.
pub fn has_finished(pod: &Pod) -> bool {
    outcome(pod).is_some()
}

/// What is written down about the models of a revision: in its record, or in another one's with
/// the same sources.
fn recorded(record: &ControllerRevision, fetched: &Fetched) -> Option<Vec<ResolveRecord>> {
    kept(record).or_else(|| borrowed(record, fetched))
}

/// Whether what the models of a revision are is written down: then nobody has to read it.
pub fn is_recorded(fetched: &Fetched, revision: &RevisionId) -> bool {
    let mut records = fetched.records.iter();
    let record = records.find(|record| revision_of(record.as_ref()).as_ref() == Some(revision));
    record.is_some_and(|record| recorded(record, fetched).is_some())
}

/// What the models of a revision were when they were resolved.
pub fn digests(fetched: &Fetched, revision: &RevisionId) -> Digests {
    let mut records = fetched.records.iter();
    let record = records.find(|record| revision_of(record.as_ref()).as_ref() == Some(revision));
    let known = record.and_then(|record| {
        let read = || outcome(resolver(fetched, revision)?)?.ok();
        recorded(record, fetched).or_else(read)
    });
    let pinned = |record: ResolveRecord| {
        let ResolveRecord { model, digest, commit, .. } = record;
        (model, Pinned { digest, commit })
    };
    known.into_iter().flatten().map(pinned).collect()
}

/// What the record says.
pub fn kept(record: &ControllerRevision) -> Option<Vec<ResolveRecord>> {
    let text = record.annotations().get(names::ANNOTATION_RESOLVED)?;
    serde_json::from_str(text).ok()
}

/// What another record says about the same sources. So a change of anything else never reads an
/// artifact again, and a reference that moves means for both what it meant for the first.
fn borrowed(record: &ControllerRevision, fetched: &Fetched) -> Option<Vec<ResolveRecord>> {
    let sources = Snapshot::from_record(record)?.sources();
    let same = |other: &&Arc<ControllerRevision>| {
        Snapshot::from_record(other).is_some_and(|other| other.sources() == sources)
    };
    fetched.records.iter().filter(same).find_map(|other| kept(other))
}

/// What the pod's containers said, all of them; None while one has not ended.
fn outcome(pod: &Pod) -> Option<Result<Vec<ResolveRecord>, Failure>> {
    let status = pod.status.as_ref()?;
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let ended: Vec<(&str, &ContainerStateTerminated)> = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|found| Some((found.name.as_str(), found.state.as_ref()?.terminated.as_ref()?)))
        .collect();
    if let Some(failure) = ended.iter().find_map(|(name, ended)| failed(pod, name, ended)) {
        return Some(Err(failure));
    }
    match status.phase.as_deref() {
        // Evicted, or not started in time: the pod as a whole.
        Some("Failed") => Some(Err(end_of_pod(pod))),
        Some("Succeeded") if ended.len() == containers => {
            Some(ended.iter().map(|(name, ended)| record(name, ended)).collect())
        }
        _ => None,
    }
}

fn failed(pod: &Pod, container: &str, ended: &ContainerStateTerminated) -> Option<Failure> {
    (ended.exit_code != 0).then(|| said_at_end(pod, container, ended))
}

fn record(container: &str, ended: &ContainerStateTerminated) -> Result<ResolveRecord, Failure> {
    let message = ended.message.as_deref().unwrap_or_default();
    ResolveRecord::from_termination_message(message).map_err(|error| Failure {
        container: Some(container.to_owned()),
        reason: error.as_str().to_owned(),
        message: error.to_string(),
        class: FailureClass::Deterministic,
    })
}

/// In the words of the plan. Of several versions of one model each is a model of its own.
fn facts(records: &[ResolveRecord]) -> Facts {
    let versions = |name: &str| records.iter().filter(|other| other.model.name == name).count();
    let key = |record: &ResolveRecord| match versions(&record.model.name) {
        1 => record.model.name.clone(),
        _ => record.model.to_string(),
    };
    let models: BTreeMap<String, ModelFacts> =
        records.iter().map(|record| (key(record), model(record))).collect();
    Facts(models)
}

fn model(record: &ResolveRecord) -> ModelFacts {
    let described = Described {
        version: &record.model.version,
        task: record.task.as_str(),
        architecture: &record.architecture,
        layers: record.layers,
        hidden: record.hidden,
        vocabulary: record.vocabulary,
        output: record.dimensions,
        pooling: &record.pooling,
        tokenizer: &record.tokenizer_digest,
        bytes: record.bytes,
    };
    described.into()
}
