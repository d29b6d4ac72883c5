//! Long random runs in worlds that are too large to search: up to six pods, four revisions, any
//! number of faults. Every decision is held against the rules; then everything around the
//! deployment is mended, and it has to come to rest where it should.

use std::cell::RefCell;

use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::strategy::Kind;
use lamplighter_plan::rollout::{CommandKind, OnInsufficientCapacity, Promotion};
use lamplighter_sim::cluster::{Cluster, Nature};
use lamplighter_sim::coverage::Coverage;
use lamplighter_sim::moves::{Edit, Move, faults, natural};
use lamplighter_sim::scenario::{id, know, nothing, serving};
use lamplighter_sim::{heal, rules, trace};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

const REVISIONS: [&str; 4] = ["a", "b", "C", "h"];
const MOVES: usize = 400;
/// How many runs for each case that `PROPTEST_CASES` asks for: a run takes milliseconds.
const RUNS: u32 = 10;

/// Something that happens; which pod or which edit is chosen when it is known what there is.
#[derive(Clone, Debug)]
enum Pick {
    Operator,
    Kubernetes,
    Endpoints,
    Tick,
    Natural(Index),
    Fault(Index),
    Person(Edit),
    /// A person promotes what the specification describes.
    Promotes,
    LeaseLost,
    LateWrite,
}

fn picks() -> impl Strategy<Value = Pick> {
    prop_oneof![
        12 => Just(Pick::Operator),
        6 => Just(Pick::Kubernetes),
        6 => Just(Pick::Endpoints),
        6 => Just(Pick::Tick),
        12 => any::<Index>().prop_map(Pick::Natural),
        1 => any::<Index>().prop_map(Pick::Fault),
        1 => edits().prop_map(Pick::Person),
        1 => Just(Pick::Promotes),
        1 => Just(Pick::LeaseLost),
        1 => Just(Pick::LateWrite),
    ]
}

fn edits() -> impl Strategy<Value = Edit> {
    let revision = || select(&REVISIONS[..]).prop_map(id);
    let back = |of| Edit::Command(CommandKind::RollbackTo, Some(of));
    let alone = [CommandKind::Abort, CommandKind::Retry];
    prop_oneof![
        8 => revision().prop_map(Edit::Revision),
        4 => (0..=6_u32).prop_map(Edit::Replicas),
        2 => any::<bool>().prop_map(Edit::Paused),
        2 => revision().prop_map(back),
        3 => select(alone.to_vec()).prop_map(|kind| Edit::Command(kind, None)),
        1 => (revision(), natures()).prop_map(|(of, nature)| Edit::Nature(of, nature)),
        1 => any::<bool>().prop_map(Edit::Taken),
        1 => any::<bool>().prop_map(Edit::Halted),
        2 => (1..=12_u32).prop_map(Edit::Places),
    ]
}

fn natures() -> impl Strategy<Value = Nature> {
    prop_oneof![
        4 => Just(Nature::Good),
        1 => Just(Nature::Unreadable),
        1 => Just(Nature::Unreachable),
        1 => Just(Nature::Broken),
        1 => Just(Nature::Endless),
        1 => Just(Nature::Poisoned),
    ]
}

/// A deployment of `a` that serves, or has yet to begin, under any policy.
fn starts() -> impl Strategy<Value = Cluster> {
    let capacity = [
        OnInsufficientCapacity::Wait,
        OnInsufficientCapacity::Fallback,
        OnInsufficientCapacity::Reject,
    ];
    let strategy = [None, None, Some(Kind::Rolling), Some(Kind::BlueGreen)];
    let policy = (0..=2_u32, 0..=2_u32, any::<bool>(), any::<bool>());
    let choices = (select(capacity.to_vec()), select(strategy.to_vec()));
    let shape = (any::<bool>(), 1..=6_u32, 1..=12_u32, any::<bool>());
    (policy, choices, shape, prop::collection::vec(natures(), 3)).prop_map(
        |((unavailable, surge, manual, returns), (capacity, strategy), shape, natures)| {
            let (serves, replicas, places, quota) = shape;
            let mut cluster = if serves { serving("a", replicas) } else { nothing("a", replicas) };
            for (revision, nature) in REVISIONS.iter().skip(1).zip(natures) {
                know(&mut cluster, revision, nature);
            }
            cluster.places = places.max(replicas);
            cluster.quota = quota;
            let policy = &mut cluster.world.policy;
            (policy.max_unavailable, policy.max_surge) = (unavailable, surge);
            (policy.capacity, policy.strategy) = (capacity, strategy);
            policy.auto_rollback = returns;
            if manual {
                policy.promotion = Promotion::Manual(Seconds(1));
            }
            cluster.normalise();
            cluster
        },
    )
}

fn concrete(pick: &Pick, cluster: &Cluster) -> Option<Move> {
    let one =
        |index: &Index, moves: Vec<Move>| (!moves.is_empty()).then(|| index.get(&moves).clone());
    match pick {
        Pick::Operator => Some(Move::Reconcile),
        Pick::Kubernetes => Some(Move::Control),
        Pick::Endpoints => Some(Move::Publish),
        Pick::Tick => Some(Move::Tick),
        Pick::Natural(index) => one(index, natural(cluster)),
        Pick::Fault(index) => one(index, faults(cluster)),
        Pick::Person(edit) => Some(Move::User { line: 0, edit: edit.clone() }),
        Pick::Promotes => {
            let of = Some(cluster.world.goal.revision.clone());
            Some(Move::User { line: 0, edit: Edit::Command(CommandKind::Promote, of) })
        }
        Pick::LeaseLost => Some(Move::Freeze),
        Pick::LateWrite => cluster.old.is_some().then_some(Move::Ghost),
    }
}

/// Runs it all. `watch` is told of each move.
fn run(
    start: &Cluster,
    picks: &[Pick],
    seen: &mut Coverage,
    watch: &mut trace::Trace,
    is_watched: bool,
) -> Result<(), String> {
    let mut cluster = start.clone();
    for pick in picks {
        let Some(change) = concrete(pick, &cluster) else { continue };
        let before = cluster.clone();
        let decided = change.make(&mut cluster);
        cluster.normalise();
        if change == Move::Ghost {
            cluster.old = None;
        }
        if is_watched {
            watch.step(&change, decided.as_ref(), &cluster);
        }
        if let Some(decided) = &decided {
            seen.add(&decided.plan);
            rules::keeps(&before, decided)?;
        }
        rules::wakes(&cluster)?;
    }
    cluster.halted = false;
    cluster.world.service.unusable = None;
    cluster.places = 32;
    for _ in 0..heal::ROUNDS {
        if heal::rests(&cluster) {
            break;
        }
        heal::round(&mut cluster);
    }
    heal::rest(&cluster)
}

/// Guarantees: always-01, always-11, retry-05.
#[test]
fn long_runs_keep_the_rules_and_come_to_rest() {
    let config = Config {
        rng_seed: RngSeed::Fixed(0x1a4b_11e4),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        cases: Config::default().cases.saturating_mul(RUNS),
        ..Config::default()
    };
    let runs = config.cases;
    let seen = RefCell::new(Coverage::default());
    let inputs = (starts(), prop::collection::vec(picks(), MOVES));
    let result = TestRunner::new(config).run(&inputs, |(start, picks)| {
        let mut trace = trace::Trace::of(&start);
        run(&start, &picks, &mut seen.borrow_mut(), &mut trace, false).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(_, (start, picks))) => {
            let mut trace = trace::Trace::of(&start);
            let mut seen = Coverage::default();
            let problem = run(&start, &picks, &mut seen, &mut trace, true);
            panic!("{}{}", trace.to_the_end(), problem.err().unwrap_or_default());
        }
        Err(TestError::Abort(reason)) => panic!("no run was tried: {reason}"),
    }
    let missing = seen.borrow().missing();
    println!("{runs} runs of {MOVES} moves; never seen: {missing:?}");
    assert_eq!(missing, ["Action::Forget"], "records are never beyond the limit here");
}
