//! Changes that do not go well: what serves goes on to.

use lamplighter_plan::PodName;
use lamplighter_sim::cluster::Nature::{Broken, Endless, Good, Poisoned, Unreadable};
use lamplighter_sim::moves::Edit;
use lamplighter_sim::moves::Move::{Evicted, Exits};
use lamplighter_sim::scenario::nothing;
use lamplighter_sim::script::Script;

use crate::{beside, golden, wants};

/// Guarantees: gates-01, gates-07.
#[test]
fn the_candidate_fails_its_gates() {
    golden!(Script::of(beside(1, "B", Broken)).person(wants("B")).rest(), "a");
}

/// Guarantees: rolling-04, rolling-05.
#[test]
fn the_first_new_pod_of_a_rolling_update_fails_its_gates() {
    golden!(Script::of(beside(2, "b", Broken)).person(wants("b")).rest(), "a");
}

/// Guarantees: return-01, return-03.
#[test]
fn the_candidate_answers_wrongly_after_the_switch_and_is_left() {
    golden!(Script::of(beside(1, "B", Poisoned)).person(wants("B")).rest(), "a");
}

/// Guarantees: return-12.
#[test]
fn the_candidate_answers_wrongly_and_the_operator_may_not_return() {
    let mut start = beside(1, "B", Poisoned);
    start.world.policy.auto_rollback = false;
    golden!(Script::of(start).person(wants("B")).rest(), "B");
}

/// Guarantees: gates-08.
#[test]
fn the_candidate_never_gets_ready_and_is_tried_until_the_attempts_are_used_up() {
    golden!(Script::of(beside(1, "B", Endless)).person(wants("B")).rest(), "a");
}

/// Guarantees: strategy-06.
#[test]
fn the_models_cannot_be_read() {
    golden!(Script::of(beside(1, "b", Unreadable)).person(wants("b")).rest(), "a");
}

/// Guarantees: return-02.
#[test]
fn the_candidate_is_evicted_and_comes_again() {
    let switches = Script::of(beside(1, "B", Good)).person(wants("B")).until("cutting over");
    golden!(switches.operator().then(&Evicted(PodName::new("B0"))).rest(), "B");
}

/// Guarantees: rolling-01, rolling-06.
#[test]
fn an_old_pod_dies_while_another_one_is_about_to_leave() {
    let rolls = Script::of(beside(2, "b", Good)).person(wants("b")).until_leaves("a0");
    golden!(rolls.then(&Exits(PodName::new("a1"))).rest(), "b");
}

/// Guarantees: switch-06.
#[test]
fn the_endpoints_do_not_follow_the_switch() {
    let switches = Script::of(beside(1, "B", Good)).person(wants("B")).until("cutting over");
    let halted = switches.person(Edit::Halted(true)).rest();
    golden!(halted.person(Edit::Halted(false)).rest(), "a");
}

/// Guarantees: switch-04.
#[test]
fn somebody_else_takes_the_service_and_gives_it_back() {
    let taken = Script::of(beside(1, "b", Good)).person(Edit::Taken(true));
    let waits = taken.person(wants("b")).rest();
    golden!(waits.person(Edit::Taken(false)).rest(), "b");
}

/// Guarantees: rolling-06, surroundings-03.
#[test]
fn the_old_pods_are_on_a_lost_node_and_never_go() {
    let mut start = beside(2, "b", Good);
    start.stuck.extend([lamplighter_sim::scenario::id("a")]);
    golden!(Script::of(start).person(wants("b")).rest(), "b");
}

/// Guarantees: return-09.
#[test]
fn the_first_revision_cannot_get_ready_and_a_correction_does() {
    let mut start = nothing("b", 1);
    start.nature.insert(lamplighter_sim::scenario::id("b"), Broken);
    lamplighter_sim::scenario::know(&mut start, "a", Good);
    golden!(Script::of(start).rest().person(wants("a")).rest(), "a");
}
