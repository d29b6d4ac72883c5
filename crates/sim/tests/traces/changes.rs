//! Changes that go well.

use lamplighter_plan::rollout::OnInsufficientCapacity;
use lamplighter_plan::rollout::strategy::Kind;
use lamplighter_sim::cluster::Nature::Good;
use lamplighter_sim::moves::Edit;
use lamplighter_sim::scenario::{know, nothing};
use lamplighter_sim::script::Script;

use crate::{beside, golden, wants};

#[test]
fn the_first_revision() {
    golden!(Script::of(nothing("a", 2)).rest(), "a");
}

/// Guarantees: strategy-03.
#[test]
fn rolling_one_pod() {
    golden!(Script::of(beside(1, "b", Good)).person(wants("b")).rest(), "b");
}

/// Guarantees: capacity-04.
#[test]
fn rolling_two_pods() {
    golden!(Script::of(beside(2, "b", Good)).person(wants("b")).rest(), "b");
}

#[test]
fn rolling_three_pods_of_which_none_may_be_missed() {
    let mut start = beside(3, "b", Good);
    start.world.policy.max_unavailable = 0;
    golden!(Script::of(start).person(wants("b")).rest(), "b");
}

/// Guarantees: strategy-01.
#[test]
fn blue_green() {
    golden!(Script::of(beside(2, "B", Good)).person(wants("B")).rest(), "B");
}

/// Guarantees: strategy-02.
#[test]
fn the_user_insists_on_a_second_environment() {
    let mut start = beside(1, "b", Good);
    start.world.policy.strategy = Some(Kind::BlueGreen);
    golden!(Script::of(start).person(wants("b")).rest(), "b");
}

/// Guarantees: strategy-02.
#[test]
fn the_user_insists_on_rolling_what_must_not_be_mixed() {
    let mut start = beside(1, "B", Good);
    start.world.policy.strategy = Some(Kind::Rolling);
    golden!(Script::of(start).person(wants("B")).rest(), "a");
}

/// Guarantees: capacity-01, capacity-02, capacity-03, retry-03.
#[test]
fn no_place_for_a_second_environment_so_it_waits() {
    let mut start = beside(1, "B", Good);
    start.places = 1;
    let waits = Script::of(start).person(wants("B")).until("gating").until("stable");
    golden!(waits.person(Edit::Places(2)).rest(), "B");
}

/// Guarantees: capacity-02.
#[test]
fn no_place_for_a_second_environment_so_it_rolls() {
    let mut start = beside(2, "h", Good);
    start.places = 2;
    start.world.policy.capacity = OnInsufficientCapacity::Fallback;
    golden!(Script::of(start).person(wants("h")).rest(), "h");
}

/// Guarantees: capacity-01, capacity-02.
#[test]
fn no_place_for_a_second_environment_so_it_is_given_up() {
    let mut start = beside(1, "B", Good);
    start.places = 1;
    start.world.policy.capacity = OnInsufficientCapacity::Reject;
    golden!(Script::of(start).person(wants("B")).rest(), "a");
}

/// Guarantees: rolling-07.
#[test]
fn scaled_up_while_it_rolls() {
    let rolls = Script::of(beside(1, "b", Good)).person(wants("b")).until_leaves("a0");
    golden!(rolls.person(Edit::Replicas(2)).rest(), "b");
}

/// Guarantees: mind-08.
#[test]
fn scaled_to_zero_during_the_switch_and_back() {
    let gated = Script::of(beside(1, "B", Good)).person(wants("B")).until("cutting over");
    let down = gated.operator().person(Edit::Replicas(0)).rest();
    golden!(down.person(Edit::Replicas(1)).rest(), "B");
}

/// Guarantees: return-07, mind-04.
#[test]
fn a_third_revision_is_wanted_while_the_second_proves_itself() {
    let mut start = beside(1, "B", Good);
    know(&mut start, "c", Good);
    let bakes = Script::of(start).person(wants("B")).until("baking");
    golden!(bakes.person(wants("c")).rest(), "c");
}

/// Guarantees: mind-02.
#[test]
fn the_old_revision_is_wanted_again_after_the_switch() {
    let bakes = Script::of(beside(1, "B", Good)).person(wants("B")).until("baking");
    golden!(bakes.person(wants("a")).rest(), "a");
}

/// Guarantees: mind-02.
#[test]
fn the_old_revision_is_wanted_again_while_it_rolls() {
    let rolls = Script::of(beside(2, "b", Good)).person(wants("b")).until_leaves("a1");
    golden!(rolls.person(wants("a")).rest(), "a");
}
