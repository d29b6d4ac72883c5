//! Whether the models of a revision can be in memory, before a pod is made for them.
//!
//! What is refused here could not have run. On the processor, the need is a lower bound from what the
//! models are; where pods serve that differ in nothing that memory depends on, it is what they
//! measured. On a GPU, the host's memory has to do for the weights of one model at a time, and the
//! GPU's for those of all: see `device`.

mod device;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ResourceRequirements;
use lamplighter_api::{Device, ModelDeployment, WorkerSpec};
use lamplighter_plan::{Failure, FailureClass, RevisionId};
use lamplighter_protocol::{self as protocol, ResolveRecord, bytes_in_words, memory};

use super::fetch::Fetched;
use super::observe::revision_of;
use super::resolving;
use super::revision::Snapshot;
use crate::quantity;

/// What pods of a revision had in memory until they were ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Measured {
    /// The revision.
    pub revision: RevisionId,
    /// Bytes of one pod.
    pub bytes: u64,
}

impl Measured {
    /// What the status says of the revision that serves.
    pub fn of(deployment: &ModelDeployment) -> Option<Self> {
        let active = deployment.status.as_ref()?.active.as_ref()?;
        let bytes = quantity::whole(active.memory.as_deref()?)?;
        Some(Self { revision: RevisionId::new(active.revision.clone()), bytes })
    }
}

/// Why the models of a recorded revision cannot fit into its pods.
pub fn misfit(
    record: &ControllerRevision,
    records: &[ResolveRecord],
    fetched: &Fetched,
) -> Option<Failure> {
    let snapshot = Snapshot::from_record(record)?;
    let worker = snapshot.worker().ok()?;
    match worker.effective_device() {
        Device::Cpu => on_processor(&snapshot, &worker, records, fetched),
        Device::Cuda => on_the_way_to_gpu(&worker, records).or_else(|| {
            // Whoever has pods has been judged. Nodes come and go, and the scheduler judges anew.
            let own = revision_of(record);
            let has_pods = fetched
                .replica_sets
                .iter()
                .any(|set| own.is_some() && revision_of(set.as_ref()) == own);
            if has_pods { None } else { device::misfit(&worker, records, &fetched.nodes) }
        }),
    }
}

fn on_processor(
    snapshot: &Snapshot,
    worker: &WorkerSpec,
    records: &[ResolveRecord],
    fetched: &Fetched,
) -> Option<Failure> {
    let usable = quantity::whole(limit(worker, "memory")?)?;
    let estimate = memory::at_least(records);
    let measured = measured(snapshot, worker, records, fetched).filter(|&found| found > estimate);
    let need = measured.unwrap_or(estimate);
    if need <= usable {
        return None;
    }
    let weights = records.iter().map(|record| record.parameters.saturating_mul(4));
    let weights = weights.fold(0, u64::saturating_add);
    let how = match measured {
        Some(_) => "as was measured in the pods that serve the same models".to_owned(),
        None => format!(
            "{} for the weights as they run, the rest for a largest batch of each and the worker itself",
            bytes_in_words(weights)
        ),
    };
    let (needed, there) = apart(need, usable);
    Some(exceeded(format!(
        "a pod needs {needed} of {there} usable, {how}; raise \
         spec.worker.resources.limits.memory, or serve the models from several ModelDeployments"
    )))
}

/// Each model's weights are read into the host's memory before they are on the GPU.
fn on_the_way_to_gpu(worker: &WorkerSpec, records: &[ResolveRecord]) -> Option<Failure> {
    let usable = quantity::whole(limit(worker, "memory")?)?;
    let need = memory::to_bring_to_device(records);
    if need <= usable {
        return None;
    }
    let largest = records.iter().max_by_key(|record| record.parameters)?;
    let (needed, there) = apart(need, usable);
    Some(exceeded(format!(
        "a pod needs {needed} of {there} usable in the host's memory, for the weights of {} until \
         they are on the GPU and for the worker itself; raise spec.worker.resources.limits.memory",
        largest.model
    )))
}

fn exceeded(message: String) -> Failure {
    Failure {
        container: None,
        reason: protocol::Reason::HostMemoryExceeded.as_str().to_owned(),
        message,
        class: FailureClass::Deterministic,
    }
}

/// In words; in bytes where the words would be the same.
fn apart(need: u64, usable: u64) -> (String, String) {
    let words = (bytes_in_words(need), bytes_in_words(usable));
    if words.0 == words.1 { (format!("{need} B"), format!("{usable} B")) } else { words }
}

/// What pods measured that differ in nothing that memory depends on.
fn measured(
    snapshot: &Snapshot,
    worker: &WorkerSpec,
    records: &[ResolveRecord],
    fetched: &Fetched,
) -> Option<u64> {
    let Measured { revision, bytes } = fetched.measured.as_ref()?;
    let mut others = fetched.records.iter();
    let other = others.find(|other| revision_of(other.as_ref()).as_ref() == Some(revision))?;
    let serving = Snapshot::from_record(other)?;
    let pods = serving.worker().ok()?;
    let digests = |records: &[ResolveRecord]| -> Vec<String> {
        let mut digests: Vec<_> = records.iter().map(|record| record.digest.clone()).collect();
        digests.sort_unstable();
        digests
    };
    let is_same = serving.image() == snapshot.image()
        && pods.env == worker.env
        && pods.env_from == worker.env_from
        // A start that finds its models in a cache takes less than one that downloads them.
        && pods.cache.is_none()
        && worker.cache.is_none()
        && pods.effective_device() == worker.effective_device()
        // Without a limit, the node's cores decide how much runs at a time.
        && limit(worker, "cpu").is_some_and(|cpu| limit(&pods, "cpu") == Some(cpu))
        && digests(&resolving::kept(other)?) == digests(records);
    is_same.then_some(*bytes)
}

fn limit<'a>(worker: &'a WorkerSpec, resource: &str) -> Option<&'a str> {
    let ResourceRequirements { limits, .. } = worker.resources.as_ref()?;
    limits.as_ref()?.get(resource).map(|quantity| quantity.0.as_str())
}
