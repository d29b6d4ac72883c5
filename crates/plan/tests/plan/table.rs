//! One situation, one expected decision.

use lamplighter_plan::{Action, Cause, FailureClass, Plan, Seconds, State, World, check, decide};

use crate::build::{
    DEADLINE, WorldExt, failed, id, ready, starting, terminating, unschedulable, waiting, want,
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
    let mut world = want("new", 1).have("new", 1, Vec::new()).refused("new", "exceeded quota");
    assert_eq!(
        plan(&world).verdict.state,
        State::Progressing(Cause::Refused { message: "exceeded quota".to_owned() })
    );
    let workload = world.revisions.get_mut(&id("new")).unwrap().workload.as_mut().unwrap();
    workload.since = Seconds(DEADLINE.0 + 1);
    assert_eq!(stalled_by(&plan(&world).verdict.state), ("Refused", Some(DEADLINE)));
}

#[test]
fn a_failing_pod_disturbs_a_revision_that_worked_and_still_serves() {
    let pods = vec![ready(), failed("OutOfMemory", FailureClass::Deterministic, 4)];
    let world = want("new", 2).have("new", 2, pods).settled("new");
    let State::Disturbed(cause) = plan(&world).verdict.state else { panic!("not disturbed") };
    assert_eq!(kind(&cause), "Failed");
}

#[test]
fn a_revision_that_worked_and_serves_nobody_any_more_stalls_on_a_deterministic_failure() {
    let pods = vec![failed("OutOfMemory", FailureClass::Deterministic, 4)];
    let world = want("new", 1).have("new", 1, pods).settled("new");
    assert_eq!(stalled_by(&plan(&world).verdict.state), ("Failed", None));
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
