//! The memory stays small.

use lamplighter_plan::rollout::memory::{KEPT_FAILED, KEPT_KNOWN_GOOD};
use lamplighter_plan::rollout::{Class, Phase};
use lamplighter_plan::{Failure, FailureClass, Seconds};

use crate::build::{Blue, Build, Green, blue_green, id, plan, serves, side_by_side, starting};

/// Guarantees: return-07.
#[test]
fn three_revisions_are_remembered_as_good_newest_first() {
    let mut world = side_by_side(&serves()).phase(Phase::Baking(blue_green(), Seconds(400)));
    world.memory.active = Some(crate::build::at("b", Green));
    world.service.selects = Some(Green);
    world.memory.known_good = ["x", "y", "z"].map(id).to_vec();
    let plan = plan(&world);
    assert_eq!(plan.memory.known_good, ["b", "x", "y"].map(id));
    assert_eq!(plan.memory.known_good.len(), KEPT_KNOWN_GOOD);
}

#[test]
fn what_is_proven_again_moves_to_the_front_and_is_kept_once() {
    let mut world = side_by_side(&serves()).phase(Phase::Baking(blue_green(), Seconds(400)));
    world.memory.active = Some(crate::build::at("b", Green));
    world.service.selects = Some(Green);
    world.memory.known_good = ["x", "b", "z"].map(id).to_vec();
    assert_eq!(plan(&world).memory.known_good, ["b", "x", "z"].map(id));
}

#[test]
fn ten_failures_are_remembered_and_the_oldest_makes_room() {
    let mut pod = starting();
    pod.failure = Some(Failure {
        container: Some("worker".to_owned()),
        reason: "DigestMismatch".to_owned(),
        message: "the digest of model.safetensors is not the one that is wanted".to_owned(),
        class: FailureClass::Deterministic,
    });
    let mut world = side_by_side(&pod).phase(Phase::Gating(blue_green(), Seconds(9)));
    for (since, revision) in (1..).zip(["f", "g", "h", "i", "j", "k", "l", "m", "n", "o"]) {
        world = world.failed(revision, Class::Deterministic, 1, since);
    }
    let plan = plan(&world);
    assert_eq!(plan.memory.failed.len(), KEPT_FAILED);
    assert!(plan.memory.failed.contains_key(&id("b")));
    assert!(!plan.memory.failed.contains_key(&id("o")));
}

/// Guarantees: always-12.
#[test]
fn a_memory_that_changes_has_the_next_epoch_and_one_that_does_not_keeps_its_own() {
    let mut world = side_by_side(&starting()).phase(Phase::Gating(blue_green(), Seconds(9)));
    world.memory.epoch = 7;
    assert_eq!(plan(&world).memory, world.memory);
    world.goal.revision = id("a");
    assert_eq!(plan(&world).memory.epoch, 8);
    assert_eq!(plan(&world).memory.active, Some(crate::build::at("a", Blue)));
}
