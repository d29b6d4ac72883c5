//! Every world of every run, until nothing new is found.

#![expect(clippy::print_stdout, reason = "how large the worlds are is worth a line each")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Instant;

use lamplighter_sim::coverage::Coverage;
use lamplighter_sim::explore::{Report, explore};
use lamplighter_sim::scenario::Scenario;
use lamplighter_sim::worlds;

/// More states than any world has.
const LIMIT: usize = 10_000_000;

/// What no world can show, and why.
const EXCEPTED: [(&str, &str); 0] = [];

/// The worlds of every run, each explored once, up to the first in which a rule is broken.
static REPORTS: LazyLock<BTreeMap<&str, Report>> = LazyLock::new(|| {
    let mut reports = BTreeMap::new();
    for world in worlds::all().iter().filter(|world| !world.long) {
        let report = exhausted(world);
        let is_broken = report.counterexample.is_some();
        reports.insert(world.name, report);
        if is_broken {
            break;
        }
    }
    reports
});

fn exhausted(world: &Scenario) -> Report {
    let started = Instant::now();
    let report = explore(world, LIMIT);
    let (name, states, moves) = (world.name, report.states, report.moves);
    println!(
        "{name:26} {states:>8} states {moves:>9} moves {:>6} ms",
        started.elapsed().as_millis()
    );
    report
}

fn assert_kept(report: &Report) {
    if let Some(run) = &report.counterexample {
        panic!("{run}");
    }
    assert!(report.exhausted, "there are more than {LIMIT} states");
}

/// Guarantees: always-01, always-03, always-04, always-05, always-06, always-07, always-09,
/// always-10, always-11, always-12, capacity-01, rolling-01, rolling-05, rolling-07, rolling-10,
/// return-05, return-10, retry-01, retry-05, mind-02, mind-08, operator-01, operator-02,
/// operator-05, operator-07, api-06.
#[test]
fn every_order_of_events_keeps_the_rules_and_comes_to_rest() {
    REPORTS.values().for_each(assert_kept);
}

/// Guarantees: return-09.
#[test]
#[ignore = "takes minutes; `cargo xtask explore --long` does the same"]
fn every_order_of_events_keeps_the_rules_in_the_large_worlds_too() {
    worlds::all().iter().filter(|world| world.long).map(exhausted).for_each(|r| assert_kept(&r));
}

#[test]
fn every_phase_action_note_and_outcome_occurs_somewhere() {
    let mut seen = Coverage::default();
    for report in REPORTS.values() {
        seen.extend(report.seen.clone());
    }
    let missing: BTreeSet<String> = seen.missing().into_iter().collect();
    let excepted = EXCEPTED.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(missing, excepted, "seen were {seen:#?}");
}

/// Guarantees: told-05.
#[test]
fn each_world_shows_what_it_is_about() {
    let reasons = [
        ("unreadable", "ArtifactNotFound"),
        ("unreachable", "StoreUnavailable"),
        ("rolling-broken", "TensorShapeMismatch"),
        ("rolling-endless", "ProgressDeadlineExceeded"),
        ("rolling-poisoned", "RevalidationFailed"),
        ("halted", "CutoverUnconfirmed"),
        ("manual", "PromotionExpired"),
        ("crowded-rejects", "Unschedulable"),
        ("crowded-by-quota", "PodsRefused"),
    ];
    for (name, reason) in reasons {
        let seen = &REPORTS[name].seen;
        assert!(seen.reasons.contains(reason), "{name}: {:?}", seen.reasons);
    }
}

#[test]
fn the_names_of_the_worlds_are_distinct() {
    let worlds = worlds::all();
    let names: BTreeSet<_> = worlds.iter().map(|world| world.name).collect();
    assert_eq!(names.len(), worlds.len());
}
