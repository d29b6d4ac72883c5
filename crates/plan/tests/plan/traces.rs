//! Golden traces: named situations, as a person would read them.

use lamplighter_plan::{FailureClass, World, decide, explain};

use crate::build::{WorldExt, failed, ready, starting, terminating, unschedulable, waiting, want};

fn trace(world: &World) -> String {
    explain::trace(world, &decide(world))
}

#[test]
fn the_first_deployment() {
    insta::assert_snapshot!(trace(&want("7c9f", 3)));
}

#[test]
fn a_new_revision_loads_beside_the_serving_one() {
    let world = want("new", 2)
        .have("old", 2, vec![ready(), ready()])
        .have("new", 2, vec![ready(), starting(95)])
        .settled("old");
    insta::assert_snapshot!(trace(&world));
}

#[test]
fn the_new_revision_is_ready_and_the_old_one_leaves() {
    let world = want("new", 2)
        .have("old", 2, vec![ready(), ready()])
        .have("new", 2, vec![ready(), ready()])
        .settled("old");
    insta::assert_snapshot!(trace(&world));
}

#[test]
fn corrupt_weights_stop_the_new_revision_and_the_old_one_serves() {
    let world = want("bad", 1)
        .have("good", 1, vec![ready()])
        .have("bad", 1, vec![failed("DigestMismatch", FailureClass::Deterministic, 12)])
        .settled("good");
    insta::assert_snapshot!(trace(&world));
}

#[test]
fn a_correction_gets_the_devices_of_the_failed_revision() {
    let world = want("fix", 1)
        .have("good", 1, vec![ready()])
        .have("bad", 1, vec![failed("DigestMismatch", FailureClass::Deterministic, 55)])
        .have(
            "fix",
            1,
            vec![unschedulable("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", 3)],
        )
        .settled("good");
    insta::assert_snapshot!(trace(&world));
}

#[test]
fn an_image_that_cannot_be_pulled_meets_its_deadline() {
    let world = want("typo", 2).have(
        "typo",
        2,
        vec![waiting("ImagePullBackOff", 601), waiting("ErrImagePull", 580)],
    );
    insta::assert_snapshot!(trace(&world));
}

#[test]
fn scaling_to_zero_drains_and_cleans_up() {
    let world = want("new", 0)
        .have("new", 0, vec![terminating()])
        .have("old", 0, Vec::new())
        .recorded("ancient", 0)
        .settled("new");
    insta::assert_snapshot!(trace(&world));
}

#[test]
fn pods_of_a_new_revision_are_evicted_again_and_again() {
    let world = want("new", 1)
        .have("new", 1, vec![waiting("ContainerCreating", 2)])
        .asked_for("new", 601)
        .evicted("new", 3);
    insta::assert_snapshot!(trace(&world));
}
