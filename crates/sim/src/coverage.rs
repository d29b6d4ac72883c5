//! What occurred in a search: a world in which nothing happens proves nothing.

use std::collections::BTreeSet;

use lamplighter_plan::rollout::{Action, Note, Outcome, Phase, Plan};

/// The names of all variants of an enum, and the name of one. What is not listed does not compile.
macro_rules! kinds {
    ($list:ident, $name:ident, $of:ident: $($kind:ident)+) => {
        #[doc = concat!("Every kind of [`", stringify!($of), "`].")]
        pub const $list: &[&str] = &[$(stringify!($kind)),+];

        fn $name(of: &$of) -> &'static str {
            match of {
                $($of::$kind { .. } => stringify!($kind)),+
            }
        }
    };
}

kinds!(PHASES, phase, Phase: Stable Gating AwaitingPromotion CuttingOver Shedding Baking Reverting
    Clearing Rolling);
kinds!(ACTIONS, action, Action: Resolve Create Scale Select Withdraw Restore Shed Validate Delete
    Forget);
kinds!(NOTES, note, Note: Overtaken Paused ScaledToZero ServiceUnusable Resolving Sweeping Began
    RollingRefused Gates Passed PromotionAwaited Promoted ValidationStale Confirming Confirmed
    Connected Bakes Rolls Leaves Stays FloorHolds Failed NoWayBack Finished Quarantined Heard
    Inapplicable Unpinned Swept Resized);
kinds!(OUTCOMES, outcome, Outcome: Promoted FastPromoted Aborted Superseded RolledBack
    RolledBackAuto Blocked);

/// The kinds of phases, actions, notes and outcomes that occurred, and the reasons of failures.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// Phases.
    pub phases: BTreeSet<&'static str>,
    /// Actions.
    pub actions: BTreeSet<&'static str>,
    /// Notes.
    pub notes: BTreeSet<&'static str>,
    /// How rollouts ended.
    pub outcomes: BTreeSet<&'static str>,
    /// Why revisions failed.
    pub reasons: BTreeSet<String>,
}

impl Coverage {
    /// Counts what a plan has in it.
    pub fn add(&mut self, plan: &Plan) {
        self.phases.insert(phase(&plan.memory.phase));
        self.actions.extend(plan.actions.iter().map(action));
        for found in &plan.notes {
            self.notes.insert(note(found));
            if let Note::Finished { outcome: how, .. } = found {
                self.outcomes.insert(outcome(how));
            }
            if let Note::Failed { reason, .. } = found
                && !self.reasons.contains(reason)
            {
                self.reasons.insert(reason.clone());
            }
        }
    }

    /// Adds what occurred elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.phases.extend(other.phases);
        self.actions.extend(other.actions);
        self.notes.extend(other.notes);
        self.outcomes.extend(other.outcomes);
        self.reasons.extend(other.reasons);
    }

    /// What never occurred, as `Note::Stays`.
    pub fn missing(&self) -> Vec<String> {
        let lists = [
            ("Phase", PHASES, &self.phases),
            ("Action", ACTIONS, &self.actions),
            ("Note", NOTES, &self.notes),
            ("Outcome", OUTCOMES, &self.outcomes),
        ];
        lists
            .into_iter()
            .flat_map(|(of, all, seen)| {
                let unseen = all.iter().filter(|kind| !seen.contains(*kind));
                unseen.map(move |kind| format!("{of}::{kind}"))
            })
            .collect()
    }
}
