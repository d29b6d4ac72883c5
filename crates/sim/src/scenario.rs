//! Small worlds with a name.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_plan::rollout::strategy::{Compatibility, Facts, Kind, ModelFacts};
use lamplighter_plan::rollout::{
    CommandKind, Environment, Goal, Memory, OnInsufficientCapacity, Placed, Pod, Policy, Promotion,
    Resolved, Retry, Revision, Service, Stage, Workload, World,
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
    /// What users may do, each once, in any order and at any time.
    pub edits: BTreeSet<Edit>,
    /// How much may go wrong.
    pub faults: u32,
    /// Whether an operator may lose its lease, without knowing, and act once more at any time.
    pub ghost: bool,
}

/// A revision's name.
pub fn id(name: &str) -> RevisionId {
    RevisionId::new(name)
}

/// What is known of a revision. Those with an upper-case name have another architecture.
pub fn facts(revision: &RevisionId) -> Facts {
    let name = revision.as_str();
    let is_large = name.chars().all(char::is_uppercase);
    let model = ModelFacts {
        version: "1.0.0".to_owned(),
        task: "Embedding".to_owned(),
        architecture: Some(if is_large { "LargeModel" } else { "BertModel" }.to_owned()),
        layers: 6,
        hidden: 384,
        vocabulary: 30_522,
        output: 384,
        tokenizer: "t".to_owned(),
        bytes: 1,
    };
    Facts([("m".to_owned(), model)].into())
}

/// Limits of a second or two, so that few ages make a difference.
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
    };
    know(&mut cluster, revision, Nature::Good);
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

fn scenario(
    name: &'static str,
    about: &'static str,
    mut start: Cluster,
    others: &[(&str, Nature)],
    edits: &[Edit],
    faults: u32,
) -> Scenario {
    for (revision, nature) in others {
        know(&mut start, revision, *nature);
    }
    start.normalise();
    Scenario { name, about, start, edits: edits.iter().cloned().collect(), faults, ghost: false }
}

/// A world in which an operator loses its lease without knowing.
fn haunted(
    name: &'static str,
    about: &'static str,
    start: Cluster,
    others: &[(&str, Nature)],
    edits: &[Edit],
) -> Scenario {
    Scenario { ghost: true, ..scenario(name, about, start, others, edits, 0) }
}

/// Every world that is explored.
pub fn all() -> Vec<Scenario> {
    use Nature::{Broken, Endless, Good, Poisoned, Unreadable};
    let to = |revision: &str| Edit::Revision(id(revision));
    let with = |mut cluster: Cluster, change: &dyn Fn(&mut Cluster)| {
        change(&mut cluster);
        cluster
    };
    let manual = |cluster: &mut Cluster| {
        cluster.world.policy.promotion = Promotion::Manual(Seconds(1));
    };
    let promote = Edit::Command(CommandKind::Promote, Some(id("B")));
    let fallback = |cluster: &mut Cluster| {
        cluster.world.policy.strategy = None;
        cluster.world.policy.bake = Seconds(1);
        cluster.world.policy.capacity = OnInsufficientCapacity::Fallback;
        cluster.places = 2;
    };
    vec![
        scenario("first", "the first revision", nothing("a", 2), &[], &[], 2),
        scenario(
            "first-broken",
            "the first revision fails",
            with(nothing("b", 1), &|c| {
                c.nature.insert(id("b"), Broken);
            }),
            &[("a", Good)],
            &[to("a")],
            1,
        ),
        scenario(
            "rolling-1",
            "one pod, same architecture",
            serving("a", 1),
            &[("b", Good)],
            &[to("b")],
            2,
        ),
        scenario(
            "rolling-2",
            "two pods, same architecture",
            serving("a", 2),
            &[("b", Good)],
            &[to("b")],
            1,
        ),
        scenario(
            "rolling-3",
            "three pods, same architecture",
            serving("a", 3),
            &[("b", Good)],
            &[to("b")],
            0,
        ),
        scenario(
            "rolling-broken",
            "the new revision fails its gates",
            serving("a", 2),
            &[("b", Broken)],
            &[to("b")],
            1,
        ),
        scenario(
            "rolling-endless",
            "the new revision never gets ready",
            serving("a", 2),
            &[("b", Endless)],
            &[to("b")],
            0,
        ),
        scenario(
            "rolling-poisoned",
            "the new revision answers wrongly later",
            serving("a", 2),
            &[("b", Poisoned)],
            &[to("b")],
            0,
        ),
        scenario(
            "rolling-unreadable",
            "the new revision cannot be read",
            serving("a", 2),
            &[("b", Unreadable)],
            &[to("b")],
            1,
        ),
        scenario(
            "rolling-back-and-forth",
            "a, b, a again",
            serving("a", 2),
            &[("b", Good)],
            &[to("b"), to("a")],
            0,
        ),
        scenario(
            "rolling-scaled",
            "scaled while it rolls",
            serving("a", 2),
            &[("b", Good)],
            &[to("b"), Edit::Replicas(1), Edit::Replicas(3)],
            0,
        ),
        scenario(
            "rolling-to-zero",
            "scaled to zero while it rolls",
            serving("a", 1),
            &[("b", Good)],
            &[to("b"), Edit::Replicas(0)],
            1,
        ),
        scenario(
            "blue-green-1",
            "one pod, another architecture",
            serving("a", 1),
            &[("B", Good)],
            &[to("B")],
            2,
        ),
        scenario(
            "blue-green-2",
            "two pods, another architecture",
            serving("a", 2),
            &[("B", Good)],
            &[to("B")],
            0,
        ),
        scenario(
            "blue-green-broken",
            "the new architecture fails its gates",
            serving("a", 1),
            &[("B", Broken)],
            &[to("B")],
            2,
        ),
        scenario(
            "blue-green-poisoned",
            "the new architecture answers wrongly later",
            serving("a", 1),
            &[("B", Poisoned)],
            &[to("B")],
            1,
        ),
        scenario(
            "blue-green-back-and-forth",
            "a, B, a again",
            serving("a", 1),
            &[("B", Good)],
            &[to("B"), to("a")],
            1,
        ),
        scenario(
            "blue-green-third",
            "a, B, c",
            serving("a", 1),
            &[("B", Good), ("c", Good)],
            &[to("B"), to("c")],
            0,
        ),
        scenario(
            "blue-green-third-poisoned",
            "a, B, and a poisoned C",
            serving("a", 1),
            &[("B", Good), ("C", Poisoned)],
            &[to("B"), to("C")],
            0,
        ),
        scenario(
            "blue-green-scaled",
            "scaled while the environment changes",
            serving("a", 1),
            &[("B", Good)],
            &[to("B"), Edit::Replicas(2)],
            0,
        ),
        scenario(
            "manual",
            "a person promotes",
            with(serving("a", 1), &manual),
            &[("B", Good)],
            &[to("B"), promote.clone()],
            1,
        ),
        scenario(
            "manual-aborted",
            "a person gives it up",
            with(serving("a", 1), &manual),
            &[("B", Good)],
            &[to("B"), promote, Edit::Command(CommandKind::Abort, None)],
            0,
        ),
        scenario(
            "aborted",
            "a person aborts at any time",
            serving("a", 1),
            &[("B", Good)],
            &[to("B"), Edit::Command(CommandKind::Abort, None)],
            1,
        ),
        scenario(
            "retried",
            "a person asks for a retry",
            serving("a", 1),
            &[("B", Broken)],
            &[to("B"), Edit::Command(CommandKind::Retry, None)],
            0,
        ),
        scenario(
            "paused",
            "paused and resumed at any time",
            serving("a", 1),
            &[("b", Good)],
            &[to("b"), Edit::Paused(true), Edit::Paused(false)],
            0,
        ),
        scenario(
            "returned",
            "a person returns to an earlier revision",
            serving("a", 1),
            &[("B", Good)],
            &[to("B"), Edit::Command(CommandKind::RollbackTo, Some(id("a")))],
            0,
        ),
        scenario(
            "crowded",
            "no place for a second environment, and it waits",
            with(serving("a", 1), &|c| c.places = 1),
            &[("B", Good)],
            &[to("B")],
            1,
        ),
        scenario(
            "crowded-fallback",
            "no place for a second environment, so it rolls",
            with(serving("a", 2), &fallback),
            &[("b", Good)],
            &[to("b")],
            0,
        ),
        haunted(
            "haunted-first",
            "an operator that lost its lease, before anything serves",
            nothing("a", 1),
            &[],
            &[],
        ),
        haunted(
            "haunted-rolling",
            "an operator that lost its lease, while pods are replaced",
            serving("a", 1),
            &[("b", Good)],
            &[to("b")],
        ),
        haunted(
            "haunted-broken",
            "an operator that lost its lease, while a candidate fails",
            serving("a", 1),
            &[("B", Broken)],
            &[to("B")],
        ),
        haunted(
            "haunted-poisoned",
            "an operator that lost its lease, while a candidate is left",
            serving("a", 1),
            &[("B", Poisoned)],
            &[to("B")],
        ),
        haunted(
            "haunted-blue-green",
            "an operator that lost its lease, while the environment changes",
            serving("a", 1),
            &[("B", Good)],
            &[to("B"), to("a")],
        ),
        scenario(
            "insisting",
            "the user insists on a second environment",
            with(serving("a", 1), &|c| c.world.policy.strategy = Some(Kind::BlueGreen)),
            &[("b", Good)],
            &[to("b")],
            1,
        ),
    ]
}
