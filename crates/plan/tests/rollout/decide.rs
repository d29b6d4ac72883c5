//! Single decisions that a search found wrong once, or that a reader should see.

use lamplighter_plan::rollout::strategy::{Kind, Trigger};
use lamplighter_plan::rollout::{
    Action, Class, Direction, Note, OnInsufficientCapacity, Outcome, Phase, Pod, Rolling, Rollout,
    Withdrawn, World,
};
use lamplighter_plan::{PodName, Seconds};

use crate::build::{
    Blue, Build, Green, at, blue_green, facts, id, model, plan, ready, serves, serving,
    side_by_side, starting, want,
};

fn rolling(direction: Direction, leaves: &str) -> Phase {
    let rollout = Rollout { to: at("b", Blue), strategy: Kind::Rolling, ..blue_green() };
    let revision = id(leaves.split('-').next().unwrap_or_default());
    let withdrawn = Withdrawn { pod: PodName::new(leaves), revision, leaves: 0, out: None };
    Phase::Rolling(Rolling { rollout, direction, since: Seconds(0), withdrawn: Some(withdrawn) })
}

#[test]
fn nothing_is_done_and_nothing_remembered_while_the_deployment_is_deleted() {
    let mut world = side_by_side(&ready()).phase(Phase::CuttingOver(blue_green(), Seconds(900)));
    world.goal.deleting = true;
    let plan = plan(&world);
    assert_eq!((plan.actions, plan.memory, plan.wake), (Vec::new(), world.memory, None));
}

#[test]
fn nothing_is_done_on_a_memory_that_is_out_of_date() {
    let mut world = side_by_side(&ready()).phase(Phase::CuttingOver(blue_green(), Seconds(900)));
    world.overtaken = true;
    let plan = plan(&world);
    assert_eq!((plan.actions, plan.memory), (Vec::new(), world.memory));
    assert_eq!(plan.notes, [Note::Overtaken]);
}

#[test]
fn a_pod_is_given_back_to_the_service_before_another_one_is_taken_out() {
    let withdrawn = Pod { traffic: false, ..serves() };
    let mut world = want("b", 1).have("a", Blue, vec![withdrawn]).active("a", Blue);
    world = world.have("b", Blue, vec![serves()]).failed("b", Class::Transient, 1, 0);
    let plan = plan(&world.phase(rolling(Direction::Back, "b-0")));
    let (back, out) = (PodName::new("a-0"), PodName::new("b-0"));
    assert_eq!(plan.actions, [Action::Restore(back), Action::Withdraw(out)]);
}

#[test]
fn a_switch_is_undone_when_no_pod_is_wanted_although_nobody_answers_where_it_leads_back_to() {
    let mut world = want("b", 0).have("a", Blue, vec![]).active("a", Blue);
    world = world.have("b", Green, vec![]);
    world.service.selects = Some(Green);
    let plan = plan(&world.phase(Phase::CuttingOver(blue_green(), Seconds(900))));
    assert_eq!(plan.memory.phase, Phase::Reverting(blue_green(), Seconds(0)));
}

#[test]
fn who_serves_nobody_proves_nothing() {
    let mut world = want("b", 0).have("a", Blue, vec![]).active("a", Blue);
    world = world.have("b", Green, vec![]);
    world.service.selects = Some(Green);
    world.memory.active = Some(at("b", Green));
    let plan = plan(&world.phase(Phase::Baking(blue_green(), Seconds(400))));
    assert_eq!(plan.memory.phase, Phase::Stable);
    assert_eq!(plan.memory.known_good, [id("a")]);
    let (from, to) = (Some(id("a")), id("b"));
    assert_eq!(plan.notes, [Note::Finished { from, to, outcome: Outcome::Superseded }]);
}

#[test]
fn without_a_place_for_a_second_environment_it_rolls_if_it_may() {
    let heavier = lamplighter_plan::rollout::strategy::ModelFacts { bytes: 2_000, ..model() };
    let mut world = serving().failed("b", Class::Capacity, 1, 20);
    if let Some(found) = world.revisions.get_mut(&id("b")) {
        found.resolved = lamplighter_plan::rollout::Resolved::Known(facts(heavier));
    }
    let begun = |capacity| {
        let plan = plan(&world.clone().policy(|policy| policy.capacity = capacity));
        plan.memory.rollout().map(|rollout| (rollout.strategy, rollout.triggers.clone()))
    };
    let grown = || Trigger::Grown { old: 1_000, new: 2_000 };
    let rolls = Some((Kind::Rolling, vec![grown(), Trigger::NoPlace]));
    assert_eq!(begun(OnInsufficientCapacity::Fallback), rolls);
    assert_eq!(begun(OnInsufficientCapacity::Wait), Some((Kind::BlueGreen, vec![grown()])));
    assert_eq!(begun(OnInsufficientCapacity::Reject), None);
}

#[test]
fn nothing_begins_while_the_service_is_somebody_elses() {
    let mut world = serving();
    world.service.unusable = Some("it is managed by somebody else".to_owned());
    let plan = plan(&world);
    assert_eq!(plan.actions, []);
    assert_eq!(plan.notes, [Note::ServiceUnusable("it is managed by somebody else".to_owned())]);
}

#[test]
fn the_service_is_not_moved_to_a_candidate_that_is_not_ready_in_full() {
    let moves = |world: &World| {
        plan(world).actions.iter().any(|action| matches!(action, Action::Select { .. }))
    };
    let phase = || Phase::CuttingOver(blue_green(), Seconds(0));
    assert!(moves(&side_by_side(&ready()).phase(phase())));
    assert!(!moves(&serving().have("b", Green, vec![ready(), starting()]).phase(phase())));
}

#[test]
fn the_next_pod_leaves_only_when_enough_others_are_reached_by_requests() {
    let replacing = |pod: Pod| {
        let rollout = Rollout { to: at("b", Blue), strategy: Kind::Rolling, ..blue_green() };
        let (direction, since, withdrawn) = (Direction::Forward, Seconds(0), None);
        let walk = Rolling { rollout, direction, since, withdrawn };
        let world = want("b", 2).have("a", Blue, vec![serves()]).active("a", Blue);
        let plan = plan(&world.have("b", Blue, vec![pod]).phase(Phase::Rolling(walk)));
        plan.memory.withdrawn().map(|withdrawn| withdrawn.pod.as_str().to_owned())
    };
    assert_eq!(replacing(serves()), Some("a-0".to_owned()));
    assert_eq!(replacing(ready()), None);
    assert_eq!(replacing(starting()), None);
}
