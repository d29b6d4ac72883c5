//! One situation, one expected decision.

use lamplighter_plan::{
    Action, Cause, FailureClass, Plan, PodPhase, Seconds, State, World, check, decide, explain,
};

use crate::build::{
    DEADLINE, WorldExt, failed, id, pod, ready, starting, terminating, unschedulable, waiting, want,
};

/// Decides, and holds the plan against the invariants.
fn plan(world: &World) -> Plan {
    let plan = decide(world);
    assert_eq!(check::violations(world, &plan), Vec::new(), "{plan:#?}");
    plan
}

fn create(revision: &str, replicas: u32) -> Action {
    Action::Create { revision: id(revision), replicas }
}

fn scale(revision: &str, from: u32, to: u32) -> Action {
    Action::Scale { revision: id(revision), from, to }
}

fn delete(revision: &str) -> Action {
    Action::Delete { revision: id(revision) }
}

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
fn a_new_deployment_gets_a_workload_of_the_wanted_size() {
    let plan = plan(&want("new", 3));
    assert_eq!(plan.actions, [create("new", 3)]);
    assert_eq!(plan.verdict.state, State::Progressing(Cause::Creating { pods: 0, of: 3 }));
}

#[test]
fn a_complete_deployment_is_left_alone() {
    let plan = plan(&want("new", 2).have("new", 2, vec![ready(), ready()]));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.verdict.state, State::Complete);
    assert_eq!(plan.wake, None);
}

#[test]
fn a_workload_follows_the_wanted_number_up_and_down() {
    let up = plan(&want("new", 3).have("new", 2, vec![ready(), ready()]));
    assert_eq!(up.actions, [scale("new", 2, 3)]);
    let down = plan(&want("new", 1).have("new", 2, vec![ready(), ready()]));
    assert_eq!(down.actions, [scale("new", 2, 1)]);
}

#[test]
fn an_older_revision_keeps_its_pods_while_the_wanted_one_is_not_ready_in_full() {
    let world = want("new", 2).have("old", 2, vec![ready(), ready()]).have(
        "new",
        2,
        vec![ready(), starting(30)],
    );
    assert_eq!(plan(&world).actions, []);
}

#[test]
fn an_older_revision_gives_up_all_pods_once_the_wanted_one_is_ready_in_full() {
    let world = want("new", 2).have("old", 3, vec![ready(), ready(), ready()]).have(
        "new",
        2,
        vec![ready(), ready()],
    );
    let plan = plan(&world);
    assert_eq!(plan.actions, [scale("old", 3, 0)]);
    assert_eq!(plan.verdict.state, State::Progressing(Cause::Retiring { pods: 3 }));
}

#[test]
fn an_older_workload_is_deleted_only_after_its_last_pod_is_gone() {
    let complete = want("new", 1).have("new", 1, vec![ready()]);
    let leaving = complete.clone().have("old", 0, vec![terminating()]);
    assert_eq!(plan(&leaving).actions, []);
    let gone = complete.have("old", 0, Vec::new());
    assert_eq!(plan(&gone).actions, [delete("old")]);
}

#[test]
fn an_older_revision_that_serves_nobody_makes_room_while_another_serves() {
    let world = want("fix", 1)
        .have("good", 1, vec![ready()])
        .have("bad", 1, vec![failed("DigestMismatch", FailureClass::Deterministic, 40)])
        .have("fix", 1, vec![unschedulable("0/1 nodes are available: 1 Insufficient gpu", 2)]);
    assert_eq!(plan(&world).actions, [scale("bad", 1, 0)]);
}

#[test]
fn an_older_revision_that_serves_nobody_stays_when_no_other_serves() {
    let world = want("new", 1).have("old", 1, vec![starting(5)]).have("new", 1, vec![starting(5)]);
    assert_eq!(plan(&world).actions, []);
}

#[test]
fn going_back_to_a_revision_that_is_still_there_creates_nothing() {
    let world = want("old", 1).have("old", 1, vec![ready()]).have(
        "bad",
        1,
        vec![failed("ValidationFailed", FailureClass::Deterministic, 40)],
    );
    assert_eq!(plan(&world).actions, [scale("bad", 1, 0)]);
}

#[test]
fn zero_replicas_take_every_revision_down() {
    let world =
        want("new", 0).have("old", 1, vec![ready()]).have("new", 2, vec![ready(), starting(3)]);
    assert_eq!(plan(&world).actions, [scale("new", 2, 0), scale("old", 1, 0)]);
    let empty = plan(&want("new", 0).have("new", 0, Vec::new()));
    assert_eq!(empty.verdict.state, State::ScaledToZero);
    assert_eq!(empty.actions, []);
}

#[test]
fn a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let world = World { deleting: true, ..want("new", 2).have("old", 1, vec![ready()]) };
    let plan = plan(&world);
    assert_eq!(plan.actions, []);
    assert_eq!(plan.verdict.state, State::Deleting);
}

#[test]
fn only_the_newest_records_are_kept() {
    let world = (0..12).fold(want("new", 1).have("new", 1, vec![ready()]), |world, age| {
        world.recorded(&format!("r{age:02}"), 100 - age)
    });
    let forgotten = ["r11", "r10"].map(|revision| Action::Forget { revision: id(revision) });
    assert_eq!(plan(&world).actions, forgotten);
}

#[test]
fn a_deterministic_failure_stalls_at_once() {
    let pods = vec![ready(), failed("DigestMismatch", FailureClass::Deterministic, 4)];
    let plan = plan(&want("new", 2).have("new", 2, pods));
    assert_eq!(stalled_by(&plan.verdict.state), ("Failed", None));
}

#[test]
fn a_transient_failure_is_progress_until_the_deadline() {
    let within = want("new", 1).have(
        "new",
        1,
        vec![failed("DownloadFailed", FailureClass::Transient, DEADLINE.0)],
    );
    let State::Progressing(cause) = plan(&within).verdict.state else { panic!("not progressing") };
    assert_eq!(kind(&cause), "Failed");
    let after = want("new", 1).have(
        "new",
        1,
        vec![failed("DownloadFailed", FailureClass::Transient, DEADLINE.0 + 1)],
    );
    assert_eq!(stalled_by(&plan(&after).verdict.state), ("Failed", Some(DEADLINE)));
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
        assert_eq!(stalled_by(&plan(&world).verdict.state), (expected, Some(DEADLINE)));
    }
}

#[test]
fn pods_that_are_never_created_end_at_the_deadline_too() {
    let world = want("new", 1).have("new", 1, Vec::new()).refused("new", "exceeded quota", 4);
    assert_eq!(
        plan(&world).verdict.state,
        State::Progressing(Cause::Refused { message: "exceeded quota".to_owned() })
    );
    let late = world.asked_for("new", DEADLINE.0 + 1);
    assert_eq!(stalled_by(&plan(&late).verdict.state), ("Refused", Some(DEADLINE)));
}

#[test]
fn a_failing_pod_disturbs_a_revision_that_worked_and_still_serves() {
    let pods = vec![ready(), failed("OutOfMemory", FailureClass::Deterministic, 4)];
    let world = want("new", 2).have("new", 2, pods).settled("new");
    let State::Disturbed(cause) = plan(&world).verdict.state else { panic!("not disturbed") };
    assert_eq!(kind(&cause), "Failed");
}

#[test]
fn a_revision_that_worked_is_not_condemned_by_one_failure_and_stalls_at_its_deadline() {
    let failing = |since| {
        let pods = vec![failed("DigestMismatch", FailureClass::Deterministic, since)];
        want("new", 1).have("new", 1, pods).asked_for("new", 9000).settled("new")
    };
    let first = plan(&failing(4));
    let State::Disturbed(cause) = first.verdict.state else { panic!("not disturbed") };
    assert_eq!((kind(&cause), first.wake), ("Failed", Some(Seconds(DEADLINE.0 - 3))));
    let late = plan(&failing(DEADLINE.0 + 1));
    assert_eq!(stalled_by(&late.verdict.state), ("Failed", Some(DEADLINE)));
}

#[test]
fn a_pod_that_went_missing_long_after_the_last_order_is_missing_since_now() {
    let world = want("new", 1).have("new", 1, Vec::new()).asked_for("new", 9000).settled("new");
    let plan = plan(&world);
    assert_eq!(plan.verdict.state, State::Progressing(Cause::Creating { pods: 0, of: 1 }));
    assert_eq!(plan.wake, Some(Seconds(DEADLINE.0 + 1)));
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
    assert_eq!(plan(&refused(600)).wake, Some(Seconds(1)));
    assert_eq!(stalled_by(&plan(&refused(601)).verdict.state), ("Refused", Some(DEADLINE)));
}

#[test]
fn pods_that_are_evicted_again_and_again_name_it_and_meet_the_deadline_of_the_rollout() {
    let evicted = |asked| {
        let world = want("new", 1).have("new", 1, vec![waiting("ContainerCreating", 2)]);
        world.asked_for("new", asked).evicted("new", 3)
    };
    let State::Progressing(cause) = plan(&evicted(600)).verdict.state else { panic!("stalled") };
    assert_eq!(cause.to_string(), "pod new-gone ended with Evicted: the node was low on memory");
    assert_eq!(stalled_by(&plan(&evicted(601)).verdict.state), ("Failed", Some(DEADLINE)));
}

#[test]
fn an_eviction_disturbs_a_revision_that_worked_and_an_old_one_is_not_blamed() {
    let evicted = |since| {
        let world = want("new", 2).have("new", 2, vec![ready(), starting(2)]);
        world.asked_for("new", 9000).evicted("new", since).settled("new")
    };
    let State::Disturbed(cause) = plan(&evicted(3)).verdict.state else { panic!("not disturbed") };
    assert_eq!(kind(&cause), "Failed");
    let State::Progressing(cause) = plan(&evicted(601)).verdict.state else { panic!("blamed") };
    assert_eq!(kind(&cause), "Starting");
}

#[test]
fn each_pod_that_becomes_ready_is_a_step_that_extends_a_rollout() {
    let world = want("new", 3)
        .have("new", 3, vec![pod(PodPhase::Ready, 20), starting(50), starting(50)])
        .asked_for("new", 900);
    assert!(matches!(plan(&world).verdict.state, State::Progressing(_)));
}

#[test]
fn pods_that_never_finish_terminating_do_not_keep_a_deployment_from_being_complete() {
    let lost = || vec![pod(PodPhase::Terminating, 90_000)];
    let complete = want("new", 1).have("new", 1, vec![ready()]).have("old", 0, lost());
    let rolled = plan(&complete);
    assert_eq!((rolled.verdict.state, rolled.wake), (State::Complete, None));
    let said: Vec<_> = rolled.notes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["revision old still has 1 pod"]);

    let zero = plan(&want("new", 0).have("new", 0, lost()));
    assert_eq!((zero.verdict.state, zero.wake), (State::ScaledToZero, None));
    let said: Vec<_> = zero.notes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["revision new still has 1 pod"]);
}

#[test]
fn a_surplus_is_progress_until_its_pods_are_told_to_leave_or_the_deadline_passes() {
    let pods = || vec![ready(), ready(), ready()];
    let retiring = State::Progressing(Cause::Retiring { pods: 2 });
    let ordered = plan(&want("new", 1).have("new", 3, pods()));
    assert_eq!(ordered.verdict.state, retiring);
    let waiting = plan(&want("new", 1).have("new", 1, pods()));
    assert_eq!((waiting.verdict.state, waiting.wake), (retiring, Some(Seconds(DEADLINE.0 - 4))));
    let late = plan(&want("new", 1).have("new", 1, pods()).asked_for("new", DEADLINE.0 + 1));
    assert_eq!(late.verdict.state, State::Complete);
    let leaving = want("new", 1).have("new", 1, vec![ready(), terminating(), terminating()]);
    assert_eq!(plan(&leaving).verdict.state, State::Complete);
}

#[test]
fn growing_a_revision_that_worked_is_progress_and_past_the_deadline_a_disturbance() {
    let growing = |since| {
        want("new", 2)
            .have("new", 2, vec![ready(), unschedulable("no gpu left", since)])
            .settled("new")
    };
    assert!(matches!(plan(&growing(9)).verdict.state, State::Progressing(_)));
    assert!(matches!(plan(&growing(601)).verdict.state, State::Disturbed(_)));
}

#[test]
fn the_next_look_is_right_after_the_nearest_deadline() {
    let world = want("new", 2).have("new", 2, vec![starting(100), starting(590)]);
    assert_eq!(plan(&world).wake, Some(Seconds(11)));
}

#[test]
fn the_routable_pods_of_every_revision_are_counted() {
    let world = want("new", 3).have("old", 2, vec![ready(), ready(), terminating()]).have(
        "new",
        3,
        vec![ready(), starting(9)],
    );
    let routable = plan(&world).verdict.routable;
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
