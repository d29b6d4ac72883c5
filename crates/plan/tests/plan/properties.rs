//! What holds in every world.

use std::collections::BTreeMap;

use lamplighter_plan::{
    Action, Ended, Failure, FailureClass, Goal, Plan, Pod, PodName, PodPhase, Refusal, Revision,
    RevisionId, Seconds, State, Workload, World, check, decide,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::build::DEADLINE;

/// Ages around the only boundary that matters.
fn ages() -> impl Strategy<Value = Seconds> {
    prop_oneof![Just(0), Just(5), Just(DEADLINE.0), Just(DEADLINE.0 + 1), Just(u32::MAX)]
        .prop_map(Seconds)
}

fn phases() -> impl Strategy<Value = PodPhase> {
    prop_oneof![
        3 => Just(PodPhase::Ready),
        2 => Just(PodPhase::Starting),
        1 => Just(PodPhase::Terminating),
        1 => Just(PodPhase::Unschedulable { message: "no node".to_owned() }),
        1 => Just(PodPhase::Waiting {
            reason: "ErrImagePull".to_owned(),
            message: "not found".to_owned(),
        }),
    ]
}

fn failures() -> impl Strategy<Value = Failure> {
    prop_oneof![Just(FailureClass::Deterministic), Just(FailureClass::Transient)].prop_map(
        |class| Failure {
            container: Some("worker".to_owned()),
            reason: format!("{class:?}"),
            message: "it failed".to_owned(),
            class,
        },
    )
}

fn pods() -> impl Strategy<Value = Pod> {
    (phases(), ages(), option::weighted(0.3, failures())).prop_map(|(phase, since, failure)| Pod {
        phase,
        since,
        failure,
    })
}

fn workloads() -> impl Strategy<Value = Workload> {
    let refused = ages().prop_map(|since| Refusal { message: "quota".to_owned(), since });
    let ended = (ages(), failures()).prop_map(|(since, failure)| Ended {
        pod: PodName::new("pod-9"),
        since,
        failure,
    });
    let refused = option::weighted(0.1, refused);
    let ended = option::weighted(0.2, ended);
    (0..4_u32, ages(), vec(pods(), 0..4), ended, refused).prop_map(
        |(replicas, since, pods, ended, refused)| Workload {
            replicas,
            since,
            pods: pods
                .into_iter()
                .enumerate()
                .map(|(ordinal, pod)| (PodName::new(format!("pod-{ordinal}")), pod))
                .collect(),
            ended,
            refused,
        },
    )
}

fn revisions() -> impl Strategy<Value = Revision> {
    (0..20_i64, any::<bool>(), option::weighted(0.8, workloads()))
        .prop_map(|(sequence, recorded, workload)| Revision { sequence, recorded, workload })
}

fn names() -> impl Strategy<Value = RevisionId> {
    (0..16_u8).prop_map(|number| RevisionId::new(format!("r{number:02}")))
}

fn worlds() -> impl Strategy<Value = World> {
    let goal = (names(), 0..4_u32).prop_map(|(revision, replicas)| Goal { revision, replicas });
    (goal, any::<bool>(), option::of(names()), btree_map(names(), revisions(), 0..14)).prop_map(
        |(goal, wanted_settled, settled, revisions)| World {
            settled: if wanted_settled { Some(goal.revision.clone()) } else { settled },
            goal,
            deleting: false,
            deadline: DEADLINE,
            revisions,
        },
    )
}

/// The same world in which every revision and every pod has another name, in another order.
fn renamed(world: &World) -> World {
    let revision = |id: &RevisionId| RevisionId::new(mirrored(id.as_str()));
    World {
        goal: Goal { revision: revision(&world.goal.revision), ..world.goal.clone() },
        settled: world.settled.as_ref().map(revision),
        revisions: world
            .revisions
            .iter()
            .map(|(id, found)| {
                let workload = found.workload.as_ref().map(|workload| Workload {
                    pods: workload
                        .pods
                        .iter()
                        .map(|(name, pod)| (PodName::new(mirrored(name.as_str())), pod.clone()))
                        .collect(),
                    ..workload.clone()
                });
                (revision(id), Revision { workload, ..found.clone() })
            })
            .collect(),
        ..world.clone()
    }
}

/// Reverses the order of digits, so that what sorted first sorts last.
fn mirrored(name: &str) -> String {
    let mirror = |letter: char| {
        letter.to_digit(10).and_then(|digit| char::from_digit(9 - digit, 10)).unwrap_or(letter)
    };
    name.chars().map(mirror).collect()
}

fn sorted_actions(plan: &Plan) -> Vec<Action> {
    let mut actions = plan.actions.clone();
    actions.sort();
    actions
}

fn rename_action(action: &Action) -> Action {
    let rename = |id: &RevisionId| RevisionId::new(mirrored(id.as_str()));
    match action {
        Action::Create { revision, replicas } => {
            Action::Create { revision: rename(revision), replicas: *replicas }
        }
        Action::Scale { revision, from, to } => {
            Action::Scale { revision: rename(revision), from: *from, to: *to }
        }
        Action::Delete { revision } => Action::Delete { revision: rename(revision) },
        Action::Forget { revision } => Action::Forget { revision: rename(revision) },
    }
}

/// Sequences are unique in a cluster: without that, which of two equals is older has no answer.
fn with_distinct_sequences(mut world: World) -> World {
    for (place, revision) in (0..).zip(world.revisions.values_mut()) {
        revision.sequence = revision.sequence * 100 + place;
    }
    world
}

fn kind(state: &State) -> std::mem::Discriminant<State> {
    std::mem::discriminant(state)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_breaks_an_invariant(world in worlds()) {
        prop_assert_eq!(check::violations(&world, &decide(&world)), vec![]);
    }

    #[test]
    fn names_and_their_order_do_not_reach_a_decision(world in worlds()) {
        let world = with_distinct_sequences(world);
        let plan = decide(&world);
        let other = decide(&renamed(&world));
        let mut expected: Vec<_> = plan.actions.iter().map(rename_action).collect();
        expected.sort();
        prop_assert_eq!(expected, sorted_actions(&other));
        prop_assert_eq!(kind(&plan.verdict.state), kind(&other.verdict.state));
        prop_assert_eq!(plan.wake, other.wake);
    }

    #[test]
    fn every_action_and_every_kept_revision_is_explained(world in worlds()) {
        let plan = decide(&world);
        let goal = (&world.goal.revision, world.wanted());
        let draining = goal.1.filter(|_| world.goal.replicas == 0).map(|found| (goal.0, found));
        let kept = world
            .older()
            .chain(draining)
            .filter(|(id, workload)| {
                let is_gone = workload.replicas == 0 && workload.pods.is_empty();
                !is_gone && plan.actions.iter().all(|action| action.revision() != *id)
            })
            .count();
        prop_assert_eq!(plan.notes.len(), plan.actions.len() + kept);
    }

    #[test]
    fn a_wake_up_lies_ahead_and_changes_what_is_waited_for(world in worlds()) {
        let plan = decide(&world);
        if let Some(wake) = plan.wake {
            prop_assert!(wake.0 > 0 && wake.0 <= DEADLINE.0 + 1);
        }
    }

    #[test]
    fn a_world_being_deleted_sees_no_action(world in worlds()) {
        let plan = decide(&World { deleting: true, ..world });
        prop_assert_eq!(plan.actions, vec![]);
        prop_assert_eq!(plan.wake, None);
    }
}

mod the_checks_see {
    //! A check that never fires proves nothing: each is shown a plan that breaks its rule.

    use super::*;
    use crate::build::{WorldExt, id, ready, starting, want};

    fn names(world: &World, actions: Vec<Action>) -> Vec<&'static str> {
        let plan = Plan { actions, ..decide(world) };
        check::violations(world, &plan).iter().map(check::Violation::name).collect()
    }

    fn scale(revision: &str, from: u32, to: u32) -> Action {
        Action::Scale { revision: id(revision), from, to }
    }

    fn rolling() -> World {
        want("new", 2)
            .have("old", 2, vec![ready(), ready()])
            .have("new", 2, vec![ready(), starting(5)])
            .recorded("past", 0)
    }

    #[test]
    fn each_broken_rule() {
        let world = rolling();
        let create = |revision: &str| Action::Create { revision: id(revision), replicas: 1 };
        let delete = |revision: &str| Action::Delete { revision: id(revision) };
        let forget = |revision: &str| Action::Forget { revision: id(revision) };
        for (action, expected) in [
            (scale("old", 2, 1), "ServingLowered"),
            (scale("new", 2, 1), "ServingLowered"),
            (scale("old", 2, 3), "OlderRaised"),
            (scale("old", 1, 2), "WrongStart"),
            (scale("new", 2, 2), "WrongStart"),
            (scale("absent", 1, 0), "WrongTarget"),
            (create("new"), "WrongTarget"),
            (create("absent"), "WrongTarget"),
            (delete("old"), "DeletedInUse"),
            (delete("absent"), "WrongTarget"),
            (forget("old"), "DeletedInUse"),
            (forget("absent"), "WrongTarget"),
        ] {
            assert_eq!(names(&world, vec![action.clone()]), [expected], "{action}");
        }
    }

    #[test]
    fn what_is_done_twice_or_to_a_dying_deployment() {
        let world = rolling();
        let twice = Action::Forget { revision: id("past") };
        assert_eq!(names(&world, vec![twice.clone(), twice.clone()]), ["ActedTwice"]);
        let dying = World { deleting: true, ..world };
        assert_eq!(names(&dying, vec![twice]), ["ActedWhileDeleting"]);
    }

    #[test]
    fn a_zero_that_is_not_honoured_and_a_wait_without_end() {
        let zero = World { goal: Goal { replicas: 0, ..rolling().goal }, ..rolling() };
        assert_eq!(names(&zero, vec![]), ["ZeroNotHonoured", "ZeroNotHonoured", "EndlessWait"]);
        let world = rolling();
        let endless = Plan { wake: None, ..decide(&world) };
        assert_eq!(check::violations(&world, &endless), [check::Violation::EndlessWait]);
    }

    #[test]
    fn nothing_wrong_with_an_empty_world() {
        let empty = World { revisions: BTreeMap::new(), ..rolling() };
        assert_eq!(check::violations(&empty, &decide(&empty)), []);
    }
}
