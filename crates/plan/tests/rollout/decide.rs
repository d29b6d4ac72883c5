//! Single decisions that a search found wrong once, or that a reader should see.

use lamplighter_plan::rollout::strategy::{Kind, ModelFacts, Trigger};
use lamplighter_plan::rollout::{
    Action, Class, Direction, Note, OnInsufficientCapacity, Outcome, Phase, Pod, Resolved, Rolling,
    Rollout, Withdrawn, World,
};
use lamplighter_plan::{Failure, FailureClass, PodName, Seconds};

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

/// Guarantees: api-06.
#[test]
fn nothing_is_done_and_nothing_remembered_while_the_deployment_is_deleted() {
    let mut world = side_by_side(&ready()).phase(Phase::CuttingOver(blue_green(), Seconds(900)));
    world.goal.deleting = true;
    let plan = plan(&world);
    assert_eq!((plan.actions, plan.memory, plan.wake), (Vec::new(), world.memory, None));
}

/// Guarantees: operator-02.
#[test]
fn nothing_is_done_on_a_memory_that_is_out_of_date() {
    let mut world = side_by_side(&ready()).phase(Phase::CuttingOver(blue_green(), Seconds(900)));
    world.overtaken = true;
    let plan = plan(&world);
    assert_eq!((plan.actions, plan.memory), (Vec::new(), world.memory));
    assert_eq!(plan.notes, [Note::Overtaken]);
}

/// Guarantees: rolling-01.
#[test]
fn a_pod_is_given_back_to_the_service_before_another_one_is_taken_out() {
    let withdrawn = Pod { traffic: false, ..serves() };
    let mut world = want("b", 1).have("a", Blue, vec![withdrawn]).active("a", Blue);
    world = world.have("b", Blue, vec![serves()]).failed("b", Class::Transient, 1, 0);
    let plan = plan(&world.phase(rolling(Direction::Back, "b-0")));
    let (back, out) = (PodName::new("a-0"), PodName::new("b-0"));
    assert_eq!(plan.actions, [Action::Restore(back), Action::Withdraw(out)]);
}

/// Guarantees: mind-08.
#[test]
fn a_switch_is_undone_when_no_pod_is_wanted_although_nobody_answers_where_it_leads_back_to() {
    let mut world = want("b", 0).have("a", Blue, vec![]).active("a", Blue);
    world = world.have("b", Green, vec![]);
    world.service.selects = Some(Green);
    let plan = plan(&world.phase(Phase::CuttingOver(blue_green(), Seconds(900))));
    assert_eq!(plan.memory.phase, Phase::Reverting(blue_green(), Seconds(0)));
}

/// Guarantees: always-06.
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

/// Guarantees: capacity-02.
#[test]
fn without_a_place_for_a_second_environment_it_rolls_if_it_may() {
    let heavier = ModelFacts { bytes: 2_000, ..model() };
    let mut world = serving().failed("b", Class::Capacity, 1, 20);
    if let Some(found) = world.revisions.get_mut(&id("b")) {
        found.resolved = Resolved::Known(facts(heavier));
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

/// Guarantees: switch-04.
#[test]
fn nothing_begins_while_the_service_is_somebody_elses() {
    let mut world = serving();
    world.service.unusable = Some("it is managed by somebody else".to_owned());
    let plan = plan(&world);
    assert_eq!(plan.actions, []);
    assert_eq!(plan.notes, [Note::ServiceUnusable("it is managed by somebody else".to_owned())]);
}

/// Guarantees: switch-05.
#[test]
fn the_service_is_not_moved_to_a_candidate_that_is_not_ready_in_full() {
    let moves = |world: &World| {
        plan(world).actions.iter().any(|action| matches!(action, Action::Select { .. }))
    };
    let phase = || Phase::CuttingOver(blue_green(), Seconds(0));
    assert!(moves(&side_by_side(&ready()).phase(phase())));
    assert!(!moves(&serving().have("b", Green, vec![ready(), starting()]).phase(phase())));
}

/// Guarantees: rolling-02.
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

/// A walk from `a` to `b` in blue, for so long.
fn walk(direction: Direction, since: u32) -> Phase {
    let rollout = Rollout { to: at("b", Blue), strategy: Kind::Rolling, ..blue_green() };
    Phase::Rolling(Rolling { rollout, direction, since: Seconds(since), withdrawn: None })
}

/// The walk back from `b` waits for a pod of `a` that does not get ready, and `c` is wanted.
fn walking_back(since: u32) -> World {
    let world = want("c", 2).have("a", Blue, vec![serves(), starting()]).active("a", Blue);
    let world = world.have("b", Blue, vec![]).failed("b", Class::Deterministic, 1, 0);
    world.phase(walk(Direction::Back, since))
}

/// Guarantees: mind-07.
#[test]
fn a_third_revision_begins_when_the_walk_back_takes_longer_than_a_step_may() {
    assert_eq!(plan(&walking_back(600)).memory.phase, walk(Direction::Back, 600));
    let begun = plan(&walking_back(601));
    assert_eq!(begun.memory.rollout().map(|rollout| rollout.to.clone()), Some(at("c", Blue)));
    let (from, to) = (Some(id("a")), id("b"));
    assert_eq!(begun.notes[0], Note::Finished { from, to, outcome: Outcome::Aborted });
}

#[test]
fn the_walk_turns_forward_again_when_its_way_back_leads_to_nobody() {
    let back = |since| {
        let world = want("b", 1).have("a", Blue, vec![starting()]).active("a", Blue);
        let world = world.have("b", Blue, vec![serves()]).failed("b", Class::Transient, 1, 20);
        plan(&world.phase(walk(Direction::Back, since))).memory.phase
    };
    assert_eq!(back(600), walk(Direction::Back, 600));
    assert_eq!(back(601), walk(Direction::Forward, 0));
}

/// Guarantees: return-04.
#[test]
fn what_alone_answers_requests_is_kept_in_place_of_what_does_not() {
    let world = want("c", 1).have("a", Blue, vec![starting()]).active("a", Blue);
    let world = world.have("b", Blue, vec![serves()]).failed("c", Class::Deterministic, 1, 0);
    assert_eq!(plan(&world).memory.active, Some(at("b", Blue)));
}

#[test]
fn a_strategy_that_is_refused_does_not_hold_up_the_end_of_a_bake() {
    let mut world = want("c", 1).have("b", Green, vec![serves()]).active("b", Green);
    world.policy.strategy = Some(Kind::Rolling);
    if let Some(found) = world.revisions.get_mut(&id("c")) {
        let other = ModelFacts { layers: 12, ..model() };
        found.resolved = Resolved::Known(facts(other));
    }
    let plan = plan(&world.phase(Phase::Baking(blue_green(), Seconds(400))));
    assert_eq!(plan.memory.phase, Phase::Stable);
}

/// Guarantees: mind-03.
#[test]
fn pods_that_were_given_up_a_moment_ago_are_asked_for_again_at_once() {
    let mut world = want("a", 2).have("a", Blue, vec![serves(), serves()]).active("a", Blue);
    world = world.have("b", Blue, vec![]).failed("b", Class::Deterministic, 1, 0);
    if let Some(workload) = world.revisions.get_mut(&id("a")).and_then(|a| a.workload.as_mut()) {
        workload.replicas = 0;
    }
    let plan = plan(&world.phase(walk(Direction::Back, 0)));
    assert_eq!(plan.actions, [Action::Scale { revision: id("a"), from: 0, to: 2 }]);
}

/// Guarantees: always-09.
#[test]
fn a_candidate_that_was_given_up_gets_no_pods_while_it_alone_can_answer() {
    let mut world = want("b", 3).have("a", Blue, vec![]).active("a", Blue);
    world = world.have("b", Green, vec![serves()]).failed("b", Class::Withdrawn, 1, 0);
    world.service.selects = Some(Green);
    let plan = plan(&world.phase(Phase::CuttingOver(blue_green(), Seconds(0))));
    assert_eq!(plan.actions, [Action::Scale { revision: id("a"), from: 0, to: 3 }]);
}

/// Guarantees: api-07.
#[test]
fn a_pod_that_was_not_told_to_leave_stays_while_it_is_paused() {
    let mut world = want("b", 2).have("a", Blue, vec![serves(), serves()]).active("a", Blue);
    world.goal.paused = true;
    let plan = plan(&world.phase(rolling(Direction::Forward, "a-0")));
    assert_eq!(plan.memory.withdrawn(), None);
    assert_eq!(plan.notes, [Note::Stays(PodName::new("a-0"))]);
}

/// Guarantees: api-07.
#[test]
fn a_pod_that_left_before_it_was_paused_is_made_up_for() {
    let mut world = want("b", 2).have("a", Blue, vec![serves()]).active("a", Blue);
    world.goal.paused = true;
    let plan = plan(&world.phase(walk(Direction::Forward, 0)));
    assert_eq!(plan.actions, [Action::Create { placed: at("b", Blue), replicas: 1 }]);
}

/// Guarantees: retry-03.
#[test]
fn what_pods_lack_that_somebody_outside_has_to_put_right_is_waited_for_without_an_end() {
    let of = |classes: &[FailureClass]| {
        let ends = |class: &FailureClass| {
            let failure = Failure {
                container: None,
                reason: "ApiKeysUnusable".to_owned(),
                message: "there is no Secret".to_owned(),
                class: *class,
            };
            Pod { failure: Some(failure), since: Seconds(601), ..starting() }
        };
        let mut pods: Vec<Pod> = classes.iter().map(ends).collect();
        pods.push(Pod { since: Seconds(601), ..starting() });
        let mut world = serving().have("b", Green, pods);
        let found = world.revisions.get_mut(&id("b"));
        if let Some(workload) = found.and_then(|found| found.workload.as_mut()) {
            workload.since = Seconds(601);
        }
        let plan = plan(&world.phase(Phase::Gating(blue_green(), Seconds(601))));
        let failed = &plan.memory.failed[&id("b")];
        (failed.class, failed.reason.clone())
    };
    let lacks = (Class::Outside, "ApiKeysUnusable".to_owned());
    let late = (Class::Transient, "ProgressDeadlineExceeded".to_owned());
    assert_eq!(of(&[FailureClass::Outside]), lacks);
    assert_eq!(of(&[FailureClass::Outside, FailureClass::Outside]), lacks);
    assert_eq!(of(&[FailureClass::Outside, FailureClass::Transient]), late);
    assert_eq!(of(&[FailureClass::Transient]), late);
    assert_eq!(of(&[]), late);
}

/// Guarantees: switch-06.
#[test]
fn a_switch_that_was_late_ends_as_a_failure_though_it_is_about_to_be_tried_again() {
    let world = serving().failed("b", Class::Transient, 1, 20);
    let plan = plan(&world.phase(Phase::Clearing(blue_green(), Seconds(40))));
    let (from, to) = (Some(id("a")), id("b"));
    assert_eq!(plan.notes, [Note::Finished { from, to, outcome: Outcome::RolledBackAuto }]);
}

/// Guarantees: switch-05.
#[test]
fn a_candidate_passes_when_all_of_its_pods_do_however_late() {
    let gating = |pods: Vec<Pod>, since| {
        let mut world = serving().have("b", Green, pods);
        let found = world.revisions.get_mut(&id("b"));
        if let Some(workload) = found.and_then(|found| found.workload.as_mut()) {
            workload.since = Seconds(since);
        }
        plan(&world.phase(Phase::Gating(blue_green(), Seconds(since)))).memory.phase
    };
    let waits = Phase::Gating(blue_green(), Seconds(9));
    assert_eq!(gating(vec![ready(), starting()], 9), waits);
    let mut late = ready();
    late.since = Seconds(601);
    let switches = Phase::CuttingOver(blue_green(), Seconds(0));
    assert_eq!(gating(vec![late.clone(), late], 601), switches);
}

/// Guarantees: switch-06.
#[test]
fn a_switch_counts_as_seen_when_no_pod_of_another_environment_is_left_in_the_endpoints() {
    let switched = |old: Pod| {
        let world = want("b", 1).have("a", Blue, vec![old]).active("a", Blue);
        let mut world = world.have("b", Green, vec![serves()]);
        world.service.selects = Some(Green);
        plan(&world.phase(Phase::CuttingOver(blue_green(), Seconds(9)))).memory.active
    };
    assert_eq!(switched(serves()), Some(at("a", Blue)));
    assert_eq!(switched(ready()), Some(at("b", Green)));
}

/// The Service selects `b` in green, which has yet to prove itself.
fn baking(old: Pod, new: Vec<Pod>, since: u32) -> World {
    let replicas = u32::try_from(new.len()).unwrap_or(u32::MAX);
    let world = want("b", replicas).have("a", Blue, vec![old]).active("a", Blue);
    let mut world = world.have("b", Green, new);
    world.service.selects = Some(Green);
    world.memory.active = Some(at("b", Green));
    world.phase(Phase::Baking(blue_green(), Seconds(since)))
}

/// Guarantees: return-05.
#[test]
fn a_candidate_that_fails_is_left_for_what_answers_and_for_nothing_else() {
    let back = |old: Pod| {
        let wrong = Pod { wrong: true, ..serves() };
        plan(&baking(old, vec![wrong], 9)).memory.phase
    };
    assert_eq!(back(ready()), Phase::Reverting(blue_green(), Seconds(0)));
    assert_eq!(back(starting()), Phase::Baking(blue_green(), Seconds(9)));
}

/// Guarantees: always-06.
#[test]
fn a_revision_proves_itself_with_all_of_its_pods() {
    let proven = |pod: Pod, since| {
        plan(&baking(ready(), vec![serves(), pod], since)).memory.known_good.contains(&id("b"))
    };
    assert!(!proven(serves(), 399));
    assert!(proven(serves(), 400));
    assert!(!proven(starting(), 400));
}

/// Guarantees: api-07.
#[test]
fn nothing_begins_while_it_is_paused() {
    let mut world = serving();
    world.goal.paused = true;
    let plan = plan(&world);
    assert_eq!(plan.memory, world.memory);
    assert_eq!(plan.notes, [Note::Paused]);
}

/// Guarantees: always-03, rolling-08.
#[test]
fn a_pod_is_told_to_leave_when_all_nodes_know_that_it_left_the_endpoints() {
    let told = |out| {
        let gone = Pod { traffic: false, ..ready() };
        let world = want("b", 2).have("a", Blue, vec![gone, serves()]).active("a", Blue);
        let mut phase = rolling(Direction::Forward, "a-0");
        if let Phase::Rolling(Rolling { withdrawn: Some(withdrawn), .. }) = &mut phase {
            (withdrawn.out, withdrawn.leaves) = (Some(Seconds(out)), 1);
        }
        plan(&world.phase(phase)).actions
    };
    assert_eq!(told(9), []);
    assert_eq!(told(10), [Action::Scale { revision: id("a"), from: 2, to: 1 }]);
}

/// Guarantees: rolling-02, rolling-03.
#[test]
fn the_next_pod_leaves_only_when_the_new_ones_are_reached_though_the_floor_would_let_it() {
    let replacing = |pod: Pod| {
        let world = want("b", 3).policy(|policy| policy.max_unavailable = 2);
        let world = world.have("a", Blue, vec![serves(), serves()]).active("a", Blue);
        let world = world.have("b", Blue, vec![pod]).phase(walk(Direction::Forward, 0));
        plan(&world).memory.withdrawn().map(|withdrawn| withdrawn.pod.as_str().to_owned())
    };
    assert_eq!(replacing(ready()), None);
    assert_eq!(replacing(serves()), Some("a-0".to_owned()));
}

/// Guarantees: always-04, return-07.
#[test]
fn what_is_kept_to_return_to_is_left_alone_until_the_end_of_the_bake() {
    assert_eq!(plan(&baking(ready(), vec![serves()], 9)).actions, []);
    let mut over = baking(ready(), vec![serves()], 9).phase(Phase::Stable);
    over.memory.known_good = vec![id("b")];
    assert_eq!(plan(&over).actions, [Action::Scale { revision: id("a"), from: 1, to: 0 }]);
}
