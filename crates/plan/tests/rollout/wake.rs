//! When to look again although nothing may change.

use lamplighter_plan::rollout::strategy::Kind;
use lamplighter_plan::rollout::{
    Direction, Phase, Pod, Promotion, Resolved, Rolling, Rollout, Withdrawn, World,
};
use lamplighter_plan::{PodName, RevisionId, Seconds};

use crate::build::{
    Blue, Build, Green, at, blue_green, id, plan, ready, serves, serving, side_by_side, starting,
    unplaced,
};

fn wake(world: &World) -> Option<Seconds> {
    plan(world).wake
}

/// The Service selects green; nobody is routed to blue any more.
fn switched(mut world: World) -> World {
    world.service.selects = Some(Green);
    if let Some(workload) = world.revisions.get_mut(&id("a")).and_then(|a| a.workload.as_mut()) {
        for pod in workload.pods.values_mut() {
            *pod = Pod { connected: true, ..ready() };
        }
    }
    world.memory.active = Some(at("b", Green));
    world
}

#[test]
fn nothing_under_way_waits_for_a_change() {
    let mut world = serving();
    world.goal.revision = id("a");
    assert_eq!(wake(&world), None);
}

/// Guarantees: always-10, told-05.
#[test]
fn a_candidate_is_looked_at_when_its_deadline_has_passed() {
    let gating = |pod: &Pod, since| {
        wake(&side_by_side(pod).phase(Phase::Gating(blue_green(), Seconds(since))))
    };
    // It has asked for its pods for 50 s of the 600 without a step forward.
    assert_eq!(gating(&starting(), 100), Some(Seconds(551)));
    // What was before this attempt does not count.
    assert_eq!(gating(&starting(), 10), Some(Seconds(591)));
    // Its pods have waited for 40 s of the 200 for a place.
    assert_eq!(gating(&unplaced(), 100), Some(Seconds(161)));
}

/// Guarantees: always-10, told-05.
#[test]
fn a_promotion_is_waited_for_until_it_expires_or_the_proof_is_too_old() {
    let awaiting = |limit, since| {
        let world = side_by_side(&ready());
        wake(
            &world
                .policy(|policy| policy.promotion = Promotion::Manual(Seconds(limit)))
                .phase(Phase::AwaitingPromotion(blue_green(), Seconds(since))),
        )
    };
    assert_eq!(awaiting(300, 100), Some(Seconds(201)));
    // The answers were proved 40 s ago and may be 900 s old.
    assert_eq!(awaiting(7_200, 100), Some(Seconds(861)));
}

/// Guarantees: always-10, told-05.
#[test]
fn a_switch_is_looked_at_when_it_is_late() {
    let world = side_by_side(&ready()).phase(Phase::CuttingOver(blue_green(), Seconds(20)));
    assert_eq!(wake(&world), Some(Seconds(41)));
}

#[test]
fn a_return_is_looked_at_when_it_is_late_and_then_waits_for_the_endpoints() {
    let mut world = switched(side_by_side(&serves()));
    world.goal.revision = id("a");
    let back = |since| wake(&world.clone().phase(Phase::Reverting(blue_green(), Seconds(since))));
    assert_eq!(back(20), Some(Seconds(41)));
    assert_eq!(back(61), None);
}

/// Guarantees: always-10.
#[test]
fn connections_are_shed_until_the_endpoints_are_everywhere_and_then_until_the_limit() {
    let world = switched(side_by_side(&serves()));
    let shedding =
        |since| wake(&world.clone().phase(Phase::Shedding(blue_green(), Seconds(since))));
    assert_eq!(shedding(4), Some(Seconds(7)));
    assert_eq!(shedding(10), Some(Seconds(1)));
    assert_eq!(shedding(11), Some(Seconds(30)));
}

/// Guarantees: always-10.
#[test]
fn a_bake_ends_by_itself_and_later_still_if_it_does_not_serve_in_full() {
    let baking = |pod: &Pod, since| {
        let world = switched(side_by_side(pod));
        wake(&world.phase(Phase::Baking(blue_green(), Seconds(since))))
    };
    assert_eq!(baking(&serves(), 100), Some(Seconds(301)));
    assert_eq!(baking(&starting(), 401), Some(Seconds(600)));
}

/// Guarantees: always-10.
#[test]
fn a_pod_that_left_the_endpoints_leaves_when_all_nodes_know() {
    let name = PodName::new("a-0");
    let mut world = serving().have("b", Blue, vec![]);
    let rollout = Rollout { to: at("b", Blue), strategy: Kind::Rolling, ..blue_green() };
    let withdrawn =
        Withdrawn { pod: name.clone(), revision: id("a"), leaves: 1, out: Some(Seconds(3)) };
    world.memory.phase = Phase::Rolling(Rolling {
        rollout,
        direction: Direction::Forward,
        since: Seconds(0),
        withdrawn: Some(withdrawn),
    });
    if let Some(workload) = world.revisions.get_mut(&id("a")).and_then(|a| a.workload.as_mut()) {
        workload.pods.insert(name, Pod { traffic: false, ..ready() });
    }
    assert_eq!(wake(&world), Some(Seconds(8)));
}

/// Guarantees: always-10, told-05.
#[test]
fn reading_models_has_a_deadline() {
    let mut world = serving();
    reading(&mut world, &id("b"), 100);
    assert_eq!(wake(&world), Some(Seconds(501)));
}

fn reading(world: &mut World, revision: &RevisionId, since: u32) {
    if let Some(found) = world.revisions.get_mut(revision) {
        found.resolved = Resolved::Running(Seconds(since));
    }
}
