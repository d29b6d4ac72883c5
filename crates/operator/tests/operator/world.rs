//! The cluster in the words of the rollout: pods, endpoints, epochs, and what models are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod as KubePod;
use lamplighter_api::ConditionType;
use lamplighter_operator::reconcile::apply::Applied;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::fitting::Measured;
use lamplighter_operator::reconcile::memory::{Remembered, remembered};
use lamplighter_operator::reconcile::observe::{Ages, world};
use lamplighter_operator::reconcile::resolving;
use lamplighter_operator::reconcile::validate::{Valid, validate};
use lamplighter_plan::rollout::{Class, Failed, Memory, Pod, Resolved, Stage, World};
use lamplighter_plan::{FailureClass, PodName, RevisionId, Seconds};
use lamplighter_protocol::{Failure, Reason};
use serde_json::{Value, json};

use crate::conditions::{report_on, words};
use crate::fixtures::{
    IMAGE, NAMESPACE, SPEC, UID, ago, controller, deployment, deployment_of, found, from, images,
    in_state, now, on_its_way, pod, ready, record, running, serving, unschedulable, valid, waiting,
    wanted, with_pods,
};

fn seen(fetched: &Fetched) -> World {
    seen_in(fetched, "Gating")
}

fn seen_in(fetched: &Fetched, phase: &str) -> World {
    let mut status = on_its_way();
    phase.clone_into(&mut status.rollout.as_mut().unwrap().phase);
    let remembered = remembered(Some(&status), now());
    world(&valid(), &remembered, BTreeMap::new(), fetched, &Ages::at(now()))
}

fn only(world: &World) -> Pod {
    let workload = world.workload(&RevisionId::new(wanted())).unwrap();
    workload.pods[&PodName::new("worker-a")].clone()
}

fn one(status: &Value) -> Pod {
    only(&seen(&with_pods(vec![pod("worker-a", &wanted(), status)])))
}

#[test]
fn where_a_pod_stands_and_for_how_long() {
    let mut leaving = pod("worker-a", &wanted(), &ready());
    // The apiserver writes the end of the grace period.
    leaving["metadata"]["deletionTimestamp"] = json!(ago(-25));
    leaving["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let left = only(&seen(&with_pods(vec![leaving])));
    assert_eq!((left.stage, left.since), (Stage::Leaving, Seconds(5)));
    let ready = one(&ready());
    assert_eq!((ready.stage, ready.since), (Stage::Ready, Seconds(10)));
    let starting = one(&in_state(&running()));
    assert_eq!((starting.stage, starting.since), (Stage::Starting, Seconds(25)));
    let homeless = one(&unschedulable("0/1 nodes"));
    let words = Stage::Unschedulable("0/1 nodes".to_owned());
    assert_eq!((homeless.stage, homeless.since), (words, Seconds(25)));
}

/// Guarantees: always-08.
#[test]
fn requests_reach_a_pod_whose_address_is_ready_and_one_that_answered() {
    let endpoint = |uid: &str, conditions: Value| json!([{"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": {"uid": uid}}]);
    for (what, endpoints, answered, expected) in [
        ("ready", endpoint("uid-worker-a", json!({"ready": true})), None, true),
        ("not said, which means ready", endpoint("uid-worker-a", json!({})), None, true),
        ("not ready", endpoint("uid-worker-a", json!({"ready": false})), None, false),
        (
            "leaving and still serving",
            endpoint("uid-worker-a", json!({"ready": false, "serving": true, "terminating": true})),
            None,
            false,
        ),
        ("another pod", endpoint("uid-worker-b", json!({"ready": true})), None, false),
        ("nobody", json!([]), None, false),
        ("it answered at the Service", json!([]), Some("uid-worker-a"), true),
    ] {
        let mut fetched = with_pods(vec![pod("worker-a", &wanted(), &ready())]);
        let slice =
            json!({"addressType": "IPv4", "metadata": {"name": "s"}, "endpoints": endpoints});
        fetched.endpoint_slices = vec![Arc::new(from(slice))];
        fetched.answered = answered.map(str::to_owned);
        assert_eq!(only(&seen(&fetched)).routed, expected, "{what}");
    }
}

/// Guarantees: return-03.
#[test]
fn connections_from_before_count_until_the_pod_says_that_it_was_told_and_has_none() {
    let report = |left: Value| {
        json!({
            "podUid": "uid-worker-a", "podName": "worker-a", "revision": wanted(),
            "workerVersion": "0.1.0", "device": "Cpu", "state": "Ready", "uptimeSeconds": 3.0,
            "inFlight": 0, "models": [], "connectionsBeforeShed": left,
        })
    };
    for (what, phase, told, left, expected) in [
        ("not told", "Shedding", false, json!(0), true),
        ("told, and some are left", "Shedding", true, json!(2), true),
        ("told, and none is left", "Shedding", true, json!(0), false),
        ("told, and it does not say", "Clearing", true, Value::Null, true),
        ("nobody waits for it", "Baking", false, json!(2), false),
    ] {
        let mut fetched = with_pods(vec![pod("worker-a", &wanted(), &ready())]);
        fetched.reports = [("worker-a".to_owned(), Ok(from(report(left))))].into();
        if told {
            fetched.told_to_shed = BTreeSet::from(["uid-worker-a".to_owned()]);
        }
        assert_eq!(only(&seen_in(&fetched, phase)).connected, expected, "{what}");
    }
}

#[test]
fn the_traffic_label_is_what_the_service_selects() {
    assert!(one(&ready()).traffic);
    let mut withdrawn = pod("worker-a", &wanted(), &ready());
    withdrawn["metadata"]["labels"]["lamplighter.dev/traffic"] = Value::Null;
    withdrawn["metadata"]["labels"] = json!(
        withdrawn["metadata"]["labels"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| !value.is_null())
            .collect::<BTreeMap<_, _>>()
    );
    assert!(!only(&seen(&with_pods(vec![withdrawn]))).traffic);
}

#[test]
fn what_holds_a_pod_up_is_its_failure_until_it_is_ready() {
    let reason = |status: &Value| one(status).failure.map(|failure| failure.reason);
    let held = in_state(&waiting("ImagePullBackOff", "not found"));
    assert_eq!(reason(&held).as_deref(), Some("ImagePullFailed"));
    let missing = in_state(&waiting("CreateContainerConfigError", "no configmap"));
    assert_eq!(reason(&missing).as_deref(), Some("ConfigMissing"));
    assert_eq!(reason(&in_state(&waiting("ContainerCreating", ""))), None);
    assert_eq!(reason(&ready()), None);
}

/// Guarantees: return-02.
#[test]
fn an_eviction_is_told_by_the_pod_that_took_the_place() {
    let evicted = json!({
        "phase": "Failed", "reason": "Evicted", "message": "disk",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": ago(5)}],
    });
    let pods = vec![
        pod("worker-a", &wanted(), &in_state(&running())),
        pod("worker-0", &wanted(), &evicted),
    ];
    let world = seen(&with_pods(pods));
    let workload = world.workload(&RevisionId::new(wanted())).unwrap();
    assert_eq!(workload.pods.len(), 1, "what ended is no pod");
    let failure = only(&world).failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.class), ("Evicted", FailureClass::Transient));
}

#[test]
fn an_object_of_a_later_epoch_overtakes_the_memory() {
    for (epoch, expected) in [("1", false), ("2", true), ("nonsense", false)] {
        let mut fetched = with_pods(Vec::new());
        let mut set = fetched.replica_sets[0].as_ref().clone();
        let annotation = ("lamplighter.dev/epoch".to_owned(), epoch.to_owned());
        set.metadata.annotations = Some([annotation].into());
        fetched.replica_sets = vec![Arc::new(set)];
        assert_eq!(seen(&fetched).overtaken, expected, "{epoch}");
    }
}

// === what models are ===

fn reader(phase: &str, messages: &[(i32, String)]) -> KubePod {
    let containers: Vec<Value> =
        (0..2).map(|number| json!({"name": format!("model-{number}")})).collect();
    let ended: Vec<Value> = messages
        .iter()
        .enumerate()
        .map(|(number, (code, message))| {
            json!({
                "name": format!("model-{number}"), "image": IMAGE, "imageID": "", "ready": false,
                "restartCount": 0,
                "state": {"terminated": {
                    "exitCode": code, "message": message, "finishedAt": ago(7),
                }},
            })
        })
        .collect();
    from(json!({
        "metadata": {
            "name": format!("reader-{}", wanted()), "namespace": NAMESPACE, "uid": "uid-reader",
            "creationTimestamp": ago(30),
            "labels": {"lamplighter.dev/revision": wanted(), "lamplighter.dev/role": "resolver"},
            "ownerReferences": [controller("ModelDeployment", "x", UID)],
        },
        "spec": {"containers": containers},
        "status": {"phase": phase, "containerStatuses": ended},
    }))
}

/// A record of the wanted revision about which nothing is known, and what read it.
fn unread(reader: Option<KubePod>) -> Fetched {
    let mut fetched = with_pods(Vec::new());
    let mut record = record(&valid(), 1);
    record.metadata.annotations = None;
    fetched.records = vec![Arc::new(record)];
    fetched.resolvers = reader.into_iter().map(Arc::new).collect();
    fetched
}

fn resolved(fetched: &Fetched) -> Resolved {
    seen(fetched).revisions[&RevisionId::new(wanted())].resolved.clone()
}

/// Guarantees: strategy-06.
#[test]
fn a_reader_tells_what_models_are_or_why_not() {
    let records: Vec<(i32, String)> =
        valid().wanted.models.iter().map(|model| (0, found(model).to_string())).collect();
    let Resolved::Known(facts) = resolved(&unread(Some(reader("Succeeded", &records)))) else {
        panic!("not known")
    };
    assert_eq!(facts.0.keys().collect::<Vec<_>>(), ["classic", "embedder"]);
    assert_eq!(facts.0["embedder"].architecture.as_deref(), Some("BertModel"));
    assert_eq!(facts.0["embedder"].layers, 6);

    assert_eq!(resolved(&unread(None)), Resolved::Unknown);
    let half = reader("Running", &records[..1]);
    assert_eq!(resolved(&unread(Some(half))), Resolved::Running(Seconds(30)));

    let said = Failure::new(Reason::AuthDenied, "no such key").to_termination_message();
    let denied = reader("Running", &[(1, said)]);
    let Resolved::Failed(failure, since) = resolved(&unread(Some(denied))) else {
        panic!("not failed")
    };
    assert_eq!((failure.reason.as_str(), failure.class), ("AuthDenied", FailureClass::Outside));
    assert_eq!(since, Seconds(7));

    let cut: Vec<(i32, String)> =
        records.iter().map(|(code, text)| (*code, text[..text.len() - 9].to_owned())).collect();
    let Resolved::Failed(failure, _) = resolved(&unread(Some(reader("Succeeded", &cut)))) else {
        panic!("not failed")
    };
    assert_eq!(failure.reason, "ResolveReportTruncated");

    let mut late = reader("Failed", &[]);
    late.status.as_mut().unwrap().reason = Some("DeadlineExceeded".to_owned());
    let Resolved::Failed(failure, _) = resolved(&unread(Some(late))) else { panic!("not failed") };
    assert_eq!(failure.reason, "DeadlineExceeded");
    assert_eq!(failure.class, FailureClass::Transient);
}

#[test]
fn a_reader_that_cannot_begin_says_why_and_is_given_up_in_time() {
    let held_up = |status: Value, age: i64| {
        let mut pod = reader("Pending", &[]);
        pod.metadata.creation_timestamp = from(json!(ago(age)));
        let container = json!({
            "name": "model-1", "image": IMAGE, "imageID": "", "ready": false, "restartCount": 0,
            "state": status,
        });
        pod.status.as_mut().unwrap().container_statuses = from(json!([container]));
        unread(Some(pod))
    };
    let pulling = || waiting("ImagePullBackOff", "Back-off pulling image \"nowhere/worker:1\"");
    assert_eq!(resolved(&held_up(pulling(), 299)), Resolved::Running(Seconds(299)));
    let report = report_on(&deployment(), &held_up(pulling(), 30), Applied::default());
    let (status, reason) = words(&report, ConditionType::Ready).unwrap();
    assert_eq!((status, reason), ("False", "ImagePullFailed"));
    let candidate = report.status.candidate.unwrap().reason.unwrap();
    let pod = format!("pod reader-{}, container model-1", wanted());
    for said in ["are being read, but", "ImagePullFailed", "nowhere/worker:1", &pod] {
        assert!(candidate.contains(said), "{said}: {candidate}");
    }
    let Resolved::Failed(failure, since) = resolved(&held_up(pulling(), 303)) else {
        panic!("not failed")
    };
    assert_eq!((failure.reason.as_str(), since), ("ImagePullFailed", Seconds(3)));
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.message.contains(&pod), "{}", failure.message);
    let creating = held_up(waiting("ContainerCreating", ""), 700);
    assert_eq!(resolved(&creating), Resolved::Running(Seconds(700)), "nothing holds it up");

    let mut pod = reader("Pending", &[]);
    pod.status = from(unschedulable("0/3 nodes are available"));
    let report = report_on(&deployment(), &unread(Some(pod)), Applied::default());
    assert_eq!(words(&report, ConditionType::Ready), Some(("False", "Unschedulable")));
}

/// Guarantees: strategy-05.
#[test]
fn what_is_known_of_the_same_sources_is_not_read_again() {
    let other = deployment_of(&SPEC.replace("4Gi", "2Gi"));
    let other = validate(&other, &Fetched::default(), &images()).unwrap();
    assert_ne!(other.wanted.revision, valid().wanted.revision);
    let mut fetched = unread(None);
    fetched.records.push(Arc::new(record(&other, 2)));
    assert!(matches!(resolved(&fetched), Resolved::Known(_)));
    let memory = Memory::default();
    let [(record, _)] = resolving::learned(&memory, &fetched).try_into().unwrap();
    assert_eq!(record.metadata.name, fetched.records[0].metadata.name);

    let moved = deployment_of(&SPEC.replace("minilm/2.1.0", "minilm/2.1.1"));
    let moved = validate(&moved, &Fetched::default(), &images()).unwrap();
    let mut fetched = unread(None);
    fetched.records.push(Arc::new(crate::fixtures::record(&moved, 2)));
    assert_eq!(resolved(&fetched), Resolved::Unknown);
}

/// The wanted revision, and one from elsewhere with the same versions and other bytes.
fn with_other_bytes() -> (Fetched, RevisionId) {
    let moved = deployment_of(&SPEC.replace("minilm/2.1.0", "minilm/elsewhere"));
    let moved = validate(&moved, &Fetched::default(), &images()).unwrap();
    let mut other = record(&moved, 1);
    let annotations = other.metadata.annotations.as_mut().unwrap();
    for text in annotations.values_mut() {
        *text = text.replace("abab", "cdcd");
    }
    let mut fetched = with_pods(Vec::new());
    fetched.records.push(Arc::new(other));
    (fetched, moved.wanted.revision)
}

#[test]
fn a_version_that_served_never_changes_its_bytes() {
    let (fetched, other) = with_other_bytes();
    let of_wanted = |remembered: &Remembered| {
        let world = world(&valid(), remembered, BTreeMap::new(), &fetched, &Ages::at(now()));
        world.revisions[&RevisionId::new(wanted())].resolved.clone()
    };
    let mut memory = remembered(Some(&on_its_way()), now());
    assert!(matches!(of_wanted(&memory), Resolved::Known(_)), "it never served");

    memory.memory.known_good.push(other.clone());
    let Resolved::Failed(failure, _) = of_wanted(&memory) else { panic!("not refused") };
    assert_eq!(failure.reason, "DigestMismatch");
    assert_eq!(failure.class, FailureClass::Deterministic);
    for named in ["embedder:2.1.0", "sha256:abab", "sha256:cdcd", other.as_str()] {
        assert!(failure.message.contains(named), "{named}: {}", failure.message);
    }

    memory.memory.known_good.push(RevisionId::new(wanted()));
    assert!(matches!(of_wanted(&memory), Resolved::Known(_)), "it served, too");
}

/// What was good once is not remembered for ever, and what failed while it served never was good.
#[test]
fn a_version_that_served_long_ago_or_failed_while_it_served_does_not_change_its_bytes_either() {
    let (mut fetched, other) = with_other_bytes();
    let id = RevisionId::new(wanted());
    let marked = |fetched: &mut Fetched, id: &RevisionId| {
        for record in &mut fetched.records {
            let record = Arc::make_mut(record);
            if record.metadata.name.as_ref().unwrap().ends_with(id.as_str()) {
                let mark = ("lamplighter.dev/served".to_owned(), "true".to_owned());
                record.metadata.annotations.as_mut().unwrap().extend([mark]);
            }
        }
    };
    let of_wanted = |fetched: &Fetched, memory: &Remembered| {
        let world = world(&valid(), memory, BTreeMap::new(), fetched, &Ages::at(now()));
        world.revisions[&id].resolved.clone()
    };
    let memory = remembered(Some(&on_its_way()), now());
    marked(&mut fetched, &other);
    let Resolved::Failed(failure, _) = of_wanted(&fetched, &memory) else { panic!("not refused") };
    assert_eq!(failure.reason, "DigestMismatch");
    assert!(failure.message.contains("sha256:cdcd"), "{}", failure.message);
    marked(&mut fetched, &id);
    assert!(matches!(of_wanted(&fetched, &memory), Resolved::Known(_)), "it served, too");

    let mut failed = memory.memory.clone();
    let failure = Failed {
        class: Class::Deterministic,
        reason: "RevalidationFailed".to_owned(),
        message: String::new(),
        attempts: 1,
        since: Seconds(5),
        released: false,
    };
    failed.failed.insert(id.clone(), failure);
    assert_eq!(resolving::voided(&failed, &fetched).len(), 0, "its bytes stay written down");
}

/// The fixture's spec with this memory limit, and a record of it among others.
fn limited(memory: &str, others: &[ControllerRevision]) -> (Valid, Fetched) {
    let limits = format!("cpu: \"4\", memory: {memory}");
    let deployment = deployment_of(&SPEC.replace("memory: 4Gi", &limits));
    let valid = validate(&deployment, &Fetched::default(), &images()).unwrap();
    let mut fetched = with_pods(Vec::new());
    fetched.records = others.iter().cloned().map(Arc::new).collect();
    fetched.records.push(Arc::new(record(&valid, 2)));
    (valid, fetched)
}

fn resolved_in((valid, fetched): &(Valid, Fetched), remembered: &Remembered) -> Resolved {
    let world = world(valid, remembered, BTreeMap::new(), fetched, &Ages::at(now()));
    world.revisions[&valid.wanted.revision].resolved.clone()
}

/// Guarantees: capacity-06.
#[test]
fn models_that_cannot_be_in_the_memory_of_a_pod_are_refused_before_there_is_one() {
    let nothing = remembered(None, now());
    let fits = |memory| matches!(resolved_in(&limited(memory, &[]), &nothing), Resolved::Known(_));
    // Two models of 22,713,216 numbers, each with 58 MiB for a largest batch.
    assert!(fits("300Mi"));
    assert!(fits("294Mi"));
    let Resolved::Failed(failure, _) = resolved_in(&limited("200Mi", &[]), &nothing) else {
        panic!("not refused")
    };
    assert_eq!(failure.reason, "HostMemoryExceeded");
    assert_eq!(failure.class, FailureClass::Deterministic);
    for said in ["293.2 MiB of 200 MiB usable", "173.2 MiB for the weights", "limits.memory"] {
        assert!(failure.message.contains(said), "{said}: {}", failure.message);
    }

    let served = limited("200Mi", &[]);
    let mut memory = remembered(None, now());
    memory.memory.known_good.push(served.0.wanted.revision.clone());
    assert!(
        matches!(resolved_in(&served, &memory), Resolved::Known(_)),
        "it has shown that it can"
    );
}

/// Guarantees: capacity-06.
#[test]
fn what_pods_of_the_same_models_measured_counts_more_than_the_estimate() {
    let limits = SPEC.replace("memory: 4Gi", "cpu: \"4\", memory: 4Gi");
    let serving = validate(&deployment_of(&limits), &Fetched::default(), &images()).unwrap();
    let id = serving.wanted.revision.clone();
    let serving = record(&serving, 1);
    let refused = |memory: &str, measured: Option<u64>, edit: fn(&mut ControllerRevision)| {
        let mut other = serving.clone();
        edit(&mut other);
        let (valid, mut fetched) = limited(memory, &[other]);
        let revision = id.clone();
        fetched.measured = measured.map(|bytes| Measured { revision, bytes });
        match resolved_in(&(valid, fetched), &remembered(None, now())) {
            Resolved::Failed(failure, _) => Some(failure.message),
            _ => None,
        }
    };
    let as_it_is = |_: &mut ControllerRevision| {};
    let message = refused("400Mi", Some(410 << 20), as_it_is).expect("refused");
    assert!(message.contains("410 MiB of 400 MiB usable, as was measured"), "{message}");
    assert_eq!(refused("410Mi", Some(410 << 20), as_it_is), None);
    assert_eq!(refused("400Mi", None, as_it_is), None);
    // Another processor limit, another image or other bytes: it says nothing.
    let cpu = |other: &mut ControllerRevision| {
        other.data.as_mut().unwrap().0["worker"]["resources"]["limits"]["cpu"] = "8".into();
    };
    let image = |other: &mut ControllerRevision| {
        other.data.as_mut().unwrap().0["image"] = "other:1".into();
    };
    let bytes = |other: &mut ControllerRevision| {
        for text in other.metadata.annotations.as_mut().unwrap().values_mut() {
            *text = text.replace("abab", "cdcd");
        }
    };
    let no_cpu = |other: &mut ControllerRevision| {
        let limits = &mut other.data.as_mut().unwrap().0["worker"]["resources"]["limits"];
        limits.as_object_mut().unwrap().remove("cpu");
    };
    let cache = |other: &mut ControllerRevision| {
        other.data.as_mut().unwrap().0["worker"]["cache"] =
            json!({"persistentVolumeClaim": {"claimName": "models"}});
    };
    for edit in [cpu, image, bytes, no_cpu, cache] {
        assert_eq!(refused("400Mi", Some(410 << 20), edit), None);
    }
}

#[test]
fn what_was_read_for_a_revision_that_failed_and_never_served_is_read_again() {
    let fetched = with_pods(Vec::new());
    let id = RevisionId::new(wanted());
    let failed = |class, released| {
        let mut memory = Memory::default();
        let failed = Failed {
            class,
            reason: "WeightsNonFinite".to_owned(),
            message: String::new(),
            attempts: 1,
            since: Seconds(5),
            released,
        };
        memory.failed.insert(id.clone(), failed);
        memory
    };
    let voided = |memory: &Memory| resolving::voided(memory, &fetched).len();
    assert_eq!(voided(&failed(Class::Deterministic, false)), 1);
    assert_eq!(voided(&failed(Class::Deterministic, true)), 0, "it is being tried again");
    assert_eq!(voided(&failed(Class::Transient, false)), 0);
    let mut served = failed(Class::Deterministic, false);
    served.known_good.push(id.clone());
    assert_eq!(voided(&served), 0);

    let records: Vec<(i32, String)> =
        valid().wanted.models.iter().map(|model| (0, found(model).to_string())).collect();
    let fetched = unread(Some(reader("Succeeded", &records)));
    let learned = |memory: &Memory| resolving::learned(memory, &fetched).len();
    assert_eq!(learned(&failed(Class::Deterministic, false)), 0, "it would be voided at once");
    assert_eq!(learned(&failed(Class::Deterministic, true)), 1);
}

#[test]
fn two_versions_of_one_model_are_two_models() {
    let spec = SPEC.replace("name: classic", "name: embedder").replacen(
        "task: Embedding",
        "task: Embedding\n    default: true",
        1,
    );
    let both = validate(&deployment_of(&spec), &Fetched::default(), &images()).unwrap();
    let fetched = Fetched { records: vec![Arc::new(record(&both, 1))], ..Fetched::default() };
    let remembered = remembered(None, now());
    let world = world(&both, &remembered, BTreeMap::new(), &fetched, &Ages::at(now()));
    let Resolved::Known(facts) = &world.revisions[&both.wanted.revision].resolved else {
        panic!("not known")
    };
    assert_eq!(facts.0.keys().collect::<Vec<_>>(), ["embedder:1", "embedder:2.1.0"]);
}

#[test]
fn a_reader_goes_when_nobody_waits_for_it() {
    let ages = Ages::at(now());
    let gone = |fetched: &Fetched, memory| {
        !resolving::obsolete(&valid(), memory, fetched, &ages).is_empty()
    };
    let waiting = remembered(Some(&serving("a")), now()).memory;
    assert!(!gone(&unread(Some(reader("Running", &[]))), &waiting), "it is waited for");
    let mut known = unread(Some(reader("Running", &[])));
    known.records = vec![Arc::new(record(&valid(), 1))];
    assert!(gone(&known, &waiting), "it is known already");
    let mut foreign = reader("Running", &[]);
    let other = ("lamplighter.dev/revision".to_owned(), "ffffffffff".to_owned());
    foreign.metadata.labels.as_mut().unwrap().extend([other]);
    assert!(gone(&unread(Some(foreign)), &waiting), "its revision is not wanted any more");

    let mut late = reader("Pending", &[]);
    late.metadata.creation_timestamp = Some(ago(301));
    assert!(!gone(&unread(Some(late.clone())), &waiting), "that it is late is not remembered");
    let mut status = serving("a");
    status.failed_revisions = vec![from(json!({
        "revision": wanted(), "class": "Transient", "reason": "ResolveDeadlineExceeded",
        "message": "late", "attempts": 1, "time": ago(1),
    }))];
    let failed = remembered(Some(&status), now()).memory;
    assert!(gone(&unread(Some(late)), &failed), "it was given up");
    let said = Failure::new(Reason::AuthDenied, "no such key").to_termination_message();
    let denied = reader("Failed", &[(1, said)]);
    assert!(!gone(&unread(Some(denied)), &failed), "its logs are kept until the next attempt");
}
