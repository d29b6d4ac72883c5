//! Whether the models of a revision can be in the memory of one GPU, by what nodes say of theirs.
//!
//! A worker uses the first GPU that it sees, so the memory of one counts. How much that is, NVIDIA's
//! GPU feature discovery writes on the node
//! (<https://github.com/NVIDIA/k8s-device-plugin/blob/main/docs/gpu-feature-discovery/README.md>).

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use lamplighter_api::WorkerSpec;
use lamplighter_plan::{Failure, FailureClass};
use lamplighter_protocol::{Reason, ResolveRecord, memory};

use super::apart;
use crate::quantity;

/// The largest GPU on which pods may run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Largest {
    /// Its memory, in bytes.
    bytes: u64,
    /// How many nodes were compared.
    nodes: usize,
}

/// Why the models cannot be in the memory of any GPU on which the pods may run.
pub(super) fn misfit(
    worker: &WorkerSpec,
    records: &[ResolveRecord],
    nodes: &[Arc<Node>],
) -> Option<Failure> {
    let resource = only_resource(worker)?;
    let Largest { bytes, nodes } = largest(worker, resource, nodes)?;
    let need = memory::on_device(records);
    if need <= bytes {
        return None;
    }
    let (needed, there) = apart(need, bytes);
    let nodes = match nodes {
        1 => "the only node".to_owned(),
        many => format!("{many} nodes"),
    };
    let selected =
        if worker.node_selector.is_empty() { "" } else { " that spec.worker.nodeSelector selects" };
    Some(Failure {
        container: None,
        reason: Reason::DeviceMemoryExceeded.as_str().to_owned(),
        message: format!(
            "a pod needs {needed} of {there} usable on the largest GPU among {nodes} with \
             {resource}{selected}, for the weights as they run; add a node with a larger GPU, name \
             the labels of nodes that are made on demand in spec.worker.nodeSelector, or serve the \
             models from several ModelDeployments"
        ),
        class: FailureClass::Outside,
    })
}

/// The kind of GPU that the pods ask for. None where there are several: which of them a worker
/// sees first is not known.
fn only_resource(worker: &WorkerSpec) -> Option<&str> {
    let asked = worker.gpus().filter(|(_, quantity)| quantity::whole(&quantity.0) != Some(0));
    let names: BTreeSet<&str> = asked.map(|(name, _)| name).collect();
    names.first().copied().filter(|_| names.len() == 1)
}

/// The largest among the GPUs of the nodes that the pods may run on and that have some. None where
/// there is no such node, because it may be made on demand, and where one does not say how large
/// its GPUs are.
///
/// What else keeps pods from a node, affinity and taints, is left out: the largest is then larger
/// than it should be, and nothing is refused that could run.
fn largest(worker: &WorkerSpec, resource: &str, nodes: &[Arc<Node>]) -> Option<Largest> {
    let is_selected = |node: &&Arc<Node>| {
        worker.node_selector.iter().all(|(key, value)| node.labels().get(key) == Some(value))
    };
    let has_some = |node: &&Arc<Node>| {
        let there =
            node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get(resource));
        there.and_then(|there| quantity::whole(&there.0)).is_some_and(|count| count > 0)
    };
    let sizes: Vec<u64> = nodes
        .iter()
        .filter(is_selected)
        .filter(has_some)
        .map(|node| memory(node, resource))
        .collect::<Option<_>>()?;
    Some(Largest { bytes: sizes.iter().copied().max()?, nodes: sizes.len() })
}

/// Bytes of one GPU of a node, as its label says in MiB.
fn memory(node: &Node, resource: &str) -> Option<u64> {
    // Those that are shared are as large as those that are not.
    let kind = resource.strip_suffix(".shared").unwrap_or(resource);
    let mebibytes: u64 = node.labels().get(&format!("{kind}.memory"))?.parse().ok()?;
    mebibytes.checked_mul(1 << 20).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
