//! Worlds in a few words.

use std::collections::BTreeMap;

use lamplighter_plan::rollout::strategy::{Compatibility, Facts, Kind, ModelFacts, Trigger};
use lamplighter_plan::rollout::{
    Class, Command, CommandKind, Environment, Failed, Goal, Memory, OnInsufficientCapacity, Phase,
    Placed, Plan, Pod, Policy, Promotion, Resolved, Retry, Revision, Rollout, Service, Stage,
    Workload, World, check, decide,
};
use lamplighter_plan::{PodName, RevisionId, Seconds};

pub(crate) use Environment::{Blue, Green};

/// Decides, and holds the plan against the invariants.
pub(crate) fn plan(world: &World) -> Plan {
    let plan = decide(world);
    assert_eq!(check::violations(world, &plan), Vec::new(), "{plan:#?}");
    plan
}

pub(crate) fn id(revision: &str) -> RevisionId {
    RevisionId::new(revision)
}

pub(crate) fn at(revision: &str, environment: Environment) -> Placed {
    Placed { revision: id(revision), environment }
}

/// One model, of which everything is known.
pub(crate) fn model() -> ModelFacts {
    ModelFacts {
        version: "1.4.2".to_owned(),
        task: "Embedding".to_owned(),
        architecture: Some("BertModel".to_owned()),
        layers: 6,
        hidden: 384,
        vocabulary: 30_522,
        output: 384,
        pooling: "mean".to_owned(),
        tokenizer: "sha256:70ce".to_owned(),
        bytes: 1_000,
    }
}

pub(crate) fn facts(model: ModelFacts) -> Facts {
    Facts([("minilm".to_owned(), model)].into())
}

/// Limits that all differ, so that none can stand in for another.
pub(crate) fn policy() -> Policy {
    Policy {
        strategy: None,
        compatibility: Compatibility::Auto,
        max_unavailable: 1,
        max_surge: 0,
        promotion: Promotion::Automatic,
        capacity: OnInsufficientCapacity::Wait,
        auto_rollback: true,
        progress: Seconds(600),
        scheduling: Seconds(200),
        confirm: Seconds(60),
        propagation: Seconds(10),
        shed: Seconds(30),
        bake: Seconds(400),
        validation_age: Seconds(900),
        retry: Retry { attempts: 4, backoff: Seconds(20), cap: Seconds(100) },
    }
}

/// A deployment that wants `replicas` of `revision` and has nothing but its record.
pub(crate) fn want(revision: &str, replicas: u32) -> World {
    World {
        goal: Goal {
            revision: id(revision),
            replicas,
            paused: false,
            deleting: false,
            commands: BTreeMap::new(),
        },
        policy: policy(),
        memory: Memory::default(),
        overtaken: false,
        revisions: BTreeMap::new(),
        service: Service::default(),
    }
    .known(revision)
}

/// `a` serves two pods in blue, and `b` is wanted.
pub(crate) fn serving() -> World {
    want("b", 2).have("a", Blue, vec![serves(), serves()]).active("a", Blue)
}

/// A change from `a` in blue to `b` in green.
pub(crate) fn blue_green() -> Rollout {
    Rollout {
        from: Some(at("a", Blue)),
        to: at("b", Green),
        fallback: Some(at("a", Blue)),
        strategy: Kind::BlueGreen,
        triggers: vec![Trigger::NoMix],
    }
}

/// [`serving`], with two pods of `b` in green.
pub(crate) fn side_by_side(pod: &Pod) -> World {
    serving().have("b", Green, vec![pod.clone(), pod.clone()])
}

pub(crate) trait Build {
    /// Adds a recorded revision whose models are read.
    fn known(self, revision: &str) -> Self;
    /// Adds a workload that asks for the pods it has.
    fn have(self, revision: &str, environment: Environment, pods: Vec<Pod>) -> Self;
    /// It is known to be good, serves, and the Service selects it.
    fn active(self, revision: &str, environment: Environment) -> Self;
    fn phase(self, phase: Phase) -> Self;
    fn failed(self, revision: &str, class: Class, attempts: u32, since: u32) -> Self;
    fn asked(self, kind: CommandKind, revision: Option<&str>) -> Self;
    fn policy(self, change: impl FnOnce(&mut Policy)) -> Self;
}

impl Build for World {
    fn known(mut self, revision: &str) -> Self {
        let sequence = i64::try_from(self.revisions.len()).unwrap_or(i64::MAX);
        self.revisions.entry(id(revision)).or_insert(Revision {
            sequence,
            recorded: true,
            resolved: Resolved::Known(facts(model())),
            workload: None,
        });
        self
    }

    fn have(self, revision: &str, environment: Environment, pods: Vec<Pod>) -> Self {
        let mut world = self.known(revision);
        let named = |(ordinal, pod)| (PodName::new(format!("{revision}-{ordinal}")), pod);
        let pods: BTreeMap<_, _> = pods.into_iter().enumerate().map(named).collect();
        let workload = Workload {
            environment,
            replicas: u32::try_from(pods.len()).unwrap_or(u32::MAX),
            since: Seconds(50),
            pods,
            refused: None,
        };
        if let Some(found) = world.revisions.get_mut(&id(revision)) {
            found.workload = Some(workload);
        }
        world
    }

    fn active(mut self, revision: &str, environment: Environment) -> Self {
        self.memory.active = Some(at(revision, environment));
        self.memory.known_good.insert(0, id(revision));
        self.service.selects = Some(environment);
        self
    }

    fn phase(mut self, phase: Phase) -> Self {
        self.memory.phase = phase;
        self
    }

    fn failed(mut self, revision: &str, class: Class, attempts: u32, since: u32) -> Self {
        let failed = Failed {
            class,
            reason: "Reason".to_owned(),
            message: "a message".to_owned(),
            attempts,
            since: Seconds(since),
            released: false,
        };
        self.memory.failed.insert(id(revision), failed);
        self
    }

    fn asked(mut self, kind: CommandKind, revision: Option<&str>) -> Self {
        let command = Command { token: "1".to_owned(), revision: revision.map(id) };
        self.goal.commands.insert(kind, command);
        self
    }

    fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }
}

/// A pod that has been where it is for 40 s.
pub(crate) fn pod(stage: Stage) -> Pod {
    Pod {
        stage,
        since: Seconds(40),
        failure: None,
        traffic: true,
        routed: false,
        connected: false,
        exits: 0,
        wrong: false,
        validated: Seconds(40),
    }
}

pub(crate) fn serves() -> Pod {
    Pod { routed: true, connected: true, ..pod(Stage::Ready) }
}

pub(crate) fn ready() -> Pod {
    pod(Stage::Ready)
}

pub(crate) fn starting() -> Pod {
    pod(Stage::Starting)
}

pub(crate) fn unplaced() -> Pod {
    pod(Stage::Unschedulable("0/2 nodes are available".to_owned()))
}
