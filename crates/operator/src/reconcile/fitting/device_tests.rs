use serde_json::{Value, json};

use super::*;

const GIB: u64 = 1 << 30;

/// A node with these labels and this much that pods can ask for.
fn node(labels: &Value, allocatable: &Value) -> Arc<Node> {
    let node = json!({"metadata": {"labels": labels}, "status": {"allocatable": allocatable}});
    Arc::new(serde_json::from_value(node).unwrap())
}

/// A node with whole GPUs whose label says so much.
fn with_gpus(label: &str) -> Arc<Node> {
    node(&json!({"nvidia.com/gpu.memory": label, "zone": "a"}), &json!({"nvidia.com/gpu": "2"}))
}

fn worker(limits: &Value, selector: &Value) -> WorkerSpec {
    let worker = json!({"resources": {"limits": limits}, "nodeSelector": selector});
    serde_json::from_value(worker).unwrap()
}

fn found(worker: &WorkerSpec, nodes: &[Arc<Node>]) -> Option<(u64, usize)> {
    let largest = largest(worker, only_resource(worker)?, nodes)?;
    Some((largest.bytes, largest.nodes))
}

#[test]
fn the_largest_gpu_among_the_nodes_that_count_is_found() {
    let whole = worker(&json!({"nvidia.com/gpu": 1}), &json!({}));
    let nodes = |labels: &[&str]| labels.iter().map(|label| with_gpus(label)).collect::<Vec<_>>();
    for (labels, expected) in [
        (&[][..], None),
        (&["16384"][..], Some((16 * GIB, 1))),
        (&["16384", "81920", "24576"], Some((80 * GIB, 3))),
        (&["16384", "0"], None),
        (&["16384", "large"], None),
        (&["16384", "-1"], None),
        (&["18446744073709551615"], None),
    ] {
        assert_eq!(found(&whole, &nodes(labels)), expected, "{labels:?}");
    }

    let unlabelled = node(&json!({}), &json!({"nvidia.com/gpu": "1"}));
    assert_eq!(found(&whole, &[with_gpus("16384"), unlabelled]), None, "it may be any size");
    let gpu = json!({"nvidia.com/gpu.memory": "81920"});
    for without in [json!({}), json!({"nvidia.com/gpu": "0"}), json!({"nvidia.com/gpu": "?"})] {
        let nodes = [with_gpus("16384"), node(&gpu, &without)];
        assert_eq!(found(&whole, &nodes), Some((16 * GIB, 1)), "{without}");
    }
    let nodes = [with_gpus("16384"), Arc::new(Node::default())];
    assert_eq!(found(&whole, &nodes), Some((16 * GIB, 1)));
}

#[test]
fn a_node_that_the_selector_leaves_out_does_not_count() {
    let in_zone = |zone: &str| worker(&json!({"nvidia.com/gpu": 1}), &json!({"zone": zone}));
    let elsewhere = node(
        &json!({"nvidia.com/gpu.memory": "81920", "zone": "b"}),
        &json!({"nvidia.com/gpu": "1"}),
    );
    let nodes = [with_gpus("16384"), elsewhere];
    assert_eq!(found(&in_zone("a"), &nodes), Some((16 * GIB, 1)));
    assert_eq!(found(&in_zone("b"), &nodes), Some((80 * GIB, 1)));
    assert_eq!(found(&in_zone("c"), &nodes), None, "it may be made on demand");
}

#[test]
fn each_kind_of_gpu_has_a_label_of_its_own() {
    let labels = json!({
        "nvidia.com/gpu.memory": "40960",
        "nvidia.com/mig-3g.20gb.memory": "20480",
        "nvidia.com/mig-1g.5gb.memory": "5120",
    });
    let kinds = ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-3g.20gb"];
    let allocatable: Value = kinds.iter().map(|kind| ((*kind).to_owned(), json!("1"))).collect();
    let nodes = [node(&labels, &allocatable)];
    for (limits, expected) in [
        (json!({"nvidia.com/gpu": 1}), Some((40 * GIB, 1))),
        (json!({"nvidia.com/gpu.shared": 1}), Some((40 * GIB, 1))),
        (json!({"nvidia.com/mig-3g.20gb": 1}), Some((20 * GIB, 1))),
        (json!({"nvidia.com/mig-1g.5gb": 1}), None),
        (json!({"nvidia.com/gpu": 1, "nvidia.com/mig-3g.20gb": 1}), None),
        (json!({"nvidia.com/gpu": 0, "nvidia.com/mig-3g.20gb": 1}), Some((20 * GIB, 1))),
        (json!({"nvidia.com/pgpu": 1}), None),
        (json!({"memory": "4Gi"}), None),
    ] {
        assert_eq!(found(&worker(&limits, &json!({})), &nodes), expected, "{limits}");
    }
}

/// Guarantees: capacity-06.
#[test]
fn models_that_no_gpu_can_hold_are_refused_with_both_numbers() {
    let record = |parameters: u64, memory: u64| -> ResolveRecord {
        serde_json::from_value(json!({
            "model": "m:1", "task": "Embedding", "architecture": "BertModel", "layers": 1,
            "hidden": 1, "vocabulary": 1, "dimensions": 1, "dtype": "F16", "bytes": 1,
            "parameters": parameters, "memory": memory,
            "tokenizerDigest": "", "digest": "", "pin": "",
        }))
        .unwrap()
    };
    let worker = worker(&json!({"nvidia.com/gpu": 1}), &json!({"zone": "a"}));
    let nodes = [with_gpus("8192"), with_gpus("16384")];
    let refused = |records: &[ResolveRecord]| misfit(&worker, records, &nodes);
    // 12 GiB of weights in 32-bit floats each, and a batch beside them.
    let half = record(3 * GIB, 13 * GIB);
    assert_eq!(refused(std::slice::from_ref(&half)), None);
    assert_eq!(refused(&[record(4 * GIB, 17 * GIB)]), None, "it fits to the last byte");
    let Failure { reason, message, class, .. } = refused(&[half.clone(), half]).unwrap();
    assert_eq!((reason.as_str(), class), ("DeviceMemoryExceeded", FailureClass::Outside));
    for said in ["24 GiB of 16 GiB usable", "2 nodes with nvidia.com/gpu", "nodeSelector selects"] {
        assert!(message.contains(said), "{said}: {message}");
    }
    // A head that is stored and not run does not count, nor does what is not known.
    assert_eq!(refused(&[record(8 * GIB, 15 * GIB)]), None);
    assert_eq!(refused(&[record(8 * GIB, 0)]), None);
}
