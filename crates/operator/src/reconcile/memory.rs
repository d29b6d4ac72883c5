//! The memory of the rollout in the status: how it is read, and how it is written.
//!
//! The plan counts ages; the status holds times. A time that is read and not changed is written
//! back as it was, so a decision that changes nothing writes nothing. What cannot be read (another
//! release wrote it) is left out and named, never an error: the cluster itself shows what serves.

mod words;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, ToSpan};
use lamplighter_api as api;
use lamplighter_api::ModelDeploymentStatus;
use lamplighter_plan::rollout::strategy::Trigger;
use lamplighter_plan::rollout::{
    CommandKind, Direction, Failed, Memory, Phase, Pin, Placed, Rolling, Rollout, Withdrawn,
};
use lamplighter_plan::{PodName, RevisionId, Seconds};

use words::{class, command, command_word, environment, kind};
pub use words::{class_word, kind_word, outcome_word, phase_word};

/// Longest sentence that is remembered, in bytes; a rule of the CRD.
const MAX_MESSAGE: usize = 1024;
/// Longest reason for a strategy that is remembered, in bytes; a rule of the CRD.
const MAX_BECAUSE: usize = 512;
/// Most reasons for a strategy that are remembered; a rule of the CRD.
const MOST_BECAUSE: usize = 16;
/// Longest token of a command, in bytes; a rule of the CRD.
pub const MAX_TOKEN: usize = 256;

/// What the status remembers.
#[derive(Debug, Default)]
pub struct Remembered {
    /// For the plan.
    pub memory: Memory,
    /// There is no memory in the status, though there is a status: another release wrote it, or it
    /// was lost.
    pub is_lost: bool,
    /// What could not be read.
    pub unread: Vec<String>,
    times: Times,
}

/// The times that the ages of a memory were counted from.
#[derive(Debug, Default)]
struct Times {
    phase: Option<(Seconds, Time)>,
    out: Option<(Seconds, Time)>,
    failed: BTreeMap<RevisionId, (Seconds, Time)>,
}

/// Reads the memory.
pub fn remembered(status: Option<&ModelDeploymentStatus>, now: Timestamp) -> Remembered {
    let Some(status) = status else {
        return Remembered { is_lost: true, ..Remembered::default() };
    };
    let mut reader = Reader { now, times: Times::default(), unread: Vec::new() };
    let memory = Memory {
        epoch: status.epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or_default(),
        active: status
            .active
            .as_ref()
            .and_then(|active| reader.placed(&active.revision, &active.environment)),
        phase: reader.phase(status.rollout.as_ref()),
        known_good: status
            .known_good
            .iter()
            .map(|known| RevisionId::new(known.revision.as_str()))
            .collect(),
        failed: status.failed_revisions.iter().filter_map(|failed| reader.failed(failed)).collect(),
        acknowledged: status
            .acknowledged
            .iter()
            .filter_map(|heard| Some((command(&heard.command)?, heard.token.clone())))
            .collect(),
        pin: status.pin.as_ref().map(|pin| Pin {
            revision: RevisionId::new(pin.revision.as_str()),
            instead_of: RevisionId::new(pin.instead_of.as_str()),
        }),
    };
    let Reader { times, unread, .. } = reader;
    Remembered { memory, is_lost: status.epoch.is_none(), unread, times }
}

struct Reader {
    now: Timestamp,
    times: Times,
    unread: Vec<String>,
}

impl Reader {
    fn age(&self, time: &Time) -> Seconds {
        let seconds = self.now.as_second().saturating_sub(time.0.as_second());
        Seconds(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }

    fn placed(&mut self, revision: &str, environment_word: &str) -> Option<Placed> {
        let Some(environment) = environment(environment_word) else {
            self.unread.push(format!("environment {environment_word}"));
            return None;
        };
        Some(Placed { revision: RevisionId::new(revision), environment })
    }

    fn place(&mut self, place: &api::Place) -> Option<Placed> {
        self.placed(&place.revision, &place.environment)
    }

    fn phase(&mut self, state: Option<&api::RolloutState>) -> Phase {
        let Some(state) = state else { return Phase::Stable };
        if let Some(phase) = self.under_way(state) {
            return phase;
        }
        self.unread.push(format!("rollout in phase {}", state.phase));
        self.times.phase = None;
        Phase::Stable
    }

    fn under_way(&mut self, state: &api::RolloutState) -> Option<Phase> {
        let since = self.age(&state.since);
        self.times.phase = Some((since, state.since.clone()));
        let rollout = Rollout {
            from: self.optional(state.from.as_ref())?,
            to: self.place(&state.to)?,
            fallback: self.optional(state.fallback.as_ref())?,
            strategy: kind(&state.strategy)?,
            triggers: state.because.iter().cloned().map(Trigger::Recorded).collect(),
        };
        let rolling = |reader: &mut Self, rollout: Rollout, direction: Direction| {
            let withdrawn = state.withdrawn.as_ref().map(|withdrawn| reader.withdrawn(withdrawn));
            Phase::Rolling(Rolling { rollout, direction, since, withdrawn })
        };
        Some(match state.phase.as_str() {
            "Gating" => Phase::Gating(rollout, since),
            "AwaitingPromotion" => Phase::AwaitingPromotion(rollout, since),
            "CuttingOver" => Phase::CuttingOver(rollout, since),
            "Shedding" => Phase::Shedding(rollout, since),
            "Baking" => Phase::Baking(rollout, since),
            "Reverting" => Phase::Reverting(rollout, since),
            "Clearing" => Phase::Clearing(rollout, since),
            "RollingForward" => rolling(self, rollout, Direction::Forward),
            "RollingBack" => rolling(self, rollout, Direction::Back),
            _ => return None,
        })
    }

    /// None when there is one and it cannot be read.
    #[expect(clippy::option_option, reason = "absent and unreadable are different things")]
    fn optional(&mut self, place: Option<&api::Place>) -> Option<Option<Placed>> {
        match place {
            None => Some(None),
            Some(place) => self.place(place).map(Some),
        }
    }

    fn withdrawn(&mut self, withdrawn: &api::Withdrawn) -> Withdrawn {
        let out = withdrawn.out_time.as_ref().map(|time| (self.age(time), time.clone()));
        self.times.out.clone_from(&out);
        Withdrawn {
            pod: PodName::new(withdrawn.pod.as_str()),
            revision: RevisionId::new(withdrawn.revision.as_str()),
            leaves: natural(withdrawn.leaves),
            out: out.map(|(age, _)| age),
        }
    }

    fn failed(&mut self, failed: &api::FailedRevision) -> Option<(RevisionId, Failed)> {
        let revision = RevisionId::new(failed.revision.as_str());
        let Some(class) = class(&failed.class) else {
            self.unread.push(format!("failure of class {}", failed.class));
            return None;
        };
        let since = self.age(&failed.time);
        self.times.failed.insert(revision.clone(), (since, failed.time.clone()));
        let failed = Failed {
            class,
            reason: failed.reason.clone(),
            message: failed.message.clone(),
            attempts: natural(failed.attempts),
            since,
            released: failed.released,
        };
        Some((revision, failed))
    }
}

/// Writes the memory into a status. `retry` says after which time a failed revision is tried
/// again, if it is.
pub fn write(
    memory: &Memory,
    before: &Remembered,
    previous: &ModelDeploymentStatus,
    now: Timestamp,
    retry: impl Fn(&Failed) -> Option<Seconds>,
) -> ModelDeploymentStatus {
    let writer = Writer { now, before };
    ModelDeploymentStatus {
        epoch: Some(i64::try_from(memory.epoch).unwrap_or(i64::MAX)),
        rollout: writer.rollout(&memory.phase, previous),
        known_good: memory.known_good.iter().map(|known| writer.known(known, previous)).collect(),
        failed_revisions: memory
            .failed
            .iter()
            .map(|(revision, failed)| writer.failed(revision, failed, retry(failed)))
            .collect(),
        acknowledged: memory
            .acknowledged
            .iter()
            .map(|(kind, token)| api::Acknowledged {
                command: command_word(*kind).to_owned(),
                token: token.clone(),
            })
            .collect(),
        pin: memory.pin.as_ref().map(|pin| api::Pin {
            revision: pin.revision.to_string(),
            instead_of: pin.instead_of.to_string(),
        }),
        ..ModelDeploymentStatus::default()
    }
}

struct Writer<'a> {
    now: Timestamp,
    before: &'a Remembered,
}

impl Writer<'_> {
    /// The time so long ago. The status has whole seconds, and a wait must not end early for being
    /// rounded down.
    fn time(&self, age: Seconds, known: Option<&(Seconds, Time)>) -> Time {
        if let Some((_, time)) = known.filter(|(known, _)| *known == age) {
            return time.clone();
        }
        let whole = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        let begun = i64::from(whole < self.now);
        let shift = (begun - i64::from(age.0)).seconds();
        Time(whole.checked_add(shift).unwrap_or(whole))
    }

    fn rollout(
        &self,
        phase: &Phase,
        previous: &ModelDeploymentStatus,
    ) -> Option<api::RolloutState> {
        let (rollout, since, withdrawn) = match phase {
            Phase::Stable => return None,
            Phase::Gating(rollout, since)
            | Phase::AwaitingPromotion(rollout, since)
            | Phase::CuttingOver(rollout, since)
            | Phase::Shedding(rollout, since)
            | Phase::Baking(rollout, since)
            | Phase::Reverting(rollout, since)
            | Phase::Clearing(rollout, since) => (rollout, *since, None),
            Phase::Rolling(rolling) => {
                (&rolling.rollout, rolling.since, rolling.withdrawn.as_ref())
            }
        };
        // The same age in another phase is chance.
        let is_same = phase_word(phase) == phase_word(&self.before.memory.phase);
        let known = self.before.times.phase.as_ref().filter(|_| is_same);
        let to = place(&rollout.to);
        let goes_on = previous.rollout.as_ref().filter(|before| before.to == to);
        Some(api::RolloutState {
            started_time: goes_on
                .map_or_else(|| self.time(Seconds(0), None), |before| before.started_time.clone()),
            phase: phase_word(phase).to_owned(),
            since: self.time(since, known),
            from: rollout.from.as_ref().map(place),
            to,
            fallback: rollout.fallback.as_ref().map(place),
            strategy: kind_word(rollout.strategy).to_owned(),
            because: rollout
                .triggers
                .iter()
                .take(MOST_BECAUSE)
                .map(|trigger| shortened(trigger.to_string(), MAX_BECAUSE))
                .collect(),
            withdrawn: withdrawn.map(|withdrawn| self.withdrawn(withdrawn)),
        })
    }

    fn withdrawn(&self, withdrawn: &Withdrawn) -> api::Withdrawn {
        let is_same = self.before.memory.withdrawn().is_some_and(|old| old.pod == withdrawn.pod);
        let known = self.before.times.out.as_ref().filter(|_| is_same);
        api::Withdrawn {
            pod: withdrawn.pod.to_string(),
            revision: withdrawn.revision.to_string(),
            leaves: i64::from(withdrawn.leaves),
            out_time: withdrawn.out.map(|age| self.time(age, known)),
        }
    }

    fn known(&self, revision: &RevisionId, previous: &ModelDeploymentStatus) -> api::KnownGood {
        // What proves itself again is known since then, and is the first of the list.
        let proven = previous.known_good.iter().find(|known| known.revision == revision.as_str());
        let proven_time =
            proven.map_or_else(|| self.time(Seconds(0), None), |known| known.proven_time.clone());
        api::KnownGood { revision: revision.to_string(), proven_time }
    }

    fn failed(
        &self,
        revision: &RevisionId,
        failed: &Failed,
        retry: Option<Seconds>,
    ) -> api::FailedRevision {
        let time = self.time(failed.since, self.before.times.failed.get(revision));
        let after =
            |wait: Seconds| Time(time.0.checked_add(i64::from(wait.0).seconds()).unwrap_or(time.0));
        api::FailedRevision {
            revision: revision.to_string(),
            class: class_word(failed.class).to_owned(),
            reason: shortened(failed.reason.clone(), 128),
            message: shortened(failed.message.clone(), MAX_MESSAGE),
            attempts: i64::from(failed.attempts),
            next_retry_time: retry.map(after),
            time,
            released: failed.released,
        }
    }
}

fn place(placed: &Placed) -> api::Place {
    api::Place {
        revision: placed.revision.to_string(),
        environment: placed.environment.to_string(),
    }
}

fn natural(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// A text of at most so many bytes, cut at a character.
pub fn shortened(mut text: String, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > most {
        let mut end = most.saturating_sub(ELLIPSIS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
    text
}

/// The commands that the annotations hold, acknowledged or not.
pub fn commands(
    annotations: &BTreeMap<String, String>,
) -> BTreeMap<CommandKind, lamplighter_plan::rollout::Command> {
    words::COMMANDS
        .into_iter()
        .filter_map(|(kind, key, _)| {
            let token = shortened(annotations.get(key)?.trim().to_owned(), MAX_TOKEN);
            // `<revision>` or `<revision>@<anything>`: the second form asks for the same again.
            let revision = token.split('@').next().unwrap_or_default().trim().to_owned();
            let needs_one = kind != CommandKind::Abort;
            let revision = (needs_one && !revision.is_empty()).then(|| RevisionId::new(revision));
            Some((kind, lamplighter_plan::rollout::Command { token, revision }))
        })
        .collect()
}
