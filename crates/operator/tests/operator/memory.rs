//! The memory in the status: what is written is read, and what is read is written back as it was.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, ToSpan};
use lamplighter_api::{
    Acknowledged, FailedRevision, ModelDeploymentStatus, PastRollout, Pin as StatusPin, Place,
};
use lamplighter_operator::reconcile::memory::{Remembered, commands, remembered, write};
use lamplighter_plan::rollout::strategy::{Kind, Trigger};
use lamplighter_plan::rollout::{
    Class, CommandKind, Direction, Environment, Failed, Memory, Phase, Pin, Placed, Rolling,
    Rollout, Withdrawn,
};
use lamplighter_plan::{PodName, RevisionId, Seconds};

use crate::fixtures::{ago, now, on_its_way, serving};

fn placed(revision: &str, environment: Environment) -> Placed {
    Placed { revision: RevisionId::new(revision), environment }
}

fn rollout(from: Option<Placed>, fallback: Option<Placed>, strategy: Kind) -> Rollout {
    Rollout {
        from,
        to: placed("b", Environment::Green),
        fallback,
        strategy,
        triggers: vec![Trigger::Recorded("the models grew".to_owned())],
    }
}

/// Every phase, with everything that it can hold present and absent.
fn phases() -> Vec<Phase> {
    let age = Seconds(17);
    let a = || Some(placed("a", Environment::Blue));
    let amber = || Some(placed("c", Environment::Amber));
    let mut phases = vec![Phase::Stable];
    for rollout in [
        rollout(a(), amber(), Kind::BlueGreen),
        rollout(a(), a(), Kind::Rolling),
        rollout(None, None, Kind::Initial),
    ] {
        phases.extend([
            Phase::Gating(rollout.clone(), age),
            Phase::AwaitingPromotion(rollout.clone(), age),
            Phase::CuttingOver(rollout.clone(), age),
            Phase::Shedding(rollout.clone(), age),
            Phase::Baking(rollout.clone(), age),
            Phase::Reverting(rollout.clone(), age),
            Phase::Clearing(rollout.clone(), age),
        ]);
        let withdrawn = |out| Withdrawn {
            pod: PodName::new("worker-a"),
            revision: RevisionId::new("a"),
            leaves: 2,
            out,
        };
        for direction in [Direction::Forward, Direction::Back] {
            for withdrawn in [None, Some(withdrawn(None)), Some(withdrawn(Some(Seconds(3))))] {
                let rollout = rollout.clone();
                phases.push(Phase::Rolling(Rolling { rollout, direction, since: age, withdrawn }));
            }
        }
    }
    phases
}

fn memory(phase: Phase) -> Memory {
    let failed = |class, released| Failed {
        class,
        reason: "DigestMismatch".to_owned(),
        message: "the bytes are others".to_owned(),
        attempts: 2,
        since: Seconds(90),
        released,
    };
    Memory {
        epoch: 12,
        active: Some(placed("a", Environment::Blue)),
        phase,
        known_good: vec![RevisionId::new("a"), RevisionId::new("z")],
        failed: [
            (RevisionId::new("x"), failed(Class::Deterministic, false)),
            (RevisionId::new("y"), failed(Class::Transient, true)),
            (RevisionId::new("v"), failed(Class::Capacity, false)),
            (RevisionId::new("u"), failed(Class::Withdrawn, false)),
            (RevisionId::new("t"), failed(Class::Outside, false)),
        ]
        .into(),
        acknowledged: [
            (CommandKind::Promote, "b@1".to_owned()),
            (CommandKind::Abort, "now".to_owned()),
            (CommandKind::Retry, "x".to_owned()),
            (CommandKind::RollbackTo, "z".to_owned()),
        ]
        .into(),
        pin: Some(Pin { revision: RevisionId::new("z"), instead_of: RevisionId::new("b") }),
    }
}

fn written(memory: &Memory, before: &Remembered, at: Timestamp) -> ModelDeploymentStatus {
    let previous = ModelDeploymentStatus::default();
    let mut status = write(memory, before, &previous, at, |_| None);
    let active = memory.active.as_ref().unwrap();
    status.active = serving(active.revision.as_str()).active;
    status
}

#[test]
fn what_is_written_is_read_in_every_phase() {
    for phase in phases() {
        let memory = memory(phase);
        let status = written(&memory, &Remembered::default(), now());
        let read = remembered(Some(&status), now());
        assert_eq!(read.memory, memory);
        assert_eq!(read.unread, [""; 0]);
        assert!(!read.is_lost);
    }
}

/// Guarantees: return-08.
#[test]
fn what_is_read_later_is_written_back_with_the_same_times() {
    for phase in phases() {
        let status = written(&memory(phase), &Remembered::default(), now());
        let later = now().checked_add(1234.seconds()).unwrap();
        let read = remembered(Some(&status), later);
        let again = write(&read.memory, &read, &status, later, |_| None);
        assert_eq!(again.rollout, status.rollout);
        assert_eq!(again.failed_revisions, status.failed_revisions);
        assert_eq!(again.known_good, status.known_good);
    }
}

/// The status has whole seconds. A time that was rounded down would end a wait too early.
///
/// Guarantees: return-08.
#[test]
fn a_new_time_is_never_before_now() {
    let at = now().checked_add(300.milliseconds()).unwrap();
    let memory = memory(Phase::Gating(rollout(None, None, Kind::Initial), Seconds(0)));
    let since = written(&memory, &Remembered::default(), at).rollout.unwrap().since;
    assert!(since.0 >= at && since.0.duration_since(at).as_millis() < 1000, "{since:?}");
}

/// Guarantees: return-08.
#[test]
fn a_time_that_is_yet_to_come_has_no_age() {
    let mut status = on_its_way();
    status.rollout.as_mut().unwrap().since = Time(now().checked_add(1.hour()).unwrap());
    let Phase::Gating(_, since) = remembered(Some(&status), now()).memory.phase else {
        panic!("another phase")
    };
    assert_eq!(since, Seconds(0));
}

type Spoil = fn(&mut ModelDeploymentStatus);

/// Guarantees: operator-04.
#[test]
fn words_that_nobody_knows_are_left_out_and_named() {
    let known = || {
        let mut status = on_its_way();
        status.active = serving("a").active;
        status
    };
    let table: [(&str, Spoil); 5] = [
        ("rollout in phase Melting", |status| {
            status.rollout.as_mut().unwrap().phase = "Melting".to_owned();
        }),
        ("rollout in phase Gating", |status| {
            status.rollout.as_mut().unwrap().strategy = "Canary".to_owned();
        }),
        ("rollout in phase Gating", |status| {
            status.rollout.as_mut().unwrap().fallback =
                Some(Place { revision: "a".to_owned(), environment: "mauve".to_owned() });
        }),
        ("environment mauve", |status| {
            status.active.as_mut().unwrap().environment = "mauve".to_owned();
        }),
        ("failure of class Cosmic", |status| status.failed_revisions = vec![failed("Cosmic")]),
    ];
    for (named, spoil) in table {
        let mut status = known();
        spoil(&mut status);
        let read = remembered(Some(&status), now());
        assert!(read.unread.iter().any(|unread| unread == named), "{named}: {:?}", read.unread);
        if named.starts_with("rollout") {
            assert_eq!(read.memory.phase, Phase::Stable);
            assert!(read.memory.active.is_some(), "the rest is read");
        }
    }
    let mut status = known();
    status.acknowledged = vec![Acknowledged { command: "dance".to_owned(), token: "1".to_owned() }];
    assert!(remembered(Some(&status), now()).memory.acknowledged.is_empty());
}

fn failed(class: &str) -> FailedRevision {
    FailedRevision {
        revision: "x".to_owned(),
        class: class.to_owned(),
        reason: "Why".to_owned(),
        message: "because".to_owned(),
        attempts: 1,
        time: ago(5),
        next_retry_time: None,
        released: false,
    }
}

/// Guarantees: operator-04.
#[test]
fn a_status_without_an_epoch_has_lost_its_memory() {
    assert!(remembered(None, now()).is_lost);
    let mut status = serving("a");
    status.epoch = None;
    let read = remembered(Some(&status), now());
    assert!(read.is_lost);
    assert_eq!(read.memory.active, Some(placed("a", Environment::Blue)), "an earlier release's");
}

/// Guarantees: api-05.
#[test]
fn a_command_is_a_revision_and_what_tells_it_from_the_last_time() {
    let table = [
        ("promote", "4711", Some("4711")),
        ("promote", " 4711@again ", Some("4711")),
        ("retry", "", None),
        ("abort", "4711", None),
        ("rollback-to", "4711@2", Some("4711")),
    ];
    for (command, value, revision) in table {
        let annotations =
            [(format!("lamplighter.dev/{command}"), value.to_owned())].into_iter().collect();
        let heard = commands(&annotations);
        let [(_, heard)] = heard.iter().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(heard.token, value.trim());
        assert_eq!(heard.revision.as_ref().map(RevisionId::as_str), revision, "{command} {value}");
    }
    assert!(commands(&[("promote".to_owned(), "4711".to_owned())].into()).is_empty());
    let long = [("lamplighter.dev/abort".to_owned(), "x".repeat(9000))].into();
    assert!(commands(&long)[&CommandKind::Abort].token.len() <= 256);
}

/// etcd takes 1.5 MiB and the apiserver copies a status many times over: it is to stay far below.
///
/// Guarantees: told-04.
#[test]
fn the_largest_status_stays_below_64_kib() {
    let long = "é".repeat(4000);
    let mut memory = memory(Phase::Stable);
    let mut wide = rollout(Some(placed("a", Environment::Blue)), None, Kind::BlueGreen);
    wide.triggers = vec![Trigger::Recorded(long.clone()); 40];
    memory.phase = Phase::Gating(wide, Seconds(1));
    memory.failed = (0..10)
        .map(|number| {
            let failed = Failed {
                class: Class::Deterministic,
                reason: long.clone(),
                message: long.clone(),
                attempts: u32::MAX,
                since: Seconds(u32::MAX),
                released: true,
            };
            (RevisionId::new(format!("{number:010}")), failed)
        })
        .collect();
    let mut status = written(&memory, &Remembered::default(), now());
    let past = PastRollout {
        from: Some("0123456789".to_owned()),
        to: "0123456789".to_owned(),
        strategy: "BlueGreen".to_owned(),
        outcome: "RolledBackAuto".to_owned(),
        started_time: ago(1),
        finished_time: ago(0),
    };
    status.history = vec![past; 10];
    status.pin = Some(StatusPin { revision: "a".to_owned(), instead_of: "b".to_owned() });
    let mut conditions = lamplighter_api::Conditions::new();
    for kind in lamplighter_api::ConditionType::ALL {
        conditions.set(kind, true, lamplighter_api::Reason::RollingOut, long.clone());
    }
    status.conditions = conditions.build(&[], Some(1), &ago(0));
    let model = serde_json::json!({
        "name": "n".repeat(63), "version": "v".repeat(64), "digest": "d".repeat(71),
        "architecture": "a".repeat(256), "parameters": i64::MAX, "bytes": i64::MAX,
    });
    status.active.as_mut().unwrap().models = vec![serde_json::from_value(model).unwrap(); 8];
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 64 * 1024, "{size} bytes");
    assert!(size > 20 * 1024, "{size} bytes is not the largest");
    for failed in &status.failed_revisions {
        assert!(failed.message.len() <= 1024 && failed.reason.len() <= 128);
    }
}
