//! What a stream of requests says about a rollout. Pure: records and marks in, a ledger out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::record::{Client, Outcome, Record};
use super::{RATE, Stream};

/// How long after the end of a process its address may still get requests: until the kubelet has
/// seen it and every proxy has learnt of it.
pub const CRASH_WINDOW: Duration = Duration::from_secs(5);
/// The least part of the rate that has to be reached.
const LEAST_RATE: f64 = 0.8;

/// A process that a test made end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crash {
    /// Its pod.
    pub pod: String,
    /// When it ended, at the earliest.
    pub from: Duration,
}

/// A pod that a test made answer wrongly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Poison {
    /// The pod.
    pub pod: String,
    /// From when.
    pub from: Duration,
    /// Until when that may be at the latest.
    pub until: Duration,
}

/// What was done to pods on purpose.
#[derive(Clone, Debug, Default)]
pub struct Injected {
    /// Processes that ended.
    pub crashes: Vec<Crash>,
    /// Pods that answered wrongly.
    pub poisons: Vec<Poison>,
}

/// Whose failure it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The rollout's.
    Routing,
    /// The process that the test made end had it.
    Crash,
    /// The pod that the test poisoned gave it.
    Poison,
}

/// The sum of a stream.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How many requests.
    pub requests: usize,
    /// Requests in a second.
    pub rate: f64,
    /// Failures that are the rollout's, in words.
    pub by_routing: Vec<String>,
    /// How many were lost to crashes.
    pub to_crashes: usize,
    /// How many poisoned pods gave.
    pub by_poison: usize,
    /// How many answers each version gave.
    pub by_version: BTreeMap<&'static str, usize>,
    /// The median and the 99th hundredth of the times of quick readers.
    pub latency: (Duration, Duration),
}

/// Adds up.
pub fn ledger(stream: &Stream, injected: &Injected) -> Ledger {
    let mut ledger = Ledger {
        requests: stream.records.len(),
        rate: rate(stream),
        latency: latency(&stream.records),
        ..Ledger::default()
    };
    for record in &stream.records {
        if let Outcome::Right(version) = record.outcome {
            *ledger.by_version.entry(version).or_default() += 1;
            continue;
        }
        match blame(record, injected) {
            Blame::Crash => ledger.to_crashes += 1,
            Blame::Poison => ledger.by_poison += 1,
            Blame::Routing => ledger.by_routing.push(told(record, &stream.marks)),
        }
    }
    ledger
}

/// Whose failure it is. A request that failed without an answer before it on its connection cannot
/// tell its pod; it is a crash's only within that crash's window.
pub fn blame(record: &Record, injected: &Injected) -> Blame {
    let overlaps = |from: Duration, until: Duration| record.start <= until && record.end >= from;
    let is_of = |pod: &str| record.pod.as_deref().is_none_or(|known| known == pod);
    match &record.outcome {
        Outcome::Wrong => {
            let mut poisons = injected.poisons.iter();
            let found = poisons.any(|poison| {
                record.pod.as_deref() == Some(poison.pod.as_str())
                    && overlaps(poison.from, poison.until)
            });
            if found { Blame::Poison } else { Blame::Routing }
        }
        // A process that was started again says so until its models are back.
        Outcome::Status(503) | Outcome::Refused(_) | Outcome::Broken(_) | Outcome::Timeout => {
            let mut crashes = injected.crashes.iter();
            let found = crashes
                .any(|crash| is_of(&crash.pod) && overlaps(crash.from, crash.from + CRASH_WINDOW));
            if found { Blame::Crash } else { Blame::Routing }
        }
        Outcome::Right(_) | Outcome::Status(_) | Outcome::Garbled(_) => Blame::Routing,
    }
}

/// New connections that another version answered although the new one had answered one before,
/// after a switch was confirmed at this time.
pub fn mixed<'a>(records: &'a [Record], new: &str, confirmed: Duration) -> Vec<&'a Record> {
    let is_new =
        |record: &&Record| matches!(record.outcome, Outcome::Right(version) if version == new);
    let mut after: Vec<&Record> =
        records.iter().filter(|record| record.is_new && record.start >= confirmed).collect();
    after.sort_by_key(|record| record.start);
    let first = after.iter().position(is_new).unwrap_or(after.len());
    after
        .into_iter()
        .skip(first)
        .filter(|record| record.outcome.is_ok() && !is_new(record))
        .collect()
}

/// Which versions answered on kept connections after a time.
pub fn kept_answers(records: &[Record], after: Duration) -> BTreeMap<&'static str, usize> {
    let mut answers = BTreeMap::new();
    for record in records {
        if let Outcome::Right(version) = record.outcome
            && record.client == Client::Kept
            && record.start >= after
        {
            *answers.entry(version).or_default() += 1;
        }
    }
    answers
}

#[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^53")]
fn rate(stream: &Stream) -> f64 {
    stream.records.len() as f64 / stream.length.as_secs_f64().max(0.001)
}

fn latency(records: &[Record]) -> (Duration, Duration) {
    let quick =
        records.iter().filter(|record| record.outcome.is_ok() && record.client != Client::Slow);
    let mut times: Vec<Duration> = quick.map(Record::took).collect();
    times.sort_unstable();
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).copied();
    (at(50).unwrap_or_default(), at(99).unwrap_or_default())
}

fn told(record: &Record, marks: &[(Duration, String)]) -> String {
    let phase = marks.iter().rev().find(|(time, _)| *time <= record.start);
    format!(
        "at {:.1} s for {:.1} s, {}: {:?} on a {} connection of {:?}, pod {}",
        record.start.as_secs_f64(),
        record.took().as_secs_f64(),
        phase.map_or("before anything", |(_, what)| what),
        record.outcome,
        if record.is_new { "new" } else { "used" },
        record.client,
        record.pod.as_deref().unwrap_or("unknown"),
    )
}

impl Ledger {
    /// The requests were as many as there should be.
    pub fn check_rate(&self, at_least: usize) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.requests >= at_least && self.rate >= LEAST_RATE * f64::from(RATE),
            "only {} requests, {:.1} a second",
            self.requests,
            self.rate
        );
        Ok(())
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {:.1}/s; failed by routing {}, lost to injected crashes {}, wrong from injected poison {}; p50 {:?} p99 {:?}; {:?}",
            self.requests,
            self.rate,
            self.by_routing.len(),
            self.to_crashes,
            self.by_poison,
            self.latency.0,
            self.latency.1,
            self.by_version
        )?;
        for failure in self.by_routing.iter().take(20) {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(start: u32, pod: Option<&str>, outcome: Outcome) -> Record {
        Record {
            start: SECOND * start,
            end: SECOND * start + SECOND / 10,
            client: Client::Kept,
            slot: 0,
            is_new: true,
            pod: pod.map(str::to_owned),
            outcome,
        }
    }

    fn broken() -> Outcome {
        Outcome::Broken("reset".to_owned())
    }

    #[test]
    fn a_crash_takes_the_blame_for_its_own_pod_and_for_five_seconds() {
        let injected = Injected {
            crashes: vec![Crash { pod: "a".to_owned(), from: SECOND * 10 }],
            poisons: Vec::new(),
        };
        for (start, pod, outcome, expected) in [
            (10, Some("a"), broken(), Blame::Crash),
            (15, Some("a"), broken(), Blame::Crash),
            (16, Some("a"), broken(), Blame::Routing),
            (9, Some("a"), broken(), Blame::Routing),
            (11, Some("b"), broken(), Blame::Routing),
            (11, None, Outcome::Refused("no".to_owned()), Blame::Crash),
            (17, None, Outcome::Refused("no".to_owned()), Blame::Routing),
            (11, Some("a"), Outcome::Timeout, Blame::Crash),
            (11, Some("a"), Outcome::Wrong, Blame::Routing),
            (11, Some("a"), Outcome::Status(503), Blame::Crash),
            (11, Some("b"), Outcome::Status(503), Blame::Routing),
            (17, Some("a"), Outcome::Status(503), Blame::Routing),
            (11, Some("a"), Outcome::Status(500), Blame::Routing),
        ] {
            let found = blame(&record(start, pod, outcome.clone()), &injected);
            assert_eq!(found, expected, "{start} {pod:?} {outcome:?}");
        }
    }

    #[test]
    fn a_poison_takes_the_blame_for_wrong_answers_of_its_own_pod_in_its_time() {
        let poison = Poison { pod: "a".to_owned(), from: SECOND * 10, until: SECOND * 20 };
        let injected = Injected { crashes: Vec::new(), poisons: vec![poison] };
        for (start, pod, outcome, expected) in [
            (12, Some("a"), Outcome::Wrong, Blame::Poison),
            (21, Some("a"), Outcome::Wrong, Blame::Routing),
            (12, Some("b"), Outcome::Wrong, Blame::Routing),
            (12, None, Outcome::Wrong, Blame::Routing),
            (12, Some("a"), broken(), Blame::Routing),
        ] {
            assert_eq!(blame(&record(start, pod, outcome), &injected), expected, "{start} {pod:?}");
        }
    }

    #[test]
    fn the_old_version_on_a_new_connection_is_a_mixture_once_the_new_one_has_answered() {
        let right = |start, version| record(start, None, Outcome::Right(version));
        let used = |start, version| Record { is_new: false, ..right(start, version) };
        let before = [right(1, "old"), right(2, "new"), right(3, "old")];
        assert_eq!(mixed(&before, "new", SECOND * 4), Vec::<&Record>::new());
        let lagging = [right(5, "old"), right(6, "new"), used(7, "old"), right(8, "new")];
        assert_eq!(mixed(&lagging, "new", SECOND * 4), Vec::<&Record>::new());
        let torn = [right(6, "new"), right(7, "old")];
        assert_eq!(mixed(&torn, "new", SECOND * 4), [&torn[1]]);
    }

    #[test]
    fn what_nobody_injected_is_told_with_its_phase() {
        let stream = Stream {
            length: SECOND * 2,
            records: vec![record(1, Some("a"), broken()), record(1, None, Outcome::Right("old"))],
            marks: vec![(SECOND / 2, "phase Gating".to_owned()), (SECOND * 2, "later".to_owned())],
        };
        let ledger = ledger(&stream, &Injected::default());
        assert_eq!((ledger.requests, ledger.by_routing.len()), (2, 1));
        assert!(ledger.by_routing[0].contains("phase Gating"), "{}", ledger.by_routing[0]);
        assert!(ledger.check_rate(2).is_err(), "one request a second is not enough");
    }
}
