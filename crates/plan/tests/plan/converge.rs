//! A cluster of a few lines around the decision: it must always come to rest where it should.

use std::collections::BTreeMap;

use lamplighter_plan::{
    Action, Pod, PodName, PodPhase, Revision, RevisionId, Seconds, State, Workload, World, check,
    decide,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::build::{failed, id, want};

/// The revision of this name can never become ready.
const BROKEN: &str = "broken";

/// What happens between two decisions.
#[derive(Clone, Debug)]
enum Move {
    /// The user wants another revision.
    Want(&'static str),
    /// The user wants another number.
    Replicas(u32),
    /// The workload controller creates and removes pods.
    Workloads,
    /// Pods that start become ready or fail; pods on their way out are gone.
    Pods,
    /// A pod is lost.
    Lose(u8),
    /// The operator decides and dies after so many actions.
    DecideAndCrash(u8),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        2 => prop_oneof![Just("red"), Just("green"), Just("blue"), Just(BROKEN)].prop_map(Move::Want),
        1 => (0..4_u32).prop_map(Move::Replicas),
        4 => Just(Move::Workloads),
        4 => Just(Move::Pods),
        1 => any::<u8>().prop_map(Move::Lose),
        4 => (0..3_u8).prop_map(Move::DecideAndCrash),
    ]
}

struct Cluster {
    world: World,
    pods_made: u32,
    records_made: i64,
}

impl Cluster {
    fn new() -> Self {
        Self { world: want("red", 2), pods_made: 0, records_made: 0 }
    }

    fn workloads_mut(&mut self) -> impl Iterator<Item = (&RevisionId, &mut Workload)> {
        self.world
            .revisions
            .iter_mut()
            .filter_map(|(id, revision)| Some((id, revision.workload.as_mut()?)))
    }

    fn step(&mut self, next: &Move) {
        match next {
            Move::Want(revision) => self.world.goal.revision = id(revision),
            Move::Replicas(replicas) => self.world.goal.replicas = *replicas,
            Move::Workloads => self.run_workload_controller(),
            Move::Pods => self.run_pods(),
            Move::Lose(which) => self.lose_a_pod(*which),
            Move::DecideAndCrash(after) => self.decide(usize::from(*after)),
        }
    }

    fn run_workload_controller(&mut self) {
        let mut made = self.pods_made;
        for (id, workload) in self.workloads_mut() {
            let wanted = workload.replicas as usize;
            while present(workload) < wanted {
                made += 1;
                let pod = Pod { phase: PodPhase::Starting, since: Seconds(0), failure: None };
                workload.pods.insert(PodName::new(format!("{id}-{made}")), pod);
            }
            let excess = present(workload) - wanted;
            let mut staying: Vec<_> = workload
                .pods
                .values_mut()
                .filter(|pod| pod.phase != PodPhase::Terminating)
                .collect();
            // As the real one does: pods that are not ready go first.
            staying.sort_by_key(|pod| pod.phase == PodPhase::Ready);
            staying.into_iter().take(excess).for_each(|pod| pod.phase = PodPhase::Terminating);
        }
        self.pods_made = made;
    }

    fn run_pods(&mut self) {
        for (id, workload) in self.workloads_mut() {
            workload.pods.retain(|_, pod| pod.phase != PodPhase::Terminating);
            for pod in workload.pods.values_mut() {
                if id.as_str() == BROKEN {
                    let class = lamplighter_plan::FailureClass::Deterministic;
                    *pod = failed("ConfigInvalid", class, 5);
                } else {
                    pod.phase = PodPhase::Ready;
                }
            }
        }
    }

    fn lose_a_pod(&mut self, which: u8) {
        let names: Vec<_> = self
            .workloads_mut()
            .flat_map(|(id, workload)| {
                workload.pods.keys().map(|name| (id.clone(), name.clone())).collect::<Vec<_>>()
            })
            .collect();
        if let Some((id, name)) = names.get(usize::from(which) % names.len().max(1)) {
            let revision = self.world.revisions.get_mut(id).unwrap();
            revision.workload.as_mut().unwrap().pods.remove(name);
        }
    }

    /// Decides, checks the plan, and carries out its first actions.
    fn decide(&mut self, first: usize) {
        let plan = decide(&self.world);
        assert_eq!(check::violations(&self.world, &plan), vec![], "{:#?}", self.world);
        if self.world.is_complete() && self.world.goal.replicas > 0 {
            self.world.settled = Some(self.world.goal.revision.clone());
        }
        for action in plan.actions.iter().take(first) {
            self.act(action);
        }
    }

    fn act(&mut self, action: &Action) {
        let revisions = &mut self.world.revisions;
        match action {
            Action::Create { revision, replicas } => {
                self.records_made += 1;
                let entry = revisions.entry(revision.clone()).or_insert_with(|| Revision {
                    sequence: self.records_made,
                    recorded: true,
                    workload: None,
                });
                entry.workload = Some(Workload { replicas: *replicas, ..Workload::default() });
            }
            Action::Scale { revision, to, .. } => {
                let revision = revisions.get_mut(revision).unwrap();
                revision.workload.as_mut().unwrap().replicas = *to;
            }
            Action::Delete { revision } => revisions.get_mut(revision).unwrap().workload = None,
            Action::Forget { revision } => {
                revisions.remove(revision).unwrap();
            }
        }
    }

    fn serves(&self) -> bool {
        self.world
            .revisions
            .values()
            .filter_map(|revision| revision.workload.as_ref())
            .any(Workload::is_routable)
    }

    /// No more faults and no more changes: everything runs in turn.
    fn settle(&mut self) {
        for _ in 0..12 {
            self.decide(usize::MAX);
            self.run_workload_controller();
            self.run_pods();
        }
    }
}

fn present(workload: &Workload) -> usize {
    workload.pods.values().filter(|pod| pod.phase != PodPhase::Terminating).count()
}

fn asked_for(world: &World) -> BTreeMap<&str, u32> {
    world
        .revisions
        .iter()
        .filter_map(|(id, revision)| Some((id.as_str(), revision.workload.as_ref()?.replicas)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_comes_to_rest_at_what_is_wanted(history in vec(moves(), 0..60)) {
        let mut cluster = Cluster::new();
        // Only a lost pod or a wish for none may end all service, then or later.
        let mut excused = false;
        for next in &history {
            let served = cluster.serves();
            cluster.step(next);
            excused |= matches!(next, Move::Lose(_) | Move::Replicas(0));
            prop_assert!(excused || !served || cluster.serves(), "{:?} ended all service", next);
        }
        cluster.settle();

        let plan = decide(&cluster.world);
        prop_assert_eq!(&plan.actions, &vec![], "planning again must change nothing");
        let goal = &cluster.world.goal;
        match &plan.verdict.state {
            State::ScaledToZero => prop_assert_eq!(goal.replicas, 0),
            State::Complete => {
                let expected = BTreeMap::from([(goal.revision.as_str(), goal.replicas)]);
                prop_assert_eq!(asked_for(&cluster.world), expected);
            }
            State::Stalled { .. } => prop_assert_eq!(goal.revision.as_str(), BROKEN),
            other => prop_assert!(false, "came to rest while {}", other),
        }
    }

    #[test]
    fn a_broken_revision_never_ends_the_service_of_the_one_before(
        history in vec(moves().prop_filter("the wish stays", |next| {
            !matches!(next, Move::Want(_) | Move::Replicas(_) | Move::Lose(_))
        }), 0..60),
    ) {
        let mut cluster = Cluster::new();
        cluster.settle();
        prop_assert!(cluster.serves());
        cluster.step(&Move::Want(BROKEN));
        for next in &history {
            cluster.step(next);
            prop_assert!(cluster.serves(), "{:?} ended all service", next);
        }
        cluster.settle();
        let asked = asked_for(&cluster.world);
        prop_assert_eq!(asked.get("red"), Some(&2));
    }
}
