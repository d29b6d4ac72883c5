//! What each condition says in each phase of a rollout.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::ToSpan;
use kube::ResourceExt;
use lamplighter_api::{ConditionType, ModelDeployment};
use lamplighter_operator::reconcile::apply::Applied;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::report::Report;
use lamplighter_protocol::Reason;
use serde_json::{Value, json};

use crate::conditions::{
    coming, last_words, replacing, report_at, report_on, settled, told, two_ready, words,
};
use crate::fixtures::{
    ago, deployment, from, having, in_state, moved, now, pod, ready, replica_set, running, serving,
    slice_of, terminated, wanted, with_pods,
};

/// The world in one word per condition: `+`, `-` or `?` and the reason.
fn truth(report: &Report) -> String {
    let line = |condition: &Condition| {
        let sign = match condition.status.as_str() {
            "True" => "+",
            "False" => "-",
            _ => "?",
        };
        format!("{sign}{} {}", condition.type_, condition.reason)
    };
    report.status.conditions.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Old pods that serve in blue, and the wanted revision's in green.
fn beside(new: Vec<Value>, slices: &str) -> Fetched {
    let mut pods = two_ready("00000000aa");
    pods.extend(new.into_iter().map(|pod| moved(pod, "green")));
    let mut fetched = with_pods(pods);
    let new = serde_json::to_value(replica_set(&wanted(), 2)).unwrap();
    fetched.replica_sets =
        vec![Arc::new(replica_set("00000000aa", 2)), Arc::new(from(moved(new, "green")))];
    fetched.service = Some(Arc::new(crate::fixtures::service(slices)));
    let reached: Vec<_> = fetched
        .pods
        .iter()
        .filter(|pod| pod.labels()["lamplighter.dev/environment"] == slices)
        .cloned()
        .collect();
    fetched.endpoint_slices = vec![Arc::new(slice_of(&reached))];
    fetched
}

fn new_pods(status: &Value) -> Vec<Value> {
    vec![pod("worker-c", &wanted(), status), pod("worker-d", &wanted(), status)]
}

fn in_phase(phase: &str, active: (&str, &str)) -> ModelDeployment {
    let mut status = replacing();
    let rollout = status.rollout.as_mut().unwrap();
    phase.clone_into(&mut rollout.phase);
    rollout.since = ago(3);
    let serving = status.active.as_mut().unwrap();
    active.0.clone_into(&mut serving.revision);
    active.1.clone_into(&mut serving.environment);
    having(deployment(), status)
}

/// What each condition says in each phase, and what kstatus makes of it.
///
/// Guarantees: always-08, return-13, api-04, told-02.
#[test]
fn the_truth_table_of_a_rollout() {
    let manual = |mut deployment: ModelDeployment| {
        deployment.spec.rollout.promotion = lamplighter_api::Promotion::Manual;
        deployment
    };
    let paused = |mut deployment: ModelDeployment| {
        deployment.spec.paused = true;
        deployment
    };
    let wrong = in_state(&terminated(1, "Error", &last_words(Reason::ValidationFailed)));
    let old = ("00000000aa", "blue");
    let new_revision = wanted();
    let new = (new_revision.as_str(), "green");
    let failed = |class: &str, outcome: Option<&str>| {
        let mut status = serving("00000000aa");
        status.failed_revisions = vec![lamplighter_api::FailedRevision {
            revision: wanted(),
            class: class.to_owned(),
            reason: "DownloadFailed".to_owned(),
            message: "pod worker-c: the store is away".to_owned(),
            attempts: 1,
            time: ago(5),
            next_retry_time: None,
            released: false,
        }];
        status.history = outcome
            .map(|outcome| lamplighter_api::PastRollout {
                from: Some("00000000aa".to_owned()),
                to: wanted(),
                strategy: "BlueGreen".to_owned(),
                outcome: outcome.to_owned(),
                started_time: ago(60),
                finished_time: ago(5),
            })
            .into_iter()
            .collect();
        having(deployment(), status)
    };
    let pinned = || {
        let mut status = serving("00000000aa");
        status.pin =
            Some(lamplighter_api::Pin { revision: "00000000aa".to_owned(), instead_of: wanted() });
        having(deployment(), status)
    };
    let alone = || {
        let mut fetched = with_pods(two_ready("00000000aa"));
        fetched.replica_sets = vec![Arc::new(replica_set("00000000aa", 2))];
        fetched
    };
    let unread = || {
        let mut fetched = alone();
        fetched.records = Vec::new();
        fetched
    };
    let idle = || having(deployment(), serving("00000000aa"));
    let ready_pods = || new_pods(&ready());
    let table = vec![
        ("first install, being read", deployment(), Fetched::default()),
        ("first install, gates", coming(), with_pods(new_pods(&in_state(&running())))),
        ("serving", settled(), with_pods(two_ready(&wanted()))),
        ("change, being read", idle(), unread()),
        ("change, paused", paused(idle()), alone()),
        ("gates", in_phase("Gating", old), beside(new_pods(&in_state(&running())), "blue")),
        ("a gate says no", in_phase("Gating", old), beside(new_pods(&wrong), "blue")),
        (
            "waits for a person",
            manual(in_phase("AwaitingPromotion", old)),
            beside(ready_pods(), "blue"),
        ),
        ("switch", in_phase("CuttingOver", old), beside(ready_pods(), "blue")),
        ("after the switch", in_phase("Shedding", new), beside(ready_pods(), "green")),
        ("window", in_phase("Baking", new), beside(ready_pods(), "green")),
        ("failed, tried again", failed("Transient", None), alone()),
        ("failed, given up", failed("Deterministic", Some("Aborted")), alone()),
        ("failed, somebody has to act", failed("Outside", None), alone()),
        ("returned by itself", failed("Deterministic", Some("RolledBackAuto")), alone()),
        ("returned on request", pinned(), alone()),
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|(what, deployment, fetched)| {
            let report = report_on(deployment, fetched, Applied::default());
            let serves = !what.starts_with("first install");
            let available = words(&report, ConditionType::Available).unwrap();
            assert_eq!(available.0 == "True", serves, "{what}: {}", told(&report));
            format!("{what}\n  kstatus {}\n  {}", kstatus(&report), truth(&report))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Whoever waits for its next attempt, for days if need be, is not written again and again.
#[test]
fn time_that_passes_until_the_next_attempt_is_no_news() {
    for class in ["Transient", "Outside"] {
        let mut status = serving("00000000aa");
        status.failed_revisions = vec![from(json!({
            "revision": wanted(), "class": class, "reason": "AuthDenied", "message": "no such key",
            "attempts": 1, "time": ago(5),
        }))];
        let mut fetched = with_pods(two_ready("00000000aa"));
        fetched.replica_sets = vec![Arc::new(replica_set("00000000aa", 2))];
        let first = report_on(&having(deployment(), status), &fetched, Applied::default());
        let told = having(deployment(), first.status.clone());
        let later = now().checked_add(12.seconds()).unwrap();
        let second = report_at(later, &told, &fetched, Applied::default());
        assert_eq!(second.status, first.status, "{class}");
        assert!(first.status.failed_revisions[0].next_retry_time.is_some());
        assert!(second.again <= std::time::Duration::from_secs(30), "{:?}", second.again);
    }
}

/// As <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md> reads it.
fn kstatus(report: &Report) -> &'static str {
    let holds = |kind| words(report, kind).is_some_and(|(status, _)| status == "True");
    if holds(ConditionType::Stalled) {
        "Failed"
    } else if holds(ConditionType::Reconciling) || !holds(ConditionType::Ready) {
        "InProgress"
    } else {
        "Current"
    }
}
