//! Models that are to run on GPUs and cannot be in memory, of the host or of a GPU.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::memory::{Remembered, remembered};
use lamplighter_operator::reconcile::observe::{Ages, world};
use lamplighter_operator::reconcile::validate::validate;
use lamplighter_plan::rollout::Resolved;
use lamplighter_plan::{Failure, FailureClass};
use serde_json::{Value, json};

use crate::cluster::{Cluster, DEPLOYMENT};
use crate::fixtures::{
    NAME, SPEC, deployment_of, from, images, now, on_its_way, record, replica_set, serving,
    with_pods,
};

/// A node that the fixture's pods select, with one GPU of so many MiB.
fn node(name: &str, mebibytes: u64) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": {"disk": "ssd", "nvidia.com/gpu.memory": mebibytes.to_string()},
        },
        "status": {"allocatable": {"nvidia.com/gpu": "1"}},
    })
}

/// What is known of the fixture's models on a GPU, with this memory limit and this large GPUs.
fn resolved(
    memory: &str,
    gpus: &[u64],
    edit: impl FnOnce(&mut Fetched, &mut Remembered),
) -> Resolved {
    let limits = format!("nvidia.com/gpu: \"1\", memory: {memory}");
    let spec = SPEC.replace("device: Cpu", "device: Cuda").replace("memory: 4Gi", &limits);
    let valid = validate(&deployment_of(&spec), &Fetched::default(), &images()).unwrap();
    let mut fetched = with_pods(Vec::new());
    fetched.replica_sets = Vec::new();
    fetched.records = vec![Arc::new(record(&valid, 2))];
    fetched.nodes = gpus.iter().map(|gpu| Arc::new(from(node("a", *gpu)))).collect();
    let mut remembered = remembered(Some(&on_its_way()), now());
    edit(&mut fetched, &mut remembered);
    let world = world(&valid, &remembered, BTreeMap::new(), &fetched, &Ages::at(now()));
    world.revisions[&valid.wanted.revision].resolved.clone()
}

fn refusal(resolved: Resolved) -> Option<Failure> {
    match resolved {
        Resolved::Failed(failure, _) => Some(failure),
        _ => None,
    }
}

/// Guarantees: capacity-06.
#[test]
fn the_host_holds_the_largest_model_until_it_is_on_the_gpu() {
    // Two models of 22,713,216 numbers, one after the other: 86.6 MiB, and 4 MiB for the worker.
    let refused = |memory| refusal(resolved(memory, &[], |_, _| {}));
    assert_eq!(refused("91Mi"), None);
    let failure = refused("80Mi").expect("refused");
    assert_eq!(failure.reason, "HostMemoryExceeded");
    assert_eq!(failure.class, FailureClass::Deterministic);
    for said in ["90.6 MiB of 80 MiB usable", "limits.memory"] {
        assert!(failure.message.contains(said), "{said}: {}", failure.message);
    }
}

/// Guarantees: capacity-06.
#[test]
fn models_that_no_gpu_can_hold_are_refused_before_there_is_a_pod() {
    // All models are on the GPU at the same time: 173.2 MiB.
    let unchanged = |_: &mut Fetched, _: &mut Remembered| {};
    for fitting in [&[][..], &[174], &[100, 174]] {
        assert_eq!(refusal(resolved("4Gi", fitting, unchanged)), None, "{fitting:?}");
    }
    let failure = refusal(resolved("4Gi", &[100, 150], unchanged)).expect("refused");
    assert_eq!(failure.reason, "DeviceMemoryExceeded");
    assert!(failure.message.contains("173.2 MiB of 150 MiB"), "{}", failure.message);

    let with_pods = |fetched: &mut Fetched, _: &mut Remembered| {
        let id = fetched.records[0].metadata.labels.as_ref().unwrap()["lamplighter.dev/revision"]
            .clone();
        fetched.replica_sets = vec![Arc::new(replica_set(&id, 2))];
    };
    assert_eq!(refusal(resolved("4Gi", &[150], with_pods)), None, "the scheduler judges its pods");
    let other = |fetched: &mut Fetched, _: &mut Remembered| {
        fetched.replica_sets = vec![Arc::new(replica_set("00000000aa", 2))];
    };
    assert!(refusal(resolved("4Gi", &[150], other)).is_some());
    let served = |fetched: &mut Fetched, remembered: &mut Remembered| {
        let id = fetched.records[0].metadata.labels.as_ref().unwrap()["lamplighter.dev/revision"]
            .clone();
        *remembered = crate::fitting::remembered(Some(&serving(&id)), now());
    };
    assert_eq!(refusal(resolved("4Gi", &[150], served)), None, "it has shown that it can");
}

/// Guarantees: capacity-06.
#[tokio::test]
async fn a_larger_gpu_is_found_at_the_next_attempt_without_anybody_asking() {
    let mut cluster = Cluster::new();
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["worker"]["device"] = json!("Cuda");
        deployment["spec"]["worker"]["resources"]["limits"]["nvidia.com/gpu"] = json!("1");
    });
    cluster.server.put("/api/v1/nodes/small", node("small", 150));
    cluster.settle().await;
    for attempts in 1..4 {
        assert_eq!(cluster.condition("Ready")["reason"], "DeviceMemoryExceeded");
        let status = cluster.server.get(DEPLOYMENT).unwrap()["status"].clone();
        assert_eq!(status["failedRevisions"][0]["attempts"], attempts);
        assert_eq!(cluster.server.all("replicasets"), [Value::Null; 0]);
        cluster.wait(3600);
        let asked = cluster.settle().await;
        let is_read = asked.iter().any(|asked| asked.path.contains("/pods/"));
        assert!(!is_read, "what is known is not read again: {asked:?}");
    }
    cluster.server.put("/api/v1/nodes/large", node("large", 40_960));
    cluster.wait(3600);
    cluster.settle().await;
    assert_eq!(cluster.server.all("replicasets").len(), 1);
    assert_eq!(cluster.condition("Available")["status"], "True");
}

/// What its sources are stands in another record, too, so that there is nothing to read.
#[tokio::test]
async fn a_refused_revision_that_is_asked_for_again_is_refused_again_and_not_read_for_ever() {
    let mut cluster = Cluster::complete().await;
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["worker"]["resources"]["limits"]["memory"] = json!("64Mi");
        deployment["metadata"]["generation"] = json!(4);
    });
    cluster.settle().await;
    let failed = || cluster.server.get(DEPLOYMENT).unwrap()["status"]["failedRevisions"][0].clone();
    let refused = failed();
    assert_eq!(refused["reason"], "HostMemoryExceeded");
    cluster.wait(60);
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["metadata"]["annotations"]["lamplighter.dev/retry"] =
            refused["revision"].clone();
    });
    cluster.settle().await;
    cluster.wait(1);
    cluster.settle().await;
    let again = cluster.server.get(DEPLOYMENT).unwrap()["status"]["failedRevisions"][0].clone();
    assert_ne!(again["time"], refused["time"]);
    assert_eq!((&again["reason"], &again["attempts"]), (&json!("HostMemoryExceeded"), &json!(1)));
    assert_ne!(again["released"], true);
    let name = format!("{NAME}-{}", refused["revision"].as_str().unwrap());
    let sets = cluster.server.all("replicasets");
    assert!(sets.iter().all(|set| set["metadata"]["name"] != name), "{sets:?}");
}
