//! What time it is for the apiserver.
//!
//! Deadlines are held against ages, and an age is now less a time that the cluster wrote. Were now
//! the own clock's, an operator on a node whose clock runs minutes fast would give up every rollout
//! at once, and one whose clock runs slow never would. So now is the apiserver's: every answer
//! carries its `Date`.
//!
//! A `Date` is cut to the second (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>), and
//! between question and answer time passes, so one answer gives bounds, and several answers narrower
//! ones. Of what the bounds allow, the smallest correction counts: a clock that is right, as far as
//! can be told, is left alone.
//!
//! # Caveat
//!
//! Kubelets write some of the times by their own clocks. Those of a node that is wrong stay wrong.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::fmt::rfc2822::DateTimeParser;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::context::Clock;

/// A correction up to this is not worth a line in the log.
const NOTABLE: SignedDuration = SignedDuration::from_secs(5);
/// A correction beyond this is not believed: it is likelier that something on the way answered.
const BELIEVABLE: SignedDuration = SignedDuration::from_hours(24);
/// How exact a `Date` is.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

/// The time of the apiserver, as far as its answers tell it. Clones share what was heard.
#[derive(Clone)]
pub struct ServerTime {
    own: Clock,
    heard: Arc<Mutex<Heard>>,
}

/// What was heard so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Heard {
    bounds: Option<Bounds>,
    /// What the log said last.
    standing: Standing,
}

/// One answer: its `Date`, and the own clock when the question left and when the answer came.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// What the answer says.
    pub date: Timestamp,
    /// The own clock before.
    pub asked: Timestamp,
    /// The own clock after.
    pub answered: Timestamp,
}

/// How far the apiserver's clock is ahead of the own one, at least and at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Bounds {
    least: SignedDuration,
    most: SignedDuration,
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Standing {
    /// The clocks agree well enough.
    #[default]
    Agrees,
    /// They do not; the apiserver's counts.
    Differs,
    /// They differ so much that the answer is not believed; what was heard before counts.
    Unbelievable,
}

/// Reads the value of a `Date` header; none when it is no date.
pub fn parse_date(value: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(value).ok()
}

// === impl ServerTime ===

impl ServerTime {
    /// The own clock counts until an answer was heard.
    pub fn new(own: Clock) -> Self {
        Self { own, heard: Arc::default() }
    }

    /// The own clock.
    pub fn own(&self) -> Timestamp {
        self.own.now()
    }

    /// Learns from an answer.
    pub fn hear(&self, answer: &Answer) {
        let Some(newer) = Bounds::of(answer) else { return };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let next = heard.after(newer);
        if next.standing != heard.standing {
            tell(next.standing, newer.correction());
        }
        *heard = next;
    }

    /// The apiserver's time.
    pub fn now(&self) -> Timestamp {
        let correction = self
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bounds
            .map_or(SignedDuration::ZERO, Bounds::correction);
        let own = self.own.now();
        own.checked_add(correction).unwrap_or(own)
    }

    /// A clock that shows it.
    pub fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::from_fn(move || time.now())
    }
}

fn tell(standing: Standing, ahead: SignedDuration) {
    let ahead_seconds = ahead.as_secs();
    match standing {
        Standing::Agrees => tracing::info!("the own clock and the apiserver's agree again"),
        Standing::Differs => tracing::warn!(
            ahead_seconds,
            "the apiserver's clock differs from the own one; ages are counted by the apiserver's, but see to the clocks"
        ),
        Standing::Unbelievable => tracing::warn!(
            ahead_seconds,
            "an answer's Date is more than a day off and is not believed; see to the clocks, and to what answers in place of the apiserver"
        ),
    }
}

// === impl Heard ===

impl Heard {
    fn after(self, newer: Bounds) -> Self {
        if newer.correction().abs() > BELIEVABLE {
            return Self { standing: Standing::Unbelievable, ..self };
        }
        let bounds = self.bounds.map_or(newer, |known| known.narrowed(newer));
        let differs = bounds.correction().abs() > NOTABLE;
        let standing = if differs { Standing::Differs } else { Standing::Agrees };
        Self { bounds: Some(bounds), standing }
    }
}

// === impl Bounds ===

impl Bounds {
    /// None when the own clock was set back in between, so that nothing can be told.
    fn of(answer: &Answer) -> Option<Self> {
        let least = answer.date.duration_since(answer.answered);
        let most = answer.date.duration_since(answer.asked).saturating_add(RESOLUTION);
        (least <= most).then_some(Self { least, most })
    }

    /// What both allow. Where they contradict each other a clock was set, or has drifted, or
    /// another apiserver answers: the newer ones alone.
    fn narrowed(self, newer: Self) -> Self {
        let both = Self { least: self.least.max(newer.least), most: self.most.min(newer.most) };
        if both.least <= both.most { both } else { newer }
    }

    /// The smallest correction that is allowed.
    fn correction(self) -> SignedDuration {
        SignedDuration::ZERO.max(self.least).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    /// What an apiserver whose clock is so far ahead answers to a question of this moment, half way
    /// through the time that the answer takes.
    fn answer(asked: i64, takes: i64, ahead: i64) -> Answer {
        let date = (asked + takes / 2 + ahead).div_euclid(1000) * 1000;
        Answer { date: at(date), asked: at(asked), answered: at(asked + takes) }
    }

    /// The corrections in milliseconds after each answer.
    fn corrections(answers: &[Answer]) -> Vec<i128> {
        let mut heard = Heard::default();
        answers
            .iter()
            .map(|answer| {
                heard = heard.after(Bounds::of(answer).unwrap());
                heard.bounds.map_or(0, |bounds| bounds.correction().as_millis())
            })
            .collect()
    }

    #[test]
    fn a_date_header_is_read_and_other_words_are_not() {
        let read = parse_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read, Some(Timestamp::from_second(784_111_777).unwrap()));
        assert_eq!(parse_date("yesterday"), None);
        assert_eq!(parse_date(""), None);
    }

    #[test]
    fn a_clock_that_is_right_is_left_alone() {
        let answers: Vec<_> = (0..50).map(|n| answer(n * 1_237, 7, 0)).collect();
        assert!(corrections(&answers).iter().all(|correction| *correction == 0));
    }

    #[test]
    fn a_clock_that_is_minutes_off_is_corrected_by_the_first_answer_to_the_second() {
        for ahead in [-300_000, 300_000] {
            let error = corrections(&[answer(12_345, 40, ahead)])[0] - i128::from(ahead);
            assert!(error.abs() <= 1_000 + 40, "{ahead}: {error}");
        }
    }

    #[test]
    fn a_slow_answer_spoils_nothing_that_was_known() {
        let known = answer(10_400, 20, 60_000);
        let slow = answer(20_000, 30_000, 60_000);
        let [first, second] = corrections(&[known, slow])[..] else { panic!("two answers") };
        assert_eq!(first, second);
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_the_next_answer() {
        let [before, after] =
            corrections(&[answer(10_000, 10, 120_000), answer(20_000, 10, 0)])[..]
        else {
            panic!("two answers");
        };
        assert!(before > 118_000, "{before}");
        assert_eq!(after, 0);
    }

    #[test]
    fn what_is_days_off_is_not_believed_and_what_is_notable_is_told_once() {
        let day = 24 * 3_600 * 1_000;
        let heard =
            |heard: Heard, ahead| heard.after(Bounds::of(&answer(5_000, 10, ahead)).unwrap());
        let near = heard(Heard::default(), 2_000);
        assert_eq!(near.standing, Standing::Agrees);
        let far = heard(near, 10_000);
        assert_eq!(far.standing, Standing::Differs);
        let absurd = heard(far, 2 * day);
        assert_eq!(absurd, Heard { standing: Standing::Unbelievable, ..far });
    }

    #[test]
    fn the_own_clock_counts_before_the_first_answer_and_after_one_that_tells_nothing() {
        let time = ServerTime::new(Clock::stopped_at(at(50_000)));
        assert_eq!(time.now(), at(50_000));
        // The own clock was set back by an hour while the apiserver was asked.
        let odd = Answer { date: at(9_000_000), asked: at(3_650_000), answered: at(50_000) };
        time.hear(&odd);
        assert_eq!(time.now(), at(50_000));
        time.hear(&Answer { date: at(110_000), asked: at(50_000), answered: at(50_000) });
        assert_eq!(time.clock().now(), at(110_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Guarantees: return-08.
        #[test]
        fn the_correction_is_never_further_off_than_a_second_and_one_answer(
            ahead in -1_000_000..1_000_000_i64,
            questions in proptest::collection::vec((0..60_000_i64, 0..2_000_i64), 1..20),
        ) {
            let mut asked = 0;
            let mut fastest = i64::MAX;
            let mut answers = Vec::new();
            for (pause, takes) in questions {
                asked += pause;
                fastest = fastest.min(takes);
                answers.push(answer(asked, takes, ahead));
                asked += takes;
            }
            let last = corrections(&answers).pop().unwrap();
            let error = (last - i128::from(ahead)).abs();
            prop_assert!(error <= i128::from(1_000 + fastest), "{error}");
        }
    }
}
