//! Every order in which things can happen, until nothing new is found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash as _, Hasher as _};

use lamplighter_plan::rollout::check::violations;
use lamplighter_plan::rollout::{Action, Note, Phase};

use crate::cluster::Cluster;
use crate::heal;
use crate::moves::{Decided, Edit, Move, faults, natural};
use crate::scenario::Scenario;
use crate::trace;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many states there are.
    pub states: usize,
    /// How many moves lead from one to another.
    pub moves: usize,
    /// The kinds of phases, actions and notes that occurred.
    pub seen: BTreeSet<String>,
    /// The shortest run that breaks a rule, as text.
    pub counterexample: Option<String>,
    /// Nothing new was left to find.
    pub exhausted: bool,
}

#[derive(Clone, Eq, Hash, PartialEq)]
struct Node {
    cluster: Cluster,
    edits: BTreeSet<Edit>,
    faults: u32,
    ghost: bool,
}

type Key = u128;

/// A state is known by 128 bits of its hash: with a million states the chance that two share
/// one is below 10^-26.
fn key(node: &impl std::hash::Hash) -> Key {
    let half = |salt: u64| {
        let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
        salt.hash(&mut hasher);
        node.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}

/// Explores a world. Stops at the first rule that is broken, and at `limit` states.
pub fn explore(scenario: &Scenario, limit: usize) -> Report {
    let start = Node {
        cluster: scenario.start.clone(),
        edits: scenario.edits.clone(),
        faults: scenario.faults,
        ghost: scenario.ghost,
    };
    let mut report = Report::default();
    let mut parents: HashMap<Key, Option<(Key, Move)>> = HashMap::new();
    let mut healed: HashSet<Key> = HashSet::new();
    parents.insert(key(&start), None);
    let mut frontier = VecDeque::from([start]);
    while let Some(node) = frontier.pop_front() {
        let from = key(&node);
        if let Err(problem) = heals(&node.cluster, &mut healed) {
            report.counterexample = Some(run(scenario, &parents, from, None) + &problem);
            report.states = parents.len();
            return report;
        }
        for change in enabled(&node) {
            let (next, decided) = after(&node, &change);
            report.moves += 1;
            note(&mut report.seen, decided.as_ref());
            if let Some(problem) = broken(&node.cluster, decided.as_ref(), &next.cluster) {
                let text = run(scenario, &parents, from, Some(&change));
                report.counterexample = Some(format!("{text}BROKEN: {problem}\n"));
                report.states = parents.len();
                return report;
            }
            let to = key(&next);
            if parents.len() < limit && !parents.contains_key(&to) {
                parents.insert(to, Some((from, change)));
                frontier.push_back(next);
            }
        }
    }
    report.states = parents.len();
    report.exhausted = parents.len() < limit;
    report
}

fn enabled(node: &Node) -> Vec<Move> {
    let mut moves = vec![Move::Reconcile, Move::Control, Move::Publish, Move::Tick];
    moves.extend(natural(&node.cluster));
    if node.faults > 0 {
        moves.extend(faults(&node.cluster));
    }
    if node.ghost {
        moves.push(Move::Freeze);
    }
    if node.cluster.old.is_some() {
        moves.push(Move::Ghost);
    }
    moves.extend(node.edits.iter().cloned().map(Move::User));
    moves
}

fn after(node: &Node, change: &Move) -> (Node, Option<Decided>) {
    let mut next = node.clone();
    let decided = change.make(&mut next.cluster);
    next.cluster.normalise();
    if change.is_fault() {
        next.faults = next.faults.saturating_sub(1);
    }
    match change {
        Move::User(edit) => {
            next.edits.remove(edit);
        }
        // It learns of its loss when it tries to renew the lease.
        Move::Ghost => next.cluster.old = None,
        Move::Freeze => next.ghost = false,
        _ => {}
    }
    (next, decided)
}

/// The rule that a move broke.
fn broken(before: &Cluster, decided: Option<&Decided>, after: &Cluster) -> Option<String> {
    let Decided { seen, plan } = decided?;
    if let Some(violation) = violations(seen, plan).first() {
        return Some(violation.to_string());
    }
    // What the operator does must never leave fewer pods that can serve than have to, unless
    // fewer could before, or what serves is what it leaves.
    let floor = before.world.floor();
    let (could, can) = (could_serve(before), could_serve(after));
    let leaves = matches!(before.world.memory.phase, Phase::Reverting(..));
    let is_wanted = before.world.goal.replicas > 0;
    (is_wanted && !leaves && can < could.min(floor))
        .then(|| format!("{could} pods could serve, {can} can now and {floor} have to"))
}

/// Pods that are ready and that the Service selects, whether or not the endpoints say so yet.
fn could_serve(cluster: &Cluster) -> u32 {
    let mut published = cluster.clone();
    published.publish();
    published.world.routed()
}

/// Every state comes to rest where it should once nothing else happens.
fn heals(start: &Cluster, healed: &mut HashSet<Key>) -> Result<(), String> {
    let mut cluster = start.clone();
    let mut path = Vec::new();
    for _ in 0..heal::ROUNDS {
        let here = key(&cluster);
        if healed.contains(&here) {
            healed.extend(path);
            return Ok(());
        }
        if path.contains(&here) {
            if heal::waits_for_a_place(&cluster) {
                healed.extend(path);
                return Ok(());
            }
            break;
        }
        path.push(here);
        heal::round(&mut cluster);
    }
    match heal::judge(&cluster) {
        Ok(()) if heal::rests(&cluster) => {
            healed.extend(path);
            Ok(())
        }
        Ok(()) => Err(format!("NEVER RESTS: {}\n", trace::state(&cluster))),
        Err(problem) => Err(format!(
            "THEN NOTHING ELSE HAPPENS, AND IT ENDS AS: {}\n    phase {}\n    {problem:?}\n",
            trace::state(&cluster),
            cluster.world.memory.phase
        )),
    }
}

/// The run that leads to a state, and one move more.
fn run(
    scenario: &Scenario,
    parents: &HashMap<Key, Option<(Key, Move)>>,
    to: Key,
    last: Option<&Move>,
) -> String {
    let mut moves: Vec<Move> = last.cloned().into_iter().collect();
    let mut at = to;
    while let Some(Some((from, change))) = parents.get(&at) {
        moves.push(change.clone());
        at = *from;
    }
    moves.reverse();
    let mut node = Node {
        cluster: scenario.start.clone(),
        edits: scenario.edits.clone(),
        faults: scenario.faults,
        ghost: scenario.ghost,
    };
    let mut text = format!("{}\n    have {}\n", scenario.name, trace::state(&node.cluster));
    for change in moves {
        let (next, decided) = after(&node, &change);
        trace::step(&mut text, &change, decided.as_ref(), &next.cluster);
        node = next;
    }
    text
}

fn note(seen: &mut BTreeSet<String>, decided: Option<&Decided>) {
    let Some(Decided { plan, .. }) = decided else { return };
    let kind = |text: String| {
        text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
    };
    seen.extend(plan.actions.iter().map(|action: &Action| kind(format!("{action:?}"))));
    seen.extend(plan.notes.iter().map(|note: &Note| kind(format!("{note:?}"))));
    seen.insert(kind(format!("{:?}", plan.memory.phase)));
}

/// How many states each world has, by its name.
pub type Sizes = BTreeMap<&'static str, usize>;
