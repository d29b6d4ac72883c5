//! One situation, one verdict.

use lamplighter_plan::standing::{Cause, PodPhase, State, World, explain, verdict};
use lamplighter_plan::{FailureClass, Seconds};

use crate::build::{
    DEADLINE, WorldExt, failed, id, pod, ready, starting, terminating, unschedulable, waiting, want,
};

fn stalled_by(state: &State) -> (&'static str, Option<Seconds>) {
    let State::Stalled { cause, deadline } = state else { panic!("not stalled: {state}") };
    (kind(cause), *deadline)
}

fn kind(cause: &Cause) -> &'static str {
    match cause {
        Cause::Creating { .. } => "Creating",
        Cause::Refused { .. } => "Refused",
        Cause::Unschedulable { .. } => "Unschedulable",
        Cause::Waiting { .. } => "Waiting",
        Cause::Failed { .. } => "Failed",
        Cause::Starting { .. } => "Starting",
        Cause::Retiring { .. } => "Retiring",
    }
}

#[test]
fn a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let world = World { deleting: true, ..want("new", 2).have("old", 1, vec![ready()]) };
    assert_eq!(verdict(&world).state, State::Deleting);
}

#[test]
fn a_deterministic_failure_stalls_at_once() {
    let pods = vec![ready(), failed("DigestMismatch", FailureClass::Deterministic, 4)];
    let found = verdict(&want("new", 2).have("new", 2, pods));
    assert_eq!(stalled_by(&found.state), ("Failed", None));
}

#[test]
fn a_transient_failure_is_progress_until_the_deadline() {
    let within = want("new", 1).have(
        "new",
        1,
        vec![failed("DownloadFailed", FailureClass::Transient, DEADLINE.0)],
    );
    let State::Progressing(cause) = verdict(&within).state else { panic!("not progressing") };
    assert_eq!(kind(&cause), "Failed");
    let after = want("new", 1).have(
        "new",
        1,
        vec![failed("DownloadFailed", FailureClass::Transient, DEADLINE.0 + 1)],
    );
    assert_eq!(stalled_by(&verdict(&after).state), ("Failed", Some(DEADLINE)));
}

#[test]
fn every_kind_of_waiting_ends_at_the_deadline() {
    let late = DEADLINE.0 + 1;
    for (pod, expected) in [
        (starting(late), "Starting"),
        (waiting("ImagePullBackOff", late), "Waiting"),
        (unschedulable("no node", late), "Unschedulable"),
    ] {
        let world = want("new", 1).have("new", 1, vec![pod]);
        assert_eq!(stalled_by(&verdict(&world).state), (expected, Some(DEADLINE)));
    }
}

#[test]
fn pods_that_are_never_created_end_at_the_deadline_too() {
    let world = want("new", 1).have("new", 1, Vec::new()).refused("new", "exceeded quota", 4);
    assert_eq!(
        verdict(&world).state,
        State::Progressing(Cause::Refused { message: "exceeded quota".to_owned() })
    );
    let late = world.asked_for("new", DEADLINE.0 + 1);
    assert_eq!(stalled_by(&verdict(&late).state), ("Refused", Some(DEADLINE)));
}

#[test]
fn a_failing_pod_disturbs_a_revision_that_worked_and_still_serves() {
    let pods = vec![ready(), failed("OutOfMemory", FailureClass::Deterministic, 4)];
    let world = want("new", 2).have("new", 2, pods).settled("new");
    let State::Disturbed(cause) = verdict(&world).state else { panic!("not disturbed") };
    assert_eq!(kind(&cause), "Failed");
}

#[test]
fn a_revision_that_worked_is_not_condemned_by_one_failure_and_stalls_at_its_deadline() {
    let failing = |since| {
        let pods = vec![failed("DigestMismatch", FailureClass::Deterministic, since)];
        want("new", 1).have("new", 1, pods).asked_for("new", 9000).settled("new")
    };
    let first = verdict(&failing(4));
    let State::Disturbed(cause) = first.state else { panic!("not disturbed") };
    assert_eq!(kind(&cause), "Failed");
    let late = verdict(&failing(DEADLINE.0 + 1));
    assert_eq!(stalled_by(&late.state), ("Failed", Some(DEADLINE)));
}

#[test]
fn a_pod_that_went_missing_long_after_the_last_order_is_missing_since_now() {
    let world = want("new", 1).have("new", 1, Vec::new()).asked_for("new", 9000).settled("new");
    assert_eq!(verdict(&world).state, State::Progressing(Cause::Creating { pods: 0, of: 1 }));
}

#[test]
fn a_missing_pod_is_overdue_when_the_cluster_has_refused_it_for_that_long() {
    let refused = |since| {
        want("new", 1)
            .have("new", 1, Vec::new())
            .asked_for("new", 9000)
            .refused("new", "exceeded quota", since)
            .settled("new")
    };
    assert!(matches!(verdict(&refused(600)).state, State::Progressing(_)));
    assert_eq!(stalled_by(&verdict(&refused(601)).state), ("Refused", Some(DEADLINE)));
}

#[test]
fn pods_that_are_evicted_again_and_again_name_it_and_meet_the_deadline_of_the_rollout() {
    let evicted = |asked| {
        let world = want("new", 1).have("new", 1, vec![waiting("ContainerCreating", 2)]);
        world.asked_for("new", asked).evicted("new", 3)
    };
    let State::Progressing(cause) = verdict(&evicted(600)).state else { panic!("stalled") };
    assert_eq!(cause.to_string(), "pod new-gone ended with Evicted: the node was low on memory");
    assert_eq!(stalled_by(&verdict(&evicted(601)).state), ("Failed", Some(DEADLINE)));
}

#[test]
fn an_eviction_disturbs_a_revision_that_worked_and_an_old_one_is_not_blamed() {
    let evicted = |since| {
        let world = want("new", 2).have("new", 2, vec![ready(), starting(2)]);
        world.asked_for("new", 9000).evicted("new", since).settled("new")
    };
    let State::Disturbed(cause) = verdict(&evicted(3)).state else { panic!("not disturbed") };
    assert_eq!(kind(&cause), "Failed");
    let State::Progressing(cause) = verdict(&evicted(601)).state else { panic!("blamed") };
    assert_eq!(kind(&cause), "Starting");
}

#[test]
fn each_pod_that_becomes_ready_is_a_step_that_extends_a_rollout() {
    let world = want("new", 3)
        .have("new", 3, vec![pod(PodPhase::Ready, 20), starting(50), starting(50)])
        .asked_for("new", 900);
    assert!(matches!(verdict(&world).state, State::Progressing(_)));
}

/// Guarantees: surroundings-03.
#[test]
fn pods_that_never_finish_terminating_do_not_keep_a_deployment_from_being_complete() {
    let lost = || vec![pod(PodPhase::Terminating, 90_000)];
    let complete = want("new", 1).have("new", 1, vec![ready()]).have("old", 0, lost());
    let rolled = verdict(&complete);
    assert_eq!(rolled.state, State::Complete);

    let zero = verdict(&want("new", 0).have("new", 0, lost()));
    assert_eq!(zero.state, State::ScaledToZero);
}

#[test]
fn a_surplus_is_progress_until_its_pods_are_told_to_leave_or_the_deadline_passes() {
    let pods = || vec![ready(), ready(), ready()];
    let retiring = State::Progressing(Cause::Retiring { pods: 2 });
    let ordered = verdict(&want("new", 1).have("new", 3, pods()));
    assert_eq!(ordered.state, retiring);
    let waiting = verdict(&want("new", 1).have("new", 1, pods()));
    assert_eq!(waiting.state, retiring);
    let late = verdict(&want("new", 1).have("new", 1, pods()).asked_for("new", DEADLINE.0 + 1));
    assert_eq!(late.state, State::Complete);
    let leaving = want("new", 1).have("new", 1, vec![ready(), terminating(), terminating()]);
    assert_eq!(verdict(&leaving).state, State::Complete);
}

#[test]
fn growing_a_revision_that_worked_is_progress_and_past_the_deadline_a_disturbance() {
    let growing = |since| {
        want("new", 2)
            .have("new", 2, vec![ready(), unschedulable("no gpu left", since)])
            .settled("new")
    };
    assert!(matches!(verdict(&growing(9)).state, State::Progressing(_)));
    assert!(matches!(verdict(&growing(601)).state, State::Disturbed(_)));
}

#[test]
fn the_routable_pods_of_every_revision_are_counted() {
    let world = want("new", 3).have("old", 2, vec![ready(), ready(), terminating()]).have(
        "new",
        3,
        vec![ready(), starting(9)],
    );
    let routable = verdict(&world).routable;
    assert_eq!((routable.wanted, routable.of, routable.total()), (1, 3, 3));
    assert_eq!(routable.older.get(&id("old")), Some(&2));
}

#[test]
fn pods_on_their_way_out_are_counted_in_words_over_all_revisions() {
    let world = want("new", 1).have("new", 1, vec![ready()]);
    assert_eq!(explain::leaving(&world), None);
    let world = world.have("old", 0, vec![terminating()]);
    assert_eq!(explain::leaving(&world).as_deref(), Some("1 pod is still leaving"));
    let world = world.have("older", 0, vec![terminating(), starting(5)]);
    assert_eq!(explain::leaving(&world).as_deref(), Some("2 pods are still leaving"));
}
