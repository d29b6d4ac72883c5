//! Where to go, and how long to wait before a failed revision is tried again.

use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::{Class, Note, OnInsufficientCapacity, Phase, Plan, Pod, World};

use crate::build::{Blue, Build, id, plan, serves, serving, want};

/// When a revision that failed is tried again.
#[derive(Debug, Eq, PartialEq)]
enum Tried {
    Now,
    In(u32),
    WhenAsked,
}

use Tried::{In, Now, WhenAsked};

fn tried(plan: &Plan) -> Tried {
    let waits = plan.notes.iter().find_map(|note| match note {
        Note::Quarantined { retry, .. } => {
            Some(retry.map_or(WhenAsked, |Seconds(seconds)| In(seconds)))
        }
        _ => None,
    });
    waits.unwrap_or(Now)
}

fn begins(plan: &Plan) -> bool {
    plan.notes.iter().any(|note| matches!(note, Note::Began { .. }))
}

/// Guarantees: retry-02.
#[test]
fn waits_double_up_to_the_cap() {
    let waits = [(1, 20), (2, 40), (3, 80)];
    for (attempts, wait) in waits {
        let plan = plan(&serving().failed("b", Class::Transient, attempts, 0));
        assert_eq!(tried(&plan), In(wait), "{attempts}");
        assert_eq!(plan.wake, Some(Seconds(wait + 1)));
    }
    let of = |attempts| {
        let wait = OnInsufficientCapacity::Wait;
        let world = serving().failed("b", Class::Capacity, attempts, 0);
        tried(&plan(&world.policy(|policy| policy.capacity = wait)))
    };
    assert_eq!(of(3), In(80));
    assert_eq!(of(4), In(100));
    assert_eq!(of(u32::MAX), In(100));
}

/// Guarantees: retry-02.
#[test]
fn a_failure_is_tried_again_exactly_when_the_wait_is_over() {
    let early = plan(&serving().failed("b", Class::Transient, 2, 39));
    assert_eq!(tried(&early), In(1));
    assert!(!begins(&early));
    let due = plan(&serving().failed("b", Class::Transient, 2, 40));
    assert_eq!(tried(&due), Now);
    assert!(begins(&due));
}

/// Guarantees: gates-08, retry-02.
#[test]
fn attempts_are_used_up() {
    let used = plan(&serving().failed("b", Class::Transient, 4, 10_000));
    assert_eq!(tried(&used), WhenAsked);
    assert_eq!(used.wake, None);
    assert!(!begins(&used));
}

/// Guarantees: retry-01, retry-04.
#[test]
fn what_fails_again_or_was_withdrawn_waits_for_a_person() {
    for class in [Class::Deterministic, Class::Withdrawn] {
        let plan = plan(&serving().failed("b", class, 1, 10_000));
        assert_eq!(tried(&plan), WhenAsked, "{class}");
        assert_eq!(plan.wake, None);
    }
}

/// Guarantees: retry-01.
#[test]
fn a_released_revision_is_tried_at_once_whatever_it_failed_with() {
    for class in [Class::Deterministic, Class::Withdrawn, Class::Transient, Class::Capacity] {
        let mut world = serving().failed("b", class, 9, 0);
        for failed in world.memory.failed.values_mut() {
            failed.released = true;
        }
        assert!(begins(&plan(&world)), "{class}");
    }
}

/// Guarantees: capacity-02.
#[test]
fn without_a_place_it_depends_on_the_policy_whether_it_is_asked_for_again() {
    let cases = [
        (OnInsufficientCapacity::Wait, In(20)),
        (OnInsufficientCapacity::Fallback, In(20)),
        (OnInsufficientCapacity::Reject, WhenAsked),
    ];
    for (capacity, wait) in cases {
        let world = serving().failed("b", Class::Capacity, 1, 0);
        let plan = plan(&world.policy(|policy| policy.capacity = capacity));
        assert_eq!(tried(&plan), wait, "{capacity:?}");
    }
}

/// `a` serves and answers wrongly, and `g` is known to be good.
fn failing() -> World {
    let wrong = || Pod { wrong: true, ..serves() };
    let mut world = want("a", 2).have("a", Blue, vec![wrong(), wrong()]).active("a", Blue);
    world.memory.known_good = vec![id("g")];
    world.failed("a", Class::Deterministic, 1, 0).known("g")
}

/// Guarantees: return-04.
#[test]
fn what_serves_and_is_given_up_is_left_for_what_is_known_to_be_good() {
    assert!(begins(&plan(&failing())));
    let nowhere = plan(&failing().failed("g", Class::Deterministic, 1, 0));
    assert!(!begins(&nowhere));
    assert_eq!(nowhere.memory.phase, Phase::Stable);
}

/// Guarantees: always-10.
#[test]
fn who_is_to_be_returned_to_may_have_to_wait_and_is_woken_for() {
    let waits = plan(&failing().failed("g", Class::Transient, 1, 5));
    assert_eq!(waits.wake, Some(Seconds(16)));
}
