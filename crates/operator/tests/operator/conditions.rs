//! What users are told, for each way in which a pod or an apply can fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::Status;
use lamplighter_api::{ConditionType, ModelDeployment, ModelDeploymentStatus};
use lamplighter_operator::images::Images;
use lamplighter_operator::reconcile::apply::{Applied, ApplyError, Change, Decided, ObjectName};
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::memory::{commands, remembered};
use lamplighter_operator::reconcile::observe::{Ages, standing, world};
use lamplighter_operator::reconcile::report::{self, Report, Severity, Subject};
use lamplighter_operator::reconcile::validate::{Unfit, validate};
use lamplighter_operator::reports::ReportError;
use lamplighter_plan::rollout::{Action, Environment, Placed, decide};
use lamplighter_protocol::{Failure, ModelKey, Reason};
use serde_json::{Value, json};

use crate::fixtures::{
    NAME, SPEC, after_failure, ago, deployment, deployment_of, from, having, images, in_state,
    moved, now, on_its_way, place, pod, ready, record, replica_set, running, serving, terminated,
    unschedulable, waiting, wanted, with_pods,
};

pub(crate) fn report_on(
    deployment: &ModelDeployment,
    fetched: &Fetched,
    applied: Applied,
) -> Report {
    report_at(now(), deployment, fetched, applied)
}

pub(crate) fn report_at(
    now: Timestamp,
    deployment: &ModelDeployment,
    fetched: &Fetched,
    applied: Applied,
) -> Report {
    report_by(now, deployment, fetched, applied, &images())
}

fn report_by(
    now: Timestamp,
    deployment: &ModelDeployment,
    fetched: &Fetched,
    applied: Applied,
    images: &Images,
) -> Report {
    let remembered = remembered(deployment.status.as_ref(), now);
    let subject = Subject { deployment, fetched, remembered: &remembered, now };
    match validate(deployment, fetched, images) {
        Ok(valid) => {
            let ages = Ages::at(now);
            let asked = commands(deployment.annotations());
            let world = world(&valid, &remembered, asked, fetched, &ages);
            let plan = decide(&world);
            let decided =
                Decided { valid: &valid, fetched, world: &world, plan: &plan, ages: &ages };
            let standing = standing(&valid, &remembered, fetched, &ages);
            report::planned(&subject, &decided, &standing, applied)
        }
        Err(Unfit::Invalid(invalid)) => report::invalid(&subject, &invalid),
        Err(other) => panic!("{other:?}"),
    }
}

/// The first revision is on its way and has these pods.
pub(crate) fn coming() -> ModelDeployment {
    having(deployment(), on_its_way())
}

/// The wanted revision serves and is known to be good.
pub(crate) fn settled() -> ModelDeployment {
    having(deployment(), serving(&wanted()))
}

fn report(pods: Vec<Value>) -> Report {
    report_on(&coming(), &with_pods(pods), Applied::default())
}

fn report_settled(pods: Vec<Value>) -> Report {
    report_on(&settled(), &with_pods(pods), Applied::default())
}

fn one_pod(status: &Value) -> Report {
    report(vec![pod("worker-a", &wanted(), status)])
}

/// Every condition in one line each: what a reviewer wants to see.
pub(crate) fn told(report: &Report) -> String {
    let line = |condition: &Condition| {
        let Condition { type_, status, reason, message, .. } = condition;
        format!("{type_}={status} {reason}: {message}")
    };
    report.status.conditions.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn condition(report: &Report, kind: ConditionType) -> Option<&Condition> {
    report.status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

pub(crate) fn words(report: &Report, kind: ConditionType) -> Option<(&str, &str)> {
    condition(report, kind).map(|condition| (condition.status.as_str(), condition.reason.as_str()))
}

pub(crate) fn last_words(reason: Reason) -> String {
    Failure::new(reason, "what the worker said")
        .with_model(ModelKey { name: "embedder".to_owned(), version: "2.1.0".to_owned() })
        .to_termination_message()
}

/// Guarantees: gates-02.
#[test]
fn every_reason_of_a_worker_becomes_the_reason_of_ready() {
    for reason in Reason::ALL {
        let ended = terminated(1, "Error", &last_words(reason));
        let report = one_pod(&after_failure(&waiting("CrashLoopBackOff", "back-off 10s"), &ended));
        assert_eq!(words(&report, ConditionType::Ready), Some(("False", reason.as_str())));
        let message = &condition(&report, ConditionType::Ready).unwrap().message;
        for part in ["worker-a", "worker", "embedder:2.1.0", "what the worker said"] {
            assert!(message.contains(part), "{message}");
        }
        let deterministic = reason.class() == lamplighter_protocol::Class::Deterministic;
        let stalled = words(&report, ConditionType::Stalled);
        assert_eq!(stalled, deterministic.then_some(("True", reason.as_str())), "{reason}");
        assert_eq!(words(&report, ConditionType::Reconciling).is_some(), !deterministic);
    }
}

/// Guarantees: gates-02.
#[test]
fn what_kubernetes_says_about_a_pod_becomes_a_reason_and_its_own_words() {
    let oom = terminated(137, "OOMKilled", "");
    let crash = terminated(3, "Error", "thread 'main' panicked: no such device");
    for (status, reason, words_of) in [
        (in_state(&oom), "OutOfMemory", "memory limit of 4Gi"),
        (after_failure(&running(), &oom), "OutOfMemory", "spec.worker.resources.limits.memory"),
        (in_state(&crash), "ContainerCrashed", "exit code 3; its last words: thread 'main'"),
        (
            in_state(&waiting("ImagePullBackOff", "Back-off pulling image \"x\"")),
            "ImagePullFailed",
            "Back-off pulling image",
        ),
        (in_state(&waiting("ErrImagePull", "not found")), "ImagePullFailed", "not found"),
        (in_state(&waiting("ErrImageNeverPull", "absent")), "ImagePullFailed", "absent"),
        (
            in_state(&waiting("CreateContainerConfigError", "configmap \"tuning\" not found")),
            "ConfigMissing",
            "configmap \"tuning\" not found",
        ),
        (
            unschedulable("0/3 nodes are available: 3 Insufficient memory."),
            "Unschedulable",
            "0/3 nodes are available: 3 Insufficient memory.",
        ),
        (in_state(&waiting("ContainerCreating", "")), "NoPodReady", "ContainerCreating"),
        (in_state(&running()), "NoPodReady", "1 of 2 pods created"),
    ] {
        let report = one_pod(&status);
        assert_eq!(words(&report, ConditionType::Ready), Some(("False", reason)));
        let message = &condition(&report, ConditionType::Ready).unwrap().message;
        assert!(message.contains(words_of), "{message}");
    }
}

/// Guarantees: capacity-05.
#[test]
fn a_quota_is_told_in_the_words_of_the_cluster() {
    let refused = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"x\" is forbidden: exceeded quota: gpus",
    }]);
    let mut fetched = with_pods(Vec::new());
    let mut set: Value = serde_json::to_value(fetched.replica_sets[0].as_ref()).unwrap();
    set["status"] = json!({"replicas": 0, "conditions": refused});
    fetched.replica_sets = vec![Arc::new(from::<ReplicaSet>(set))];
    let report = report_on(&deployment(), &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::Ready), Some(("False", "ChildRefused")));
    assert!(told(&report).contains("exceeded quota: gpus"));
}

#[test]
fn a_container_that_starts_again_after_a_failure_keeps_its_reason() {
    let ended = terminated(1, "Error", &last_words(Reason::DigestMismatch));
    let states = [
        in_state(&ended),
        after_failure(&waiting("CrashLoopBackOff", ""), &ended),
        after_failure(&running(), &ended),
    ];
    for status in states {
        let report = one_pod(&status);
        assert_eq!(words(&report, ConditionType::Ready), Some(("False", "DigestMismatch")));
        assert_eq!(words(&report, ConditionType::Stalled), Some(("True", "DigestMismatch")));
    }
}

#[test]
fn the_gates_tell_their_own_failures() {
    for (reason, gate) in [
        (Reason::WarmupFailed, ConditionType::WarmedUp),
        (Reason::ValidationFailed, ConditionType::Validated),
        (Reason::NoValidationCases, ConditionType::Validated),
    ] {
        let report = one_pod(&in_state(&terminated(1, "Error", &last_words(reason))));
        assert_eq!(words(&report, gate), Some(("False", reason.as_str())));
    }
}

#[test]
fn a_deployment_on_its_way() {
    let revision = wanted();
    let report = report(vec![
        pod("worker-a", &revision, &ready()),
        pod("worker-b", &revision, &in_state(&running())),
    ]);
    insta::assert_snapshot!(told(&report));
    assert_eq!(report.status.active, None);
    let candidate = report.status.candidate.unwrap();
    assert_eq!((candidate.pods.ready, candidate.pods.loading, candidate.pods.failed), (1, 1, 0));
    assert_eq!(candidate.started_time, ago(40));
    assert_eq!(candidate.step.as_deref(), Some("Gating"));
    assert_eq!(candidate.environment.as_deref(), Some("blue"));
}

pub(crate) fn two_ready(revision: &str) -> Vec<Value> {
    vec![pod("worker-a", revision, &ready()), pod("worker-b", revision, &ready())]
}

#[test]
fn a_complete_deployment() {
    let report = report_settled(two_ready(&wanted()));
    insta::assert_snapshot!(told(&report));
    assert_eq!(report.status.candidate, None);
    assert_eq!(report.status.active.as_ref().unwrap().revision, wanted());
    assert_eq!((report.status.replicas, report.status.ready_replicas), (2, 2));
    assert_eq!(report.status.observed_generation, Some(3));
    let selector = report.status.selector.as_deref();
    assert_eq!(
        selector,
        Some("lamplighter.dev/deployment=scripture-search,lamplighter.dev/environment=blue")
    );
}

fn leaving(name: &str, revision: &str) -> Value {
    let mut leaving = pod(name, revision, &ready());
    leaving["metadata"]["deletionTimestamp"] = json!(ago(3));
    leaving
}

#[test]
fn ready_tells_how_many_pods_are_still_leaving() {
    let revision = wanted();
    let message =
        |report: &Report| condition(report, ConditionType::Ready).unwrap().message.clone();
    let mut pods = two_ready(&revision);
    pods.push(leaving("worker-0", &revision));
    let complete = message(&report_settled(pods.clone()));
    assert!(complete.ends_with(" serve every model; 1 pod is still leaving"), "{complete}");
    pods.push(leaving("worker-1", &revision));
    let complete = message(&report_settled(pods));
    assert!(complete.ends_with("; 2 pods are still leaving"), "{complete}");

    let mut starting = vec![pod("worker-a", &revision, &in_state(&running()))];
    starting.push(leaving("worker-0", &revision));
    assert_eq!(message(&report_settled(starting)), "1 of 2 pods created; 1 pod is still leaving");

    let none = deployment_of(&SPEC.replace("replicas: 2", "replicas: 0"));
    let mut fetched = with_pods(vec![leaving("worker-0", &revision)]);
    fetched.replica_sets = vec![Arc::new(replica_set(&revision, 0))];
    let none = having(none, serving(&revision));
    let scaled = report_on(&none, &fetched, Applied::default());
    assert_eq!(words(&scaled, ConditionType::Ready), Some(("True", "ScaledToZero")));
    assert_eq!(message(&scaled), "spec.replicas is 0; 1 pod is still leaving");
}

/// Guarantees: gates-07, retry-04.
#[test]
fn a_new_revision_that_fails_beside_one_that_serves() {
    let ended = terminated(1, "Error", &last_words(Reason::ValidationFailed));
    let mut pods = two_ready("00000000aa");
    pods.push(moved(pod("worker-c", &wanted(), &in_state(&ended)), "green"));
    let mut fetched = with_pods(pods);
    let new = serde_json::to_value(replica_set(&wanted(), 2)).unwrap();
    fetched.replica_sets =
        vec![Arc::new(replica_set("00000000aa", 2)), Arc::new(from(moved(new, "green")))];
    let report = report_on(&having(deployment(), replacing()), &fetched, Applied::default());
    insta::assert_snapshot!(told(&report));
    assert_eq!(report.status.active.unwrap().revision, "00000000aa");
    let failed = &report.status.failed_revisions[0];
    assert_eq!(
        (failed.revision.as_str(), failed.class.as_str()),
        (wanted().as_str(), "Deterministic")
    );
    assert_eq!((failed.reason.as_str(), failed.attempts), ("ValidationFailed", 1));
    assert_eq!(failed.next_retry_time, None);
}

/// A status in which another revision serves in blue and the wanted one is on its way in green.
pub(crate) fn replacing() -> ModelDeploymentStatus {
    let mut status = serving("00000000aa");
    let mut rollout = on_its_way().rollout.unwrap();
    rollout.from = Some(place("00000000aa", "blue"));
    rollout.fallback.clone_from(&rollout.from);
    rollout.to = place(&wanted(), "green");
    "BlueGreen".clone_into(&mut rollout.strategy);
    rollout.because = vec!["spec.rollout.strategy is BlueGreen".to_owned()];
    status.rollout = Some(rollout);
    status
}

#[test]
fn an_attempt_that_is_late_is_given_up_with_what_it_waited_for_and_tried_again() {
    let mut status = in_state(&waiting("ErrImagePull", "not found"));
    status["conditions"][1]["lastTransitionTime"] = json!(ago(301));
    let mut fetched = with_pods(vec![pod("worker-a", &wanted(), &status)]);
    let mut set = replica_set(&wanted(), 2);
    set.metadata.creation_timestamp = Some(ago(301));
    fetched.replica_sets = vec![Arc::new(set)];
    let mut late = on_its_way();
    late.rollout.as_mut().unwrap().since = ago(301);
    let report = report_on(&having(deployment(), late), &fetched, Applied::default());
    let ready = words(&report, ConditionType::Ready);
    assert_eq!(ready, Some(("False", "ProgressDeadlineExceeded")));
    assert!(words(&report, ConditionType::Reconciling).is_some());
    let told = told(&report);
    for part in ["no step forward for more than 300 s", "ImagePullFailed", "another one follows"] {
        assert!(told.contains(part), "{told}");
    }
    let failed = &report.status.failed_revisions[0];
    assert_eq!(failed.class, "Transient");
    assert!(failed.next_retry_time.is_some());
}

#[test]
fn scaled_to_zero_is_ready_and_not_available() {
    let deployment = deployment_of(&SPEC.replace("replicas: 2", "replicas: 0"));
    let report = report_on(&deployment, &Fetched::default(), Applied::default());
    assert_eq!(words(&report, ConditionType::Ready), Some(("True", "ScaledToZero")));
    assert_eq!(words(&report, ConditionType::Available), Some(("False", "ScaledToZero")));
    assert_eq!(words(&report, ConditionType::Reconciling), None);
}

#[test]
fn disabled_validation_shows() {
    let spec = SPEC.replace(
        "{uri: \"pvc://shelf/classic\"}\n    validation:",
        "{uri: \"pvc://shelf/classic\"}\n    validation:\n      mode: Disabled",
    );
    let deployment = deployment_of(&spec);
    let revision = validate(&deployment, &Fetched::default(), &images()).unwrap().wanted.revision;
    let revision = revision.to_string();
    let mut fetched = with_pods(two_ready(&revision));
    fetched.replica_sets = vec![Arc::new(replica_set(&revision, 2))];
    let deployment = having(deployment, serving(&revision));
    let report = report_on(&deployment, &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::Validated), Some(("False", "ValidationDisabled")));
    assert!(condition(&report, ConditionType::Validated).unwrap().message.contains("classic:1"));
    assert_eq!(words(&report, ConditionType::Ready), Some(("True", "AllPodsReady")));
}

#[test]
fn a_spec_that_contradicts_itself_waits_for_a_change_and_leaves_pods_alone() {
    let spec = SPEC.replace("name: classic", "name: embedder");
    let deployment = deployment_of(&spec);
    let deployment = having(deployment, serving(&wanted()));
    let report = report_on(&deployment, &with_pods(two_ready(&wanted())), Applied::default());
    assert_eq!(words(&report, ConditionType::Stalled), Some(("True", "ModelsInvalid")));
    assert_eq!(words(&report, ConditionType::Available), Some(("True", "SomePodsReady")));
    assert_eq!(words(&report, ConditionType::Degraded), Some(("True", "ModelsInvalid")));
    assert_eq!(report.status.ready_replicas, 2);
    assert_eq!(report.status.observed_generation, Some(3));
}

#[test]
fn models_for_a_gpu_wait_for_an_image_where_the_operator_has_none() {
    let spec = SPEC.replace("device: Cpu", "device: Cuda");
    let deployment = having(deployment_of(&spec), serving(&wanted()));
    let none = Images { cuda: None, ..images() };
    let fetched = with_pods(two_ready(&wanted()));
    let report = report_by(now(), &deployment, &fetched, Applied::default(), &none);
    assert_eq!(words(&report, ConditionType::Stalled), Some(("True", "WorkerImageUnset")));
    assert_eq!(words(&report, ConditionType::Available), Some(("True", "SomePodsReady")));
    let message = &condition(&report, ConditionType::Stalled).unwrap().message;
    for way_out in ["worker.cuda.image", "spec.worker.image", "spec.worker.device: Cpu"] {
        assert!(message.contains(way_out), "{message}");
    }
}

fn service() -> ObjectName {
    ObjectName { kind: "Service", name: NAME.to_owned() }
}

fn stopped_by(error: ApplyError) -> Report {
    let applied = Applied::nothing_because(error);
    report_on(&settled(), &with_pods(two_ready(&wanted())), applied)
}

#[test]
fn a_name_that_is_taken_is_named_with_its_owner() {
    let report =
        stopped_by(ApplyError::NameTaken { object: service(), owner: "Deployment web".to_owned() });
    assert_eq!(words(&report, ConditionType::Ready), Some(("False", "NameTaken")));
    assert_eq!(words(&report, ConditionType::Stalled), Some(("True", "NameTaken")));
    assert_eq!(words(&report, ConditionType::Available), Some(("True", "AllPodsReady")));
    assert!(told(&report).contains("it is controlled by Deployment web"));
}

#[test]
fn what_the_apiserver_refuses_is_told_in_its_words() {
    let answer = Status::failure("spec.ports[0].nodePort: port is already allocated", "Invalid");
    let source = kube::Error::Api(answer.with_code(422).boxed());
    let report = stopped_by(ApplyError::Write { object: service(), source });
    assert_eq!(words(&report, ConditionType::Stalled), Some(("True", "ChildRefused")));
    assert!(told(&report).contains("port is already allocated"));
}

#[test]
fn an_apiserver_that_is_away_is_no_failure_of_the_deployment() {
    let answer = Status::failure("etcdserver: leader changed", "").with_code(503);
    let source = kube::Error::Api(answer.boxed());
    let report = stopped_by(ApplyError::Write { object: service(), source });
    assert_eq!(words(&report, ConditionType::Ready), Some(("False", "WriteFailed")));
    assert_eq!(words(&report, ConditionType::Reconciling), Some(("True", "RollingOut")));
    assert_eq!(words(&report, ConditionType::Stalled), None);
}

/// Guarantees: api-04.
#[test]
fn never_are_reconciling_and_stalled_both_true() {
    let ended = |reason| in_state(&terminated(1, "Error", &last_words(reason)));
    let mut reports: Vec<Report> = Reason::ALL.map(|reason| one_pod(&ended(reason))).into();
    reports.push(report(two_ready(&wanted())));
    reports.push(report_settled(two_ready(&wanted())));
    reports.push(report(Vec::new()));
    for report in reports {
        let both = condition(&report, ConditionType::Reconciling).is_some()
            && condition(&report, ConditionType::Stalled).is_some();
        assert!(!both, "{}", told(&report));
        let reconciling = condition(&report, ConditionType::Reconciling).is_some();
        let is_ready = words(&report, ConditionType::Ready).unwrap().0 == "True";
        assert!(!(reconciling && is_ready), "{}", told(&report));
    }
}

#[test]
fn models_are_told_as_the_pods_report_them() {
    let revision = wanted();
    let model = |key: &str, facts: Value| {
        json!({
            "key": key, "task": "Embedding", "state": "Ready", "phases": [], "facts": facts,
        })
    };
    let facts = json!({
        "digest": "sha256:ab", "architecture": "BertModel", "dimensions": 384, "maxTokens": 512,
        "parameters": 22_713_216, "bytes": 91_000_000,
    });
    let answer = json!({
        "podUid": "uid-worker-a", "podName": "worker-a", "revision": &revision,
        "workerVersion": "0.1.0", "device": "Cpu", "state": "Ready", "uptimeSeconds": 3.0,
        "inFlight": 0, "models": [model("embedder:2.1.0", facts)],
    });
    let mut fetched = with_pods(two_ready(&revision));
    fetched.reports = BTreeMap::from([("worker-a".to_owned(), Ok(from(answer)))]);
    let read = report_on(&settled(), &fetched, Applied::default());
    assert_eq!(read.status.active.unwrap().models.len(), 2, "as the record says");
    fetched.records = Vec::new();
    let report = report_on(&settled(), &fetched, Applied::default());
    let served = &report.status.active.unwrap().models[0];
    assert_eq!((served.name.as_str(), served.version.as_str()), ("embedder", "2.1.0"));
    assert_eq!((served.parameters, served.bytes), (22_713_216, 91_000_000));
}

#[test]
fn progress_of_a_load_stands_in_the_message() {
    let revision = wanted();
    let answer = json!({
        "podUid": "uid-worker-b", "podName": "worker-b", "revision": &revision,
        "workerVersion": "0.1.0", "device": "Cpu", "state": "Starting", "uptimeSeconds": 3.0,
        "inFlight": 0,
        "models": [{
            "key": "embedder:2.1.0", "task": "Embedding", "state": "Loading",
            "phases": [{"phase": "Fetch", "seconds": 2.5, "bytes": 45_600_000, "done": false}],
        }],
    });
    let mut fetched = with_pods(vec![
        pod("worker-a", &revision, &ready()),
        pod("worker-b", &revision, &in_state(&running())),
    ]);
    fetched.reports = BTreeMap::from([("worker-b".to_owned(), Ok(from(answer)))]);
    fetched.ask_again = Some(report::PROGRESS_PERIOD);
    let report = report_on(&coming(), &fetched, Applied::default());
    let message = &condition(&report, ConditionType::Ready).unwrap().message;
    assert_eq!(
        message,
        "1 of 2 pods ready; pod worker-b: model embedder:2.1.0 is in phase Fetch, 45 MB so far"
    );
    assert_eq!(report.again, report::PROGRESS_PERIOD);
}

#[test]
fn a_pod_that_starts_and_cannot_be_asked_is_named() {
    let revision = wanted();
    let mut fetched = with_pods(vec![
        pod("worker-a", &revision, &ready()),
        pod("worker-b", &revision, &in_state(&running())),
    ]);
    let silent = || Err(Arc::new(ReportError::Timeout));
    fetched.reports =
        BTreeMap::from([("worker-a".to_owned(), silent()), ("worker-b".to_owned(), silent())]);
    let report = report_on(&coming(), &fetched, Applied::default());
    assert_eq!(
        condition(&report, ConditionType::Ready).unwrap().message,
        "1 of 2 pods ready; how far pod worker-b is cannot be told: the pod did not answer within 2 s"
    );
    let fetched = Fetched { pods: Vec::new(), ..fetched };
    let report = report_on(&coming(), &fetched, Applied::default());
    assert!(!told(&report).contains("cannot be told"), "{}", told(&report));
}

#[test]
fn a_return_says_whether_it_would_need_the_store() {
    let cache = "  device: Cpu\n  cache: {persistentVolumeClaim: {claimName: shared}}\n";
    for (spec, reason) in [
        (SPEC.replace("2.1.0", "2.0.9"), "NeedsStore"),
        (SPEC.replace("  device: Cpu\n", cache), "Cached"),
        (SPEC.replace("s3://models/minilm/2.1.0", "pvc://shelf/minilm"), "Cached"),
    ] {
        let spec = spec.replace(", secretRef: {name: model-store}", "");
        let old = validate(&deployment_of(&spec), &Fetched::default(), &images()).unwrap();
        let mut fetched = with_pods(two_ready(&wanted()));
        fetched.records.push(Arc::new(record(&old, 0)));
        let mut status = serving(&wanted());
        status.known_good.extend(serving(old.wanted.revision.as_str()).known_good);
        let report = report_on(&having(deployment(), status), &fetched, Applied::default());
        let told = condition(&report, ConditionType::RollbackAvailable).unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_str()), ("True", reason), "{spec}");
        assert!(told.message.contains(old.wanted.revision.as_str()), "{}", told.message);
    }
}

#[test]
fn an_evicted_pod_is_no_pod() {
    let revision = wanted();
    let mut pods = two_ready(&revision);
    let evicted = json!({"phase": "Failed", "reason": "Evicted"});
    pods.push(pod("worker-0", &revision, &evicted));
    let report = report_settled(pods);
    assert_eq!(words(&report, ConditionType::Ready), Some(("True", "AllPodsReady")));
    assert_eq!(report.status.replicas, 2);
}

#[test]
fn a_foreign_pod_with_our_labels_is_not_counted() {
    let mut stranger = pod("stranger", &wanted(), &ready());
    stranger["metadata"]["ownerReferences"] = json!([]);
    let report = report(vec![stranger]);
    assert_eq!(report.status.candidate.unwrap().pods.ready, 0);
}

/// Guarantees: told-01.
#[test]
fn events_tell_transitions_once() {
    let first = report_settled(two_ready(&wanted()));
    let told: Vec<_> = first.transitions.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(told, ["AllPodsReady"]);
    let fetched = with_pods(two_ready(&wanted()));
    let second = report_on(&having(deployment(), first.status), &fetched, Applied::default());
    assert_eq!(second.transitions, []);
}

#[test]
fn a_failure_is_told_as_a_warning_and_an_action_with_its_reason() {
    let report = one_pod(&in_state(&terminated(1, "Error", &last_words(Reason::DigestMismatch))));
    let told: Vec<_> =
        report.transitions.iter().map(|event| (event.severity, event.reason.as_str())).collect();
    let warning = |reason| (Severity::Warning, reason);
    assert_eq!(
        told,
        [warning("RevisionFailed"), warning("RolloutFinished"), warning("DigestMismatch")]
    );

    let placed = Placed {
        revision: lamplighter_plan::RevisionId::new(wanted()),
        environment: Environment::Blue,
    };
    let create = Action::Create { placed, replicas: 2 };
    let applied = Applied { changes: vec![Change::Done(create)], failure: None };
    let mut fetched = with_pods(Vec::new());
    fetched.replica_sets = Vec::new();
    let report = report_on(&coming(), &fetched, applied);
    let [done] = report.done.as_slice() else { panic!("{:?}", report.done) };
    assert_eq!(done.reason, "RevisionCreated");
    assert_eq!(
        done.note,
        format!("create {} in blue with 2 pods: 0 of 2 pods passed every gate", wanted())
    );
}

#[test]
fn a_deployment_that_is_set_back_is_told_once_and_a_changed_spec_is_no_set_back() {
    let revision = wanted();
    let whole = || with_pods(two_ready(&revision));
    let half = with_pods(vec![
        pod("worker-a", &revision, &ready()),
        pod("worker-b", &revision, &in_state(&running())),
    ]);
    let whole_status = report_on(&settled(), &whole(), Applied::default()).status;
    let before = having(deployment(), whole_status.clone());
    let lost = report_on(&before, &half, Applied::default());
    let [warning] = lost.transitions.as_slice() else { panic!("{:?}", lost.transitions) };
    assert_eq!(warning.severity, Severity::Warning);
    let after = having(deployment(), lost.status);
    assert_eq!(report_on(&after, &half, Applied::default()).transitions, []);

    let mut changed = having(deployment_of(&SPEC.replace("2.1.0", "2.2.0")), whole_status);
    changed.metadata.generation = Some(4);
    assert_eq!(report_on(&changed, &whole(), Applied::default()).transitions, []);
}

#[test]
fn a_failure_during_a_rollout_is_told_before_anything_stalls() {
    let crash = terminated(3, "Error", "no such device");
    let first = one_pod(&in_state(&running()));
    assert_eq!(first.transitions, []);
    let mut deployment = having(deployment(), first.status);
    let fetched = with_pods(vec![pod("worker-a", &wanted(), &in_state(&crash))]);
    let failing = report_on(&deployment, &fetched, Applied::default());
    let [warning] = failing.transitions.as_slice() else { panic!("{:?}", failing.transitions) };
    let told = (warning.severity, warning.reason.as_str());
    assert_eq!(told, (Severity::Warning, "ContainerCrashed"));
    deployment.status = Some(failing.status);
    assert_eq!(report_on(&deployment, &fetched, Applied::default()).transitions, []);
}

#[test]
fn gates_that_were_passed_stay_passed_while_a_spec_contradicts_itself() {
    let fetched = with_pods(two_ready(&wanted()));
    let mut broken = deployment_of(&SPEC.replace("name: classic", "name: embedder"));
    broken.status = Some(report_on(&settled(), &fetched, Applied::default()).status);
    let report = report_on(&broken, &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::WarmedUp), Some(("True", "WarmUpPassed")));
    assert_eq!(words(&report, ConditionType::Validated), Some(("True", "CasesPassed")));
    let gone = report_on(&broken, &Fetched::default(), Applied::default());
    assert_eq!(words(&gone, ConditionType::WarmedUp), Some(("Unknown", "NotYetObserved")));
}

/// Guarantees: operator-09.
#[test]
fn records_and_pods_without_our_labels_do_not_disturb() {
    let fetched = Fetched {
        records: vec![Arc::new(ControllerRevision::default())],
        pods: vec![Arc::new(Pod::default())],
        ..Fetched::default()
    };
    let report = report_on(&deployment(), &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::Ready), Some(("False", "Resolving")));
}
