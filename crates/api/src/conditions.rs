//! Conditions: which there are, their reasons, and how a list of them is renewed.
//!
//! The rules are those of the API conventions
//! (<https://github.com/kubernetes/community/blob/main/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>)
//! and of kstatus, by which Helm, Flux and Argo CD decide whether a resource is done
//! (<https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>).

mod reason;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use reason::Reason;

/// Longest message of a condition, in bytes. The status of a resource with many models must
/// stay far below the size of an object in etcd.
pub const MAX_MESSAGE: usize = 1024;

/// The conditions of a `ModelDeployment`, in the order in which the status lists them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ConditionType {
    /// Every wanted pod serves every model of the current spec, or none is wanted.
    Ready,
    /// At least one pod serves.
    Available,
    /// A change is on its way, or has arrived; false when it cannot go on.
    Progressing,
    /// Every model of the serving revision passed its warm-up.
    WarmedUp,
    /// Every model of the serving revision answered its cases as expected.
    Validated,
    /// Something is kept or known to return to should the serving revision fail.
    RollbackAvailable,
    /// The spec is not yet what is (kstatus). Listed only while true.
    Reconciling,
    /// Nothing goes on without a change from outside (kstatus). Listed only while true.
    Stalled,
    /// It serves, but less or worse than the spec asks. Listed only while true.
    Degraded,
    /// Nothing new begins because the user said so. Listed only while true.
    Paused,
}

impl ConditionType {
    /// Every condition, in the order in which the status lists them.
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::Available,
        Self::Progressing,
        Self::WarmedUp,
        Self::Validated,
        Self::RollbackAvailable,
        Self::Reconciling,
        Self::Stalled,
        Self::Degraded,
        Self::Paused,
    ];

    /// The name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::WarmedUp => "WarmedUp",
            Self::Validated => "Validated",
            Self::RollbackAvailable => "RollbackAvailable",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Degraded => "Degraded",
            Self::Paused => "Paused",
        }
    }

    /// Whether the status lists it only while it is true.
    pub fn only_while_true(self) -> bool {
        matches!(self, Self::Reconciling | Self::Stalled | Self::Degraded | Self::Paused)
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known, for example because no pod has reported yet.
    Unknown,
}

impl State {
    /// The name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What is known about each condition, on the way to a list for the status.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    known: [Option<Known>; ConditionType::ALL.len()],
}

#[derive(Clone, Debug)]
struct Known {
    state: State,
    reason: Cow<'static, str>,
    message: String,
}

impl Conditions {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what is known about a condition; what was said before is replaced.
    ///
    /// The reason is one CamelCase word. Messages are cut to [`MAX_MESSAGE`] bytes.
    pub fn set(
        &mut self,
        condition: ConditionType,
        state: impl Into<State>,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> &mut Self {
        self.known[condition as usize] = Some(Known {
            state: state.into(),
            reason: well_formed(reason.into()),
            message: shortened(message.into()),
        });
        self
    }

    /// The list for the status: the six standing conditions, `Unknown` where nothing was said,
    /// and of the others those that are true. `lastTransitionTime` is `now` only where a state
    /// differs from `previous`.
    pub fn build(
        &self,
        previous: &[Condition],
        generation: Option<i64>,
        now: &Time,
    ) -> Vec<Condition> {
        ConditionType::ALL
            .into_iter()
            .filter_map(|condition| {
                let known = self.known[condition as usize].as_ref();
                if condition.only_while_true()
                    && known.is_none_or(|known| known.state != State::True)
                {
                    return None;
                }
                let state = known.map_or(State::Unknown, |known| known.state);
                let since = previous
                    .iter()
                    .find(|old| old.type_ == condition.as_str() && old.status == state.as_str())
                    .map_or(now, |old| &old.last_transition_time);
                Some(Condition {
                    type_: condition.as_str().to_owned(),
                    status: state.as_str().to_owned(),
                    reason: known
                        .map_or(Cow::from(Reason::NotYetObserved), |known| known.reason.clone())
                        .into_owned(),
                    message: known.map(|known| known.message.clone()).unwrap_or_default(),
                    last_transition_time: since.clone(),
                    observed_generation: generation,
                })
            })
            .collect()
    }
}

/// The apiserver refuses a whole status for one reason that is not a word, and some reasons
/// come from outside: a kubelet, a scheduler, a newer worker.
fn well_formed(reason: Cow<'static, str>) -> Cow<'static, str> {
    const MAX_REASON: usize = 128;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.len() <= MAX_REASON
        && reason.chars().all(word)
    {
        return reason;
    }
    let letters: String = reason
        .chars()
        .filter(|&c| word(c))
        .skip_while(|c| !c.is_ascii_alphabetic())
        .take(MAX_REASON)
        .collect();
    if letters.is_empty() { Reason::NotYetObserved.into() } else { letters.into() }
}

fn shortened(mut message: String) -> String {
    const ELLIPSIS: &str = "…";
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE - ELLIPSIS.len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(ELLIPSIS);
    }
    message
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a valid second"))
    }

    fn find(conditions: &[Condition], condition: ConditionType) -> Option<&Condition> {
        conditions.iter().find(|found| found.type_ == condition.as_str())
    }

    #[test]
    fn the_standing_conditions_are_listed_as_unknown_before_anything_is_known() {
        let list = Conditions::new().build(&[], Some(1), &at(10));
        let types: Vec<&str> = list.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(
            types,
            ["Ready", "Available", "Progressing", "WarmedUp", "Validated", "RollbackAvailable"]
        );
        for condition in &list {
            assert_eq!(condition.status, "Unknown");
            assert_eq!(condition.reason, "NotYetObserved");
            assert_eq!(condition.observed_generation, Some(1));
            assert_eq!(condition.last_transition_time, at(10));
        }
    }

    #[test]
    fn an_abnormal_condition_is_listed_only_while_it_is_true() {
        let mut conditions = Conditions::new();
        conditions.set(ConditionType::Stalled, true, Reason::NameTaken, "taken");
        assert!(find(&conditions.build(&[], None, &at(0)), ConditionType::Stalled).is_some());
        for state in [State::False, State::Unknown] {
            conditions.set(ConditionType::Stalled, state, Reason::NameTaken, "");
            assert!(find(&conditions.build(&[], None, &at(0)), ConditionType::Stalled).is_none());
        }
    }

    #[test]
    fn the_transition_time_moves_only_when_the_state_flips() {
        let mut conditions = Conditions::new();
        conditions.set(ConditionType::Ready, false, Reason::NoPodReady, "0 of 2");
        let first = conditions.build(&[], Some(1), &at(10));

        conditions.set(ConditionType::Ready, false, Reason::SomePodsReady, "1 of 2");
        let second = conditions.build(&first, Some(2), &at(20));
        let ready = find(&second, ConditionType::Ready).expect("Ready is listed");
        assert_eq!(ready.last_transition_time, at(10));
        assert_eq!(ready.message, "1 of 2");
        assert_eq!(ready.observed_generation, Some(2));

        conditions.set(ConditionType::Ready, true, Reason::AllPodsReady, "2 of 2");
        let third = conditions.build(&second, Some(2), &at(30));
        let ready = find(&third, ConditionType::Ready).expect("Ready is listed");
        assert_eq!(ready.last_transition_time, at(30));
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_setting() {
        let mut conditions = Conditions::new();
        for condition in ConditionType::ALL.into_iter().rev() {
            conditions.set(condition, true, Reason::RollingOut, "");
        }
        let types: Vec<String> = conditions
            .build(&[], None, &at(0))
            .into_iter()
            .map(|condition| condition.type_)
            .collect();
        assert_eq!(types, ConditionType::ALL.map(ConditionType::as_str));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let mut conditions = Conditions::new();
        conditions.set(
            ConditionType::Ready,
            false,
            Reason::ContainerCrashed,
            "é".repeat(MAX_MESSAGE),
        );
        let list = conditions.build(&[], None, &at(0));
        let message = &find(&list, ConditionType::Ready).expect("Ready is listed").message;
        assert!(message.len() <= MAX_MESSAGE, "{} bytes", message.len());
        assert!(message.ends_with('…'));
    }

    #[test]
    fn a_reason_from_outside_becomes_one_word_that_the_apiserver_takes() {
        assert_eq!(well_formed("ImagePullBackOff".into()), "ImagePullBackOff");
        assert_eq!(well_formed("Image pull: back-off".into()), "Imagepullbackoff");
        assert_eq!(well_formed("9Lives".into()), "Lives");
        assert_eq!(well_formed("…".into()), "NotYetObserved");
        assert_eq!(well_formed("A".repeat(500).into()).len(), 128);
    }

    #[test]
    fn every_reason_is_a_word_that_the_apiserver_takes() {
        // A reason that is not well formed would come back changed.
        for reason in Reason::ALL {
            assert_eq!(well_formed(reason.into()), reason.as_str());
        }
    }
}
