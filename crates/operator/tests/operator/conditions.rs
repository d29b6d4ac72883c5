//! What users are told, for each way in which a pod or an apply can fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Status;
use lamplighter_api::{ActiveRevision, ConditionType, ModelDeployment, ModelDeploymentStatus};
use lamplighter_operator::reconcile::apply::{Applied, ApplyError, Change, ObjectName};
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::observe::observe;
use lamplighter_operator::reconcile::report::{self, Report, Severity, Subject};
use lamplighter_operator::reconcile::validate::{Unfit, validate};
use lamplighter_operator::reports::ReportError;
use lamplighter_plan::decide;
use lamplighter_protocol::{Failure, ModelKey, Reason};
use serde_json::{Value, json};

use crate::fixtures::{
    IMAGE, NAME, SPEC, after_failure, ago, deployment, deployment_of, from, in_state, now, pod,
    ready, replica_set, running, terminated, unschedulable, valid, waiting, with_pods,
};

fn report_on(deployment: &ModelDeployment, fetched: &Fetched, applied: Applied) -> Report {
    let subject = Subject { deployment, fetched, now: now() };
    match validate(deployment, fetched, IMAGE) {
        Ok(valid) => {
            let settled = deployment.status.as_ref().and_then(|status| status.active.as_ref());
            let settled = settled.map(|active| active.revision.as_str());
            let world = observe(&valid, settled, fetched, now());
            let plan = decide(&world);
            report::planned(&subject, &valid, &world, &plan, applied)
        }
        Err(Unfit::Invalid(invalid)) => report::invalid(&subject, &invalid),
        Err(other) => panic!("{other:?}"),
    }
}

fn report(pods: Vec<Value>) -> Report {
    report_on(&deployment(), &with_pods(pods), Applied::default())
}

fn one_pod(status: &Value) -> Report {
    report(vec![pod("worker-a", valid().revision.as_str(), status)])
}

/// Every condition in one line each: what a reviewer wants to see.
fn told(report: &Report) -> String {
    let line = |condition: &Condition| {
        let Condition { type_, status, reason, message, .. } = condition;
        format!("{type_}={status} {reason}: {message}")
    };
    report.status.conditions.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn condition(report: &Report, kind: ConditionType) -> Option<&Condition> {
    report.status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

fn words(report: &Report, kind: ConditionType) -> Option<(&str, &str)> {
    condition(report, kind).map(|condition| (condition.status.as_str(), condition.reason.as_str()))
}

fn last_words(reason: Reason) -> String {
    Failure::new(reason, "what the worker said")
        .with_model(ModelKey { name: "embedder".to_owned(), version: "2.1.0".to_owned() })
        .to_termination_message()
}

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
    let revision = valid().revision;
    let report = report(vec![
        pod("worker-a", revision.as_str(), &ready()),
        pod("worker-b", revision.as_str(), &in_state(&running())),
    ]);
    insta::assert_snapshot!(told(&report));
    assert_eq!(report.status.active, None);
    let candidate = report.status.candidate.unwrap();
    assert_eq!((candidate.pods.ready, candidate.pods.loading, candidate.pods.failed), (1, 1, 0));
    assert_eq!(candidate.started_time, ago(40));
}

fn two_ready(revision: &str) -> Vec<Value> {
    vec![pod("worker-a", revision, &ready()), pod("worker-b", revision, &ready())]
}

#[test]
fn a_complete_deployment() {
    let report = report(two_ready(valid().revision.as_str()));
    insta::assert_snapshot!(told(&report));
    assert_eq!(report.status.candidate, None);
    assert_eq!(report.status.active.as_ref().unwrap().revision, valid().revision.as_str());
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
    let revision = valid().revision;
    let message =
        |report: &Report| condition(report, ConditionType::Ready).unwrap().message.clone();
    let mut pods = two_ready(revision.as_str());
    pods.push(leaving("worker-0", revision.as_str()));
    let complete = message(&report(pods.clone()));
    assert!(complete.ends_with(" serve every model; 1 pod is still leaving"), "{complete}");
    pods.push(leaving("worker-1", revision.as_str()));
    let complete = message(&report(pods));
    assert!(complete.ends_with("; 2 pods are still leaving"), "{complete}");

    let mut starting = vec![pod("worker-a", revision.as_str(), &in_state(&running()))];
    starting.push(leaving("worker-0", revision.as_str()));
    assert_eq!(message(&report(starting)), "1 of 2 pods created; 1 pod is still leaving");

    let none = deployment_of(&SPEC.replace("replicas: 2", "replicas: 0"));
    let mut fetched = with_pods(vec![leaving("worker-0", revision.as_str())]);
    fetched.replica_sets = vec![Arc::new(replica_set(revision.as_str(), 0))];
    let scaled = report_on(&none, &fetched, Applied::default());
    assert_eq!(words(&scaled, ConditionType::Ready), Some(("True", "ScaledToZero")));
    assert_eq!(message(&scaled), "spec.replicas is 0; 1 pod is still leaving");
}

#[test]
fn a_new_revision_that_fails_beside_one_that_serves() {
    let ended = terminated(1, "Error", &last_words(Reason::ValidationFailed));
    let mut pods = two_ready("00000000aa");
    pods.push(pod("worker-c", valid().revision.as_str(), &in_state(&ended)));
    let mut fetched = with_pods(pods);
    fetched.replica_sets.push(Arc::new(replica_set("00000000aa", 2)));
    let mut deployment = deployment();
    deployment.status = Some(ModelDeploymentStatus {
        active: Some(ActiveRevision {
            revision: "00000000aa".to_owned(),
            environment: "blue".to_owned(),
            since: ago(5000),
            models: Vec::new(),
        }),
        ..ModelDeploymentStatus::default()
    });
    let report = report_on(&deployment, &fetched, Applied::default());
    insta::assert_snapshot!(told(&report));
    assert_eq!(report.status.active, deployment.status.unwrap().active);
}

#[test]
fn a_pod_that_is_late_stalls_with_what_it_waits_for() {
    let mut status = in_state(&waiting("ErrImagePull", "not found"));
    status["conditions"][1]["lastTransitionTime"] = json!(ago(301));
    let report = one_pod(&status);
    let ready = words(&report, ConditionType::Ready);
    assert_eq!(ready, Some(("False", "ImagePullFailed")));
    let stalled = words(&report, ConditionType::Stalled);
    assert_eq!(stalled, Some(("True", "ProgressDeadlineExceeded")));
    assert!(told(&report).contains("not ready within 300 s"), "{}", told(&report));
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
    let revision = validate(&deployment, &Fetched::default(), IMAGE).unwrap().revision;
    let mut fetched = with_pods(two_ready(revision.as_str()));
    fetched.replica_sets = vec![Arc::new(replica_set(revision.as_str(), 2))];
    let report = report_on(&deployment, &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::Validated), Some(("False", "ValidationDisabled")));
    assert!(condition(&report, ConditionType::Validated).unwrap().message.contains("classic:1"));
    assert_eq!(words(&report, ConditionType::Ready), Some(("True", "AllPodsReady")));
}

#[test]
fn a_spec_that_contradicts_itself_waits_for_a_change_and_leaves_pods_alone() {
    let spec = SPEC.replace("name: classic", "name: embedder");
    let deployment = deployment_of(&spec);
    let report = report_on(
        &deployment,
        &with_pods(two_ready(valid().revision.as_str())),
        Applied::default(),
    );
    assert_eq!(words(&report, ConditionType::Stalled), Some(("True", "ModelsInvalid")));
    assert_eq!(words(&report, ConditionType::Available), Some(("True", "SomePodsReady")));
    assert_eq!(words(&report, ConditionType::Degraded), Some(("True", "ModelsInvalid")));
    assert_eq!(report.status.ready_replicas, 2);
    assert_eq!(report.status.observed_generation, Some(3));
}

fn service() -> ObjectName {
    ObjectName { kind: "Service", name: NAME.to_owned() }
}

fn stopped_by(error: ApplyError) -> Report {
    let applied = Applied::nothing_because(error);
    report_on(&deployment(), &with_pods(two_ready(valid().revision.as_str())), applied)
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

#[test]
fn never_are_reconciling_and_stalled_both_true() {
    let ended = |reason| in_state(&terminated(1, "Error", &last_words(reason)));
    let mut reports: Vec<Report> = Reason::ALL.map(|reason| one_pod(&ended(reason))).into();
    reports.push(report(two_ready(valid().revision.as_str())));
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
    let revision = valid().revision;
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
        "podUid": "uid-worker-a", "podName": "worker-a", "revision": revision.as_str(),
        "workerVersion": "0.1.0", "device": "Cpu", "state": "Ready", "uptimeSeconds": 3.0,
        "inFlight": 0, "models": [model("embedder:2.1.0", facts)],
    });
    let mut fetched = with_pods(two_ready(revision.as_str()));
    fetched.reports = BTreeMap::from([("worker-a".to_owned(), Ok(from(answer)))]);
    let report = report_on(&deployment(), &fetched, Applied::default());
    let served = &report.status.active.unwrap().models[0];
    assert_eq!((served.name.as_str(), served.version.as_str()), ("embedder", "2.1.0"));
    assert_eq!((served.parameters, served.bytes), (22_713_216, 91_000_000));
}

#[test]
fn progress_of_a_load_stands_in_the_message() {
    let revision = valid().revision;
    let answer = json!({
        "podUid": "uid-worker-b", "podName": "worker-b", "revision": revision.as_str(),
        "workerVersion": "0.1.0", "device": "Cpu", "state": "Starting", "uptimeSeconds": 3.0,
        "inFlight": 0,
        "models": [{
            "key": "embedder:2.1.0", "task": "Embedding", "state": "Loading",
            "phases": [{"phase": "Fetch", "seconds": 2.5, "bytes": 45_600_000, "done": false}],
        }],
    });
    let mut fetched = with_pods(vec![
        pod("worker-a", revision.as_str(), &ready()),
        pod("worker-b", revision.as_str(), &in_state(&running())),
    ]);
    fetched.reports = BTreeMap::from([("worker-b".to_owned(), Ok(from(answer)))]);
    fetched.ask_again = Some(report::PROGRESS_PERIOD);
    let report = report_on(&deployment(), &fetched, Applied::default());
    let message = &condition(&report, ConditionType::Ready).unwrap().message;
    assert_eq!(
        message,
        "1 of 2 pods ready; pod worker-b: model embedder:2.1.0 is in phase Fetch, 45 MB so far"
    );
    assert_eq!(report.again, report::PROGRESS_PERIOD);
}

#[test]
fn a_pod_that_starts_and_cannot_be_asked_is_named() {
    let revision = valid().revision;
    let mut fetched = with_pods(vec![
        pod("worker-a", revision.as_str(), &ready()),
        pod("worker-b", revision.as_str(), &in_state(&running())),
    ]);
    let silent = || Err(Arc::new(ReportError::Timeout));
    fetched.reports =
        BTreeMap::from([("worker-a".to_owned(), silent()), ("worker-b".to_owned(), silent())]);
    let report = report_on(&deployment(), &fetched, Applied::default());
    assert_eq!(
        condition(&report, ConditionType::Ready).unwrap().message,
        "1 of 2 pods ready; how far pod worker-b is cannot be told: the pod did not answer within 2 s"
    );
    let fetched = Fetched { pods: Vec::new(), ..fetched };
    let report = report_on(&deployment(), &fetched, Applied::default());
    assert!(!told(&report).contains("cannot be told"), "{}", told(&report));
}

#[test]
fn an_evicted_pod_is_no_pod() {
    let revision = valid().revision;
    let mut pods = two_ready(revision.as_str());
    let evicted = json!({"phase": "Failed", "reason": "Evicted"});
    pods.push(pod("worker-0", revision.as_str(), &evicted));
    let report = report(pods);
    assert_eq!(words(&report, ConditionType::Ready), Some(("True", "AllPodsReady")));
    assert_eq!(report.status.replicas, 2);
}

#[test]
fn a_foreign_pod_with_our_labels_is_not_counted() {
    let mut stranger = pod("stranger", valid().revision.as_str(), &ready());
    stranger["metadata"]["ownerReferences"] = json!([]);
    let report = report(vec![stranger]);
    assert_eq!(report.status.candidate.unwrap().pods.ready, 0);
}

#[test]
fn events_tell_transitions_once() {
    let first = report(two_ready(valid().revision.as_str()));
    let told: Vec<_> = first.transitions.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(told, ["AllPodsReady"]);
    let mut settled = deployment();
    settled.status = Some(first.status);
    let fetched = with_pods(two_ready(valid().revision.as_str()));
    let second = report_on(&settled, &fetched, Applied::default());
    assert_eq!(second.transitions, []);
}

#[test]
fn a_failure_is_told_as_a_warning_and_an_action_with_its_reason() {
    let report = one_pod(&in_state(&terminated(1, "Error", &last_words(Reason::DigestMismatch))));
    let [warning] = report.transitions.as_slice() else { panic!("{:?}", report.transitions) };
    assert_eq!((warning.severity, warning.reason.as_str()), (Severity::Warning, "DigestMismatch"));

    let revision = valid().revision;
    let create = lamplighter_plan::Action::Create { revision: revision.clone(), replicas: 2 };
    let applied = Applied { changes: vec![Change::Done(create)], failure: None };
    let report = report_on(&deployment(), &Fetched::default(), applied);
    let [done] = report.done.as_slice() else { panic!("{:?}", report.done) };
    assert_eq!(done.reason, "RevisionCreated");
    assert_eq!(
        done.note,
        format!(
            "create {revision} with 2 replicas: revision {revision} is wanted with 2 replicas and had no workload"
        )
    );
}

#[test]
fn a_deployment_that_is_set_back_is_told_once_and_a_changed_spec_is_no_set_back() {
    let revision = valid().revision;
    let whole = || with_pods(two_ready(revision.as_str()));
    let half = with_pods(vec![
        pod("worker-a", revision.as_str(), &ready()),
        pod("worker-b", revision.as_str(), &in_state(&running())),
    ]);
    let mut settled = deployment();
    settled.status = Some(report_on(&deployment(), &whole(), Applied::default()).status);
    let lost = report_on(&settled, &half, Applied::default());
    let [warning] = lost.transitions.as_slice() else { panic!("{:?}", lost.transitions) };
    assert_eq!(warning.severity, Severity::Warning);
    settled.status = Some(lost.status);
    assert_eq!(report_on(&settled, &half, Applied::default()).transitions, []);

    let mut changed = deployment_of(&SPEC.replace("2.1.0", "2.2.0"));
    changed.metadata.generation = Some(4);
    changed.status = Some(report_on(&deployment(), &whole(), Applied::default()).status);
    assert_eq!(report_on(&changed, &whole(), Applied::default()).transitions, []);
}

#[test]
fn a_failure_during_a_rollout_is_told_before_anything_stalls() {
    let crash = terminated(3, "Error", "no such device");
    let first = one_pod(&in_state(&running()));
    assert_eq!(first.transitions, []);
    let mut deployment = deployment();
    deployment.status = Some(first.status);
    let fetched = with_pods(vec![pod("worker-a", valid().revision.as_str(), &in_state(&crash))]);
    let failing = report_on(&deployment, &fetched, Applied::default());
    let [warning] = failing.transitions.as_slice() else { panic!("{:?}", failing.transitions) };
    let told = (warning.severity, warning.reason.as_str());
    assert_eq!(told, (Severity::Warning, "ContainerCrashed"));
    deployment.status = Some(failing.status);
    assert_eq!(report_on(&deployment, &fetched, Applied::default()).transitions, []);
}

#[test]
fn gates_that_were_passed_stay_passed_while_a_spec_contradicts_itself() {
    let fetched = with_pods(two_ready(valid().revision.as_str()));
    let mut broken = deployment_of(&SPEC.replace("name: classic", "name: embedder"));
    broken.status = Some(report_on(&deployment(), &fetched, Applied::default()).status);
    let report = report_on(&broken, &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::WarmedUp), Some(("True", "WarmUpPassed")));
    assert_eq!(words(&report, ConditionType::Validated), Some(("True", "CasesPassed")));
    let gone = report_on(&broken, &Fetched::default(), Applied::default());
    assert_eq!(words(&gone, ConditionType::WarmedUp), Some(("Unknown", "NotYetObserved")));
}

#[test]
fn a_revision_that_is_gone_after_scaling_to_zero_is_not_named_any_more() {
    let mut deployment = deployment_of(&SPEC.replace("replicas: 2", "replicas: 0"));
    let active = |revision: &str| ActiveRevision {
        revision: revision.to_owned(),
        environment: "blue".to_owned(),
        since: ago(5000),
        models: Vec::new(),
    };
    let status =
        |active| ModelDeploymentStatus { active: Some(active), ..ModelDeploymentStatus::default() };
    deployment.status = Some(status(active("00000000aa")));
    let report = report_on(&deployment, &Fetched::default(), Applied::default());
    assert_eq!((report.status.active, report.status.candidate), (None, None));

    let revision = valid().revision;
    deployment.status = Some(status(active(revision.as_str())));
    let fetched = Fetched {
        replica_sets: vec![Arc::new(replica_set(revision.as_str(), 0))],
        ..Fetched::default()
    };
    let report = report_on(&deployment, &fetched, Applied::default());
    assert_eq!(report.status.active, Some(active(revision.as_str())));
}

#[test]
fn a_stalled_deployment_is_not_polled() {
    let ended = in_state(&terminated(1, "Error", &last_words(Reason::DigestMismatch)));
    let mut fetched = with_pods(vec![pod("worker-a", valid().revision.as_str(), &ended)]);
    fetched.ask_again = Some(report::PROGRESS_PERIOD);
    let report = report_on(&deployment(), &fetched, Applied::default());
    assert!(report.again > std::time::Duration::from_mins(30), "{:?}", report.again);
}

#[test]
fn records_and_pods_without_our_labels_do_not_disturb() {
    let fetched = Fetched {
        records: vec![Arc::new(ControllerRevision::default())],
        pods: vec![Arc::new(Pod::default())],
        ..Fetched::default()
    };
    let report = report_on(&deployment(), &fetched, Applied::default());
    assert_eq!(words(&report, ConditionType::Ready), Some(("False", "NoPodReady")));
}
