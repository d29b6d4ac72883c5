//! What a decision leaves behind for the next one. It lives in the status of the deployment, and
//! nowhere else: an operator that is killed between any two writes loses nothing.

use std::collections::BTreeMap;

use super::strategy::{Kind, Trigger};
use super::world::CommandKind;
use crate::terms::{FailureClass, PodName, RevisionId, Seconds};

/// How many revisions are remembered as good.
pub const KEPT_KNOWN_GOOD: usize = 3;

/// How many failed revisions are remembered.
pub const KEPT_FAILED: usize = 10;

/// What earlier decisions left behind. Ages count from when a thing was first remembered.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Memory {
    /// Grows with every change of this memory. Objects carry the epoch that they were written
    /// under, so that a memory which is out of date is recognised before it does harm.
    pub epoch: u64,
    /// What serves, and where; none until a revision did.
    pub active: Option<Placed>,
    /// What is under way.
    pub phase: Phase,
    /// Revisions that served well for the whole time that it takes to be sure, newest first.
    pub known_good: Vec<RevisionId>,
    /// Revisions that failed, and what that means for them.
    pub failed: BTreeMap<RevisionId, Failed>,
    /// The last command of each kind that was heard.
    pub acknowledged: BTreeMap<CommandKind, String>,
    /// A revision that a person asked to return to.
    pub pin: Option<Pin>,
}

/// An environment: what the Service selects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Environment {
    /// The first.
    Blue,
    /// The second.
    Green,
    /// Needed when a rollout begins while the last good environment is still kept.
    Amber,
}

/// A revision in an environment.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Placed {
    /// The revision.
    pub revision: RevisionId,
    /// Where its pods are.
    pub environment: Environment,
}

/// What is under way.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Nothing: what is active follows the wanted number of replicas.
    #[default]
    Stable,
    /// The candidate's pods load, warm up and prove their answers, for so long.
    Gating(Rollout, Seconds),
    /// The candidate is ready and a person has to say so, for so long.
    AwaitingPromotion(Rollout, Seconds),
    /// The Service is moved to the candidate and the endpoints follow, for so long.
    CuttingOver(Rollout, Seconds),
    /// The candidate serves; what is connected to the old environment is asked to come again.
    Shedding(Rollout, Seconds),
    /// The candidate has served for so long; what was there before is kept.
    Baking(Rollout, Seconds),
    /// The Service is moved back and the endpoints follow, for so long.
    Reverting(Rollout, Seconds),
    /// What is connected to the environment that failed is asked to come again, for so long.
    Clearing(Rollout, Seconds),
    /// Pods are replaced one at a time.
    Rolling(Rolling),
}

/// A change from one revision to another.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rollout {
    /// What served when it began; none for the first.
    pub from: Option<Placed>,
    /// The candidate.
    pub to: Placed,
    /// Where to return when the candidate fails after the switch.
    pub fallback: Option<Placed>,
    /// How.
    pub strategy: Kind,
    /// Why this way.
    pub triggers: Vec<Trigger>,
}

/// Pods are replaced one at a time.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rolling {
    /// The change.
    pub rollout: Rollout,
    /// Which way.
    pub direction: Direction,
    /// For how long it goes that way.
    pub since: Seconds,
    /// The pod that leaves next.
    pub withdrawn: Option<Withdrawn>,
}

/// Which way pods are replaced.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// To the candidate.
    Forward,
    /// Back to what was there.
    Back,
}

/// A pod that gets no new requests because it leaves next.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Withdrawn {
    /// The pod.
    pub pod: PodName,
    /// Its revision.
    pub revision: RevisionId,
    /// How many pods its workload asks for once it is gone.
    pub leaves: u32,
    /// For how long its address has been out of the endpoints.
    pub out: Option<Seconds>,
}

/// A revision that failed.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Failed {
    /// What to do about it.
    pub class: Class,
    /// A stable name in `PascalCase`.
    pub reason: String,
    /// A sentence that names the thing and the way out.
    pub message: String,
    /// How many attempts failed.
    pub attempts: u32,
    /// How long ago the last one did, or a person asked for another.
    pub since: Seconds,
    /// A person asked for another attempt.
    pub released: bool,
}

/// What a failure says about the next attempt.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// The same bytes and settings fail again.
    Deterministic,
    /// It may pass.
    Transient,
    /// It passes when somebody puts something right that is no part of the specification.
    Outside,
    /// There was no place for it.
    Capacity,
    /// A person gave it up, or did not confirm it in time.
    Withdrawn,
}

/// A revision that a person asked to return to.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pin {
    /// The revision.
    pub revision: RevisionId,
    /// What the specification described then. When it describes something else, this is over.
    pub instead_of: RevisionId,
}

// === impl Memory ===

impl Memory {
    /// The rollout that is under way.
    pub fn rollout(&self) -> Option<&Rollout> {
        match &self.phase {
            Phase::Stable => None,
            Phase::Gating(rollout, _)
            | Phase::AwaitingPromotion(rollout, _)
            | Phase::CuttingOver(rollout, _)
            | Phase::Shedding(rollout, _)
            | Phase::Baking(rollout, _)
            | Phase::Reverting(rollout, _)
            | Phase::Clearing(rollout, _) => Some(rollout),
            Phase::Rolling(rolling) => Some(&rolling.rollout),
        }
    }

    /// Whether pods are replaced in this environment: what is in it is then the walk's.
    pub fn rolls_in(&self, environment: Environment) -> bool {
        match &self.phase {
            Phase::Rolling(rolling) => rolling.rollout.to.environment == environment,
            Phase::Stable
            | Phase::Gating(..)
            | Phase::AwaitingPromotion(..)
            | Phase::CuttingOver(..)
            | Phase::Shedding(..)
            | Phase::Baking(..)
            | Phase::Reverting(..)
            | Phase::Clearing(..) => false,
        }
    }

    /// The pod that leaves next.
    pub fn withdrawn(&self) -> Option<&Withdrawn> {
        match &self.phase {
            Phase::Rolling(rolling) => rolling.withdrawn.as_ref(),
            Phase::Stable
            | Phase::Gating(..)
            | Phase::AwaitingPromotion(..)
            | Phase::CuttingOver(..)
            | Phase::Shedding(..)
            | Phase::Baking(..)
            | Phase::Reverting(..)
            | Phase::Clearing(..) => None,
        }
    }

    /// What must not be taken away: what serves, what may serve next, and where to return.
    pub fn needs(&self, placed: &Placed) -> bool {
        if self.active.as_ref() == Some(placed) {
            return true;
        }
        let Some(rollout) = self.rollout() else { return false };
        let from = match &self.phase {
            // It served between what is good and what is new, and proved neither.
            Phase::Baking(..) => None,
            Phase::Stable
            | Phase::Gating(..)
            | Phase::AwaitingPromotion(..)
            | Phase::CuttingOver(..)
            | Phase::Shedding(..)
            | Phase::Reverting(..)
            | Phase::Clearing(..)
            | Phase::Rolling(_) => rollout.from.as_ref(),
        };
        let to = match &self.phase {
            Phase::Clearing(..) | Phase::Stable => None,
            Phase::Gating(..)
            | Phase::AwaitingPromotion(..)
            | Phase::CuttingOver(..)
            | Phase::Shedding(..)
            | Phase::Baking(..)
            | Phase::Reverting(..)
            | Phase::Rolling(_) => Some(&rollout.to),
        };
        [from, to, rollout.fallback.as_ref()].contains(&Some(placed))
    }

    /// Remembers that a revision failed once more. The oldest failures make room.
    pub(crate) fn fail(
        &mut self,
        revision: &RevisionId,
        class: Class,
        reason: &str,
        message: String,
    ) {
        let attempts = self.failed.get(revision).map_or(0, |failed| failed.attempts);
        let failed = Failed {
            class,
            reason: reason.to_owned(),
            message,
            attempts: attempts.saturating_add(1),
            since: Seconds(0),
            released: false,
        };
        self.failed.insert(revision.clone(), failed);
        while self.failed.len() > KEPT_FAILED {
            let oldest = self
                .failed
                .iter()
                .filter(|(id, _)| *id != revision)
                .max_by_key(|(_, failed)| failed.since)
                .map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { break };
            self.failed.remove(&oldest);
        }
    }

    /// Gives a revision another chance.
    pub(crate) fn release(&mut self, revision: &RevisionId) {
        if let Some(failed) = self.failed.get_mut(revision) {
            failed.attempts = 0;
            failed.since = Seconds(0);
            failed.released = true;
        }
    }

    /// Remembers that a revision is good.
    pub(crate) fn prove(&mut self, revision: &RevisionId) {
        self.failed.remove(revision);
        self.known_good.retain(|known| known != revision);
        self.known_good.insert(0, revision.clone());
        self.known_good.truncate(KEPT_KNOWN_GOOD);
    }
}

// === impl Class ===

impl From<FailureClass> for Class {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Deterministic => Self::Deterministic,
            FailureClass::Transient => Self::Transient,
            FailureClass::Outside => Self::Outside,
        }
    }
}

// === impl Environment ===

impl Environment {
    /// Every environment, in the order in which they are used.
    pub const ALL: [Self; 3] = [Self::Blue, Self::Green, Self::Amber];

    /// The value of the pods' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Amber => "amber",
        }
    }
}
