//! What a person asks for is heard once, and what cannot be is said to be so.

use lamplighter_plan::rollout::{Class, CommandKind, Note, Phase, Pin, Promotion, World};
use lamplighter_plan::{RevisionId, Seconds};

use crate::build::{Build, blue_green, id, plan, ready, serving, side_by_side, starting};

fn awaiting() -> World {
    side_by_side(&ready())
        .policy(|policy| policy.promotion = Promotion::Manual(Seconds(3_600)))
        .phase(Phase::AwaitingPromotion(blue_green(), Seconds(100)))
}

fn settled() -> World {
    let mut world = serving();
    world.goal.revision = id("a");
    world
}

/// Guarantees: api-05.
#[test]
fn with_nothing_under_way_there_is_nothing_to_give_up_and_what_serves_is_left_alone() {
    let world = settled().asked(CommandKind::Abort, None);
    let plan = plan(&world);
    assert_eq!(plan.notes, [Note::Inapplicable(CommandKind::Abort)]);
    assert_eq!(plan.memory.active, world.memory.active);
    assert!(plan.memory.failed.is_empty());
}

/// Guarantees: switch-08, api-05.
#[test]
fn what_cannot_be_followed_is_said_to_be_so_and_forgotten() {
    let cases = [
        (CommandKind::Promote, None),
        (CommandKind::Promote, Some("b")),
        (CommandKind::Retry, None),
        (CommandKind::RollbackTo, None),
        (CommandKind::RollbackTo, Some("nobody-knows")),
    ];
    for (kind, revision) in cases {
        let mut world = settled().asked(kind, revision);
        let heard = plan(&world);
        assert_eq!(heard.notes, [Note::Inapplicable(kind)]);
        world.memory = heard.memory;
        assert_eq!(plan(&world).notes, []);
    }
}

/// Guarantees: switch-08, api-05.
#[test]
fn a_promotion_moves_the_service_and_counts_once() {
    let mut world = awaiting().asked(CommandKind::Promote, Some("b"));
    let promoted = plan(&world);
    assert_eq!(promoted.memory.phase, Phase::CuttingOver(blue_green(), Seconds(0)));
    world.memory.acknowledged = promoted.memory.acknowledged;
    assert_eq!(plan(&world).memory.phase, world.memory.phase);
}

/// Guarantees: switch-08.
#[test]
fn a_promotion_of_another_revision_is_none() {
    let plan = plan(&awaiting().asked(CommandKind::Promote, Some("a")));
    assert_eq!(plan.notes, [Note::Inapplicable(CommandKind::Promote)]);
}

/// Guarantees: switch-08.
#[test]
fn a_promotion_waits_until_the_candidate_is_ready() {
    let gating = side_by_side(&starting()).phase(Phase::Gating(blue_green(), Seconds(0)));
    let world = gating.asked(CommandKind::Promote, Some("b"));
    assert_eq!(plan(&world).memory, world.memory);
}

/// Guarantees: switch-08.
#[test]
fn a_promotion_waits_for_a_fresh_proof_of_the_answers() {
    let at_age = |age| {
        let mut pod = ready();
        pod.validated = Seconds(age);
        let world = side_by_side(&pod)
            .policy(|policy| policy.promotion = Promotion::Manual(Seconds(3_600)))
            .phase(Phase::AwaitingPromotion(blue_green(), Seconds(100)));
        plan(&world.asked(CommandKind::Promote, Some("b"))).memory.phase
    };
    assert_eq!(at_age(900), Phase::CuttingOver(blue_green(), Seconds(0)));
    assert_eq!(at_age(901), Phase::AwaitingPromotion(blue_green(), Seconds(100)));
}

/// Guarantees: switch-08, told-05.
#[test]
fn an_expired_promotion_is_a_failure_that_only_a_person_lifts() {
    let at_age = |age| {
        let world = awaiting().phase(Phase::AwaitingPromotion(blue_green(), Seconds(age)));
        plan(&world).memory.failed.get(&id("b")).map(|failed| failed.class)
    };
    assert_eq!(at_age(3_600), None);
    assert_eq!(at_age(3_601), Some(Class::Withdrawn));
}

/// Guarantees: retry-01.
#[test]
fn a_retry_releases_what_failed() {
    let world = serving().failed("b", Class::Deterministic, 3, 9).asked(CommandKind::Retry, None);
    let plan = plan(&world);
    let failed = &plan.memory.failed[&id("b")];
    assert!(failed.released);
    assert_eq!((failed.attempts, failed.since), (0, Seconds(0)));
}

/// Guarantees: api-05.
#[test]
fn a_return_holds_until_the_specification_changes() {
    let mut world = settled().known("b").known("c").asked(CommandKind::RollbackTo, Some("b"));
    let pinned = plan(&world);
    let pin = |revision: RevisionId| Some(Pin { revision, instead_of: id("a") });
    assert_eq!(pinned.memory.pin, pin(id("b")));
    world.memory = pinned.memory;
    assert_eq!(plan(&world).memory.pin, pin(id("b")));
    world.goal.revision = id("c");
    let over = plan(&world);
    assert_eq!(over.memory.pin, None);
    assert_eq!(over.notes, [Note::Unpinned(id("b"))]);
}
