//! Every order in which things can happen, until nothing new is found.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::cluster::Cluster;
use crate::coverage::Coverage;
use crate::heal;
use crate::moves::{Decided, Move, faults, natural};
use crate::rules;
use crate::scenario::Scenario;
use crate::trace;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many states there are.
    pub states: usize,
    /// How many moves lead from one to another.
    pub moves: usize,
    /// What occurred.
    pub seen: Coverage,
    /// The shortest run that breaks a rule, as text.
    pub counterexample: Option<String>,
    /// Nothing new was left to find.
    pub exhausted: bool,
}

/// A cluster, and what may still happen to it.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Node {
    cluster: Cluster,
    /// How far each line of [`Scenario::people`] has come.
    people: Vec<usize>,
    faults: u32,
    ghost: bool,
}

type Key = u128;

/// A state is known by 128 bits of its hash: with ten million states the chance that two share
/// one is below 10^-24.
fn key(state: &impl Hash) -> Key {
    let mut bytes = Bytes(Vec::with_capacity(4096));
    state.hash(&mut bytes);
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(&bytes.0);
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}

/// Gathers what is to be hashed: one long write costs a third of many short ones.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Explores a world. Stops at the first rule that is broken, and at `limit` states.
pub fn explore(scenario: &Scenario, limit: usize) -> Report {
    let mut report = Report::default();
    let mut parents: HashMap<Key, Option<(Key, Move)>> = HashMap::new();
    let mut healed: HashSet<Key> = HashSet::new();
    let start = Node::start(scenario);
    let first = key(&start);
    parents.insert(first, None);
    let mut frontier = VecDeque::from([(first, start)]);
    while let Some((from, node)) = frontier.pop_front() {
        let rest = heals(&node.cluster, &mut healed).and_then(|()| rules::wakes(&node.cluster));
        if let Err(problem) = rest {
            report.counterexample = Some(run(scenario, &parents, from, None) + &problem + "\n");
            break;
        }
        let broken = node.enabled(scenario).into_iter().find_map(|change| {
            let (next, decided) = node.after(&change);
            report.moves += 1;
            if let Some(decided) = &decided {
                report.seen.add(&decided.plan);
                if let Err(problem) = rules::keeps(&node.cluster, decided) {
                    return Some(run(scenario, &parents, from, Some(&change)) + &problem + "\n");
                }
            }
            let to = key(&next);
            if parents.len() < limit && !parents.contains_key(&to) {
                parents.insert(to, Some((from, change)));
                frontier.push_back((to, next));
            }
            None
        });
        if broken.is_some() {
            report.counterexample = broken;
            break;
        }
    }
    report.states = parents.len();
    report.exhausted = parents.len() < limit && report.counterexample.is_none();
    report
}

impl Node {
    fn start(scenario: &Scenario) -> Self {
        Self {
            cluster: scenario.start.clone(),
            people: vec![0; scenario.people.len()],
            faults: scenario.faults,
            ghost: scenario.ghost,
        }
    }

    fn enabled(&self, scenario: &Scenario) -> Vec<Move> {
        let mut moves = vec![Move::Reconcile, Move::Control, Move::Publish, Move::Tick];
        moves.extend(natural(&self.cluster));
        if self.faults > 0 {
            moves.extend(faults(&self.cluster));
        }
        if self.ghost {
            moves.push(Move::Freeze);
        }
        if self.cluster.old.is_some() {
            moves.push(Move::Ghost);
        }
        let lines = scenario.people.iter().zip(&self.people).enumerate();
        moves.extend(lines.filter_map(|(line, (edits, done))| {
            let edit = edits.get(*done)?.clone();
            Some(Move::User { line, edit })
        }));
        moves
    }

    fn after(&self, change: &Move) -> (Self, Option<Decided>) {
        let mut next = self.clone();
        let decided = change.make(&mut next.cluster);
        next.cluster.normalise();
        if change.is_fault() {
            next.faults = next.faults.saturating_sub(1);
        }
        match change {
            Move::User { line, .. } => {
                if let Some(done) = next.people.get_mut(*line) {
                    *done += 1;
                }
            }
            // It learns of its loss when it tries to renew the lease.
            Move::Ghost => next.cluster.old = None,
            Move::Freeze => next.ghost = false,
            _ => {}
        }
        (next, decided)
    }
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
    heal::rest(&cluster)?;
    healed.extend(path);
    Ok(())
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
    let mut node = Node::start(scenario);
    let mut trace = trace::Trace::of(&node.cluster);
    for change in moves.iter().rev() {
        let (next, decided) = node.after(change);
        trace.step(change, decided.as_ref(), &next.cluster);
        node = next;
    }
    format!("{}: {}\n{}", scenario.name, scenario.about, trace.to_the_end())
}
