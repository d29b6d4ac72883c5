//! What a world to explore is made of.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_plan::rollout::strategy::{Compatibility, Facts, ModelFacts};
use lamplighter_plan::rollout::{
    Environment, Goal, Memory, OnInsufficientCapacity, Placed, Pod, Policy, Promotion, Resolved,
    Retry, Revision, Service, Stage, Workload, World,
};
use lamplighter_plan::{PodName, RevisionId, Seconds};

use crate::cluster::{Cluster, Nature, OLDEST};
use crate::moves::Edit;

/// A world to explore: what it starts from, and what may happen besides what happens by itself.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The cluster at the beginning.
    pub start: Cluster,
    /// What people do: each line in its order, the lines in any order and at any time.
    pub people: Vec<Vec<Edit>>,
    /// How much may go wrong.
    pub faults: u32,
    /// Whether an operator may lose its lease, without knowing, and act once more at any time.
    pub ghost: bool,
    /// It has too many states for every run of the tests.
    pub long: bool,
}

impl Scenario {
    /// A world in which nobody wants anything else and nothing goes wrong.
    pub fn new(name: &'static str, about: &'static str, start: Cluster) -> Self {
        Self { name, about, start, people: Vec::new(), faults: 0, ghost: false, long: false }
    }

    /// There is another revision.
    #[must_use]
    pub fn knows(self, revision: &str, nature: Nature) -> Self {
        self.with(|cluster| know(cluster, revision, nature))
    }

    /// The cluster begins differently.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Cluster)) -> Self {
        change(&mut self.start);
        self.start.normalise();
        self
    }

    /// Somebody does these things, in this order.
    #[must_use]
    pub fn then(mut self, edits: impl IntoIterator<Item = Edit>) -> Self {
        self.people.push(edits.into_iter().collect());
        self
    }

    /// So much may go wrong.
    #[must_use]
    pub fn faults(self, faults: u32) -> Self {
        Self { faults, ..self }
    }

    /// An operator may lose its lease without knowing.
    #[must_use]
    pub fn haunted(self) -> Self {
        Self { ghost: true, ..self }
    }

    /// Too large for every run of the tests.
    #[must_use]
    pub fn long(self) -> Self {
        Self { long: true, ..self }
    }
}

/// A revision's name.
pub fn id(name: &str) -> RevisionId {
    RevisionId::new(name)
}

/// The specification describes this revision.
pub fn to(revision: &str) -> Edit {
    Edit::Revision(id(revision))
}

/// What is known of a revision. Those with an upper-case name have another architecture, and `h`
/// is heavier than all others.
pub fn facts(revision: &RevisionId) -> Facts {
    let is_large = revision.as_str().chars().all(char::is_uppercase);
    let architecture = if is_large { "LargeModel" } else { "BertModel" };
    let model = ModelFacts {
        architecture: Some(architecture.to_owned()),
        layers: 6,
        bytes: if revision.as_str() == "h" { 2 } else { 1 },
        ..ModelFacts::default()
    };
    Facts([("m".to_owned(), model)].into())
}

/// Limits of a second, so that few ages make a difference.
pub fn policy() -> Policy {
    Policy {
        strategy: None,
        compatibility: Compatibility::Auto,
        max_unavailable: 1,
        max_surge: 0,
        promotion: Promotion::Automatic,
        capacity: OnInsufficientCapacity::Wait,
        auto_rollback: true,
        progress: Seconds(1),
        scheduling: Seconds(1),
        confirm: Seconds(1),
        propagation: Seconds(1),
        shed: Seconds(1),
        bake: Seconds(1),
        validation_age: Seconds(1),
        retry: Retry { attempts: 2, backoff: Seconds(1), cap: Seconds(1) },
    }
}

/// A deployment that wants `replicas` of `revision` and has nothing.
pub fn nothing(revision: &str, replicas: u32) -> Cluster {
    let mut cluster = Cluster {
        world: World {
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
        },
        written: BTreeMap::new(),
        selected: 0,
        old: None,
        nature: BTreeMap::new(),
        places: 8,
        quota: false,
        stuck: BTreeSet::new(),
        halted: false,
    };
    know(&mut cluster, revision, Nature::Good);
    cluster.normalise();
    cluster
}

/// A deployment that serves `replicas` of `revision`, known to be good.
pub fn serving(revision: &str, replicas: u32) -> Cluster {
    let mut cluster = nothing(revision, replicas);
    let placed = Placed { revision: id(revision), environment: Environment::Blue };
    cluster.world.memory.active = Some(placed);
    cluster.world.memory.known_good = vec![id(revision)];
    cluster.world.service.selects = Some(Environment::Blue);
    let pod = |ordinal| (PodName::new(format!("{revision}{ordinal}")), pod());
    let workload = Workload {
        environment: Environment::Blue,
        replicas,
        since: OLDEST,
        pods: (0..replicas).map(pod).collect(),
        refused: None,
    };
    if let Some(found) = cluster.world.revisions.get_mut(&id(revision)) {
        found.workload = Some(workload);
        found.resolved = Resolved::Known(facts(&id(revision)));
    }
    cluster.written.insert(id(revision), 0);
    cluster.normalise();
    cluster
}

fn pod() -> Pod {
    Pod {
        stage: Stage::Ready,
        since: OLDEST,
        failure: None,
        traffic: true,
        routed: true,
        connected: true,
        exits: 0,
        wrong: false,
        validated: Seconds(0),
    }
}

/// Makes a revision known to the cluster.
pub fn know(cluster: &mut Cluster, revision: &str, nature: Nature) {
    let sequence = i64::try_from(cluster.world.revisions.len()).unwrap_or(i64::MAX);
    cluster.world.revisions.insert(
        id(revision),
        Revision { sequence, recorded: true, resolved: Resolved::Unknown, workload: None },
    );
    cluster.nature.insert(id(revision), nature);
}
