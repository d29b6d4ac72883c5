//! What people ask for besides another revision.

use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::{CommandKind, Promotion};
use lamplighter_sim::cluster::Nature::{Broken, Good, Unreadable};
use lamplighter_sim::moves::Edit;
use lamplighter_sim::scenario::{id, know};
use lamplighter_sim::script::Script;

use crate::{beside, golden, wants};

fn ask(kind: CommandKind) -> Edit {
    Edit::Command(kind, None)
}

/// Guarantees: switch-08.
#[test]
fn a_person_promotes_the_candidate() {
    let mut start = beside(1, "B", Good);
    start.world.policy.promotion = Promotion::Manual(Seconds(1));
    let waits = Script::of(start).person(wants("B")).until("awaiting").operator();
    golden!(waits.person(Edit::Command(CommandKind::Promote, Some(id("B")))).rest(), "B");
}

/// Guarantees: switch-08.
#[test]
fn nobody_promotes_the_candidate_in_time() {
    let mut start = beside(1, "B", Good);
    start.world.policy.promotion = Promotion::Manual(Seconds(1));
    golden!(Script::of(start).person(wants("B")).rest(), "a");
}

/// Guarantees: api-05.
#[test]
fn a_person_gives_the_rollout_up_after_the_switch() {
    let bakes = Script::of(beside(1, "B", Good)).person(wants("B")).until("baking");
    golden!(bakes.person(ask(CommandKind::Abort)).rest(), "a");
}

/// Guarantees: api-05.
#[test]
fn a_person_gives_the_rollout_up_while_it_rolls() {
    let rolls = Script::of(beside(2, "b", Good)).person(wants("b")).until_leaves("a1");
    golden!(rolls.person(ask(CommandKind::Abort)).rest(), "a");
}

/// Guarantees: retry-01.
#[test]
fn a_person_asks_for_a_retry_of_what_fails_again() {
    let fails = Script::of(beside(1, "B", Broken)).person(wants("B")).rest();
    golden!(fails.person(ask(CommandKind::Retry)).rest(), "a");
}

/// Guarantees: retry-01.
#[test]
fn a_person_mends_the_models_and_asks_for_a_retry() {
    let fails = Script::of(beside(1, "b", Unreadable)).person(wants("b")).rest();
    let mended = fails.person(Edit::Nature(id("b"), Good));
    golden!(mended.person(ask(CommandKind::Retry)).rest(), "b");
}

/// Guarantees: api-05.
#[test]
fn a_person_returns_to_an_earlier_revision_until_the_specification_changes() {
    let mut start = beside(1, "b", Good);
    know(&mut start, "c", Good);
    let serves = Script::of(start).person(wants("b")).rest();
    let back = serves.person(Edit::Command(CommandKind::RollbackTo, Some(id("a")))).rest();
    golden!(back.person(wants("c")).rest(), "c");
}

/// Guarantees: api-07.
#[test]
fn a_person_pauses_while_it_rolls_and_resumes() {
    let rolls = Script::of(beside(2, "b", Good)).person(wants("b")).until_leaves("a0");
    let paused = rolls.person(Edit::Paused(true)).rest();
    golden!(paused.person(Edit::Paused(false)).rest(), "b");
}

/// Guarantees: api-06.
#[test]
fn the_deployment_is_deleted_during_the_switch() {
    let switches = Script::of(beside(1, "B", Good)).person(wants("B")).until("cutting over");
    golden!(switches.operator().person(Edit::Delete).rest(), "a");
}
