//! Whether a request can be answered in its time, by how long its texts would wait and take.

use std::time::Duration;

/// How wrong the estimate may be before a request is refused for good.
const DOUBT: u32 = 2;

/// What a request has to expect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Prospect {
    /// It may be answered.
    Good,
    /// Not now, because of what is before it.
    TooLong,
    /// Never, not even alone.
    TooMuch,
}

impl Prospect {
    /// Of a request that has so much time left, whose texts would wait so long and then take so long.
    pub(crate) fn of(has: Duration, wait: Duration, takes: Duration) -> Self {
        if takes > has.saturating_mul(DOUBT) {
            return Self::TooMuch;
        }
        // What alone might take all of its time is tried: sending it again would change nothing.
        let takes = if takes > has { Duration::ZERO } else { takes };
        let is_first = wait.is_zero();
        if !is_first && wait.saturating_add(takes) > has { Self::TooLong } else { Self::Good }
    }
}

/// For how many of so many texts, which take so long, that time is enough; at least for one.
pub(crate) fn most_in_time(texts: usize, takes: Duration, has: Duration) -> usize {
    let share = has.as_nanos().saturating_mul(texts as u128) / takes.as_nanos().max(1);
    usize::try_from(share).unwrap_or(texts).clamp(1, texts.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_answered_is_taken_and_what_never_can_is_refused_for_good() {
        let of = |[has, wait, takes]: [u64; 3]| {
            let [has, wait, takes] = [has, wait, takes].map(Duration::from_secs);
            Prospect::of(has, wait, takes)
        };
        for (times, prospect) in [
            ([20, 0, 0], Prospect::Good),
            ([20, 15, 5], Prospect::Good),
            ([20, 15, 6], Prospect::TooLong),
            ([20, 21, 0], Prospect::TooLong),
            ([20, 0, 20], Prospect::Good),
            ([20, 0, 40], Prospect::Good),
            ([20, 15, 25], Prospect::Good),
            ([20, 21, 25], Prospect::TooLong),
            ([20, 0, 41], Prospect::TooMuch),
            ([20, 30, 41], Prospect::TooMuch),
        ] {
            assert_eq!(of(times), prospect, "{times:?}");
        }
    }

    #[test]
    fn as_many_texts_are_named_as_there_is_time_for() {
        let most = |texts, takes, has| {
            most_in_time(texts, Duration::from_secs(takes), Duration::from_secs(has))
        };
        assert_eq!(most(2_048, 64, 16), 512);
        assert_eq!(most(3, 100, 1), 1);
        assert_eq!(most(3, 1, 100), 3);
        assert_eq!(most(0, 0, 0), 1);
    }
}
