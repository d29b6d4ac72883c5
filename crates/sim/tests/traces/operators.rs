//! The operator dies, or two of them are at work.

use lamplighter_sim::cluster::Nature::Good;
use lamplighter_sim::moves::Move::{Crash, Freeze, Ghost};
use lamplighter_sim::scenario::nothing;
use lamplighter_sim::script::Script;

use crate::{beside, golden, wants};

/// Guarantees: operator-01.
#[test]
fn the_operator_is_killed_between_two_actions() {
    let begins = Script::of(nothing("a", 1)).until("gating");
    golden!(begins.then(&Crash { after: 1 }).rest(), "a");
}

/// Guarantees: switch-13, operator-01.
#[test]
fn the_operator_is_killed_before_it_moves_the_service() {
    let switches = Script::of(beside(1, "B", Good)).person(wants("B")).until("cutting over");
    golden!(switches.then(&Crash { after: 0 }).rest(), "B");
}

/// Guarantees: operator-02.
#[test]
fn an_operator_that_lost_its_lease_acts_on_what_it_remembered() {
    let gates = Script::of(beside(1, "B", Good)).person(wants("B")).until("gating");
    let frozen = gates.then(&Freeze).until("baking");
    golden!(frozen.then(&Ghost).rest(), "B");
}
