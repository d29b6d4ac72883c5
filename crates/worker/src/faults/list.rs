//! Which faults there are, and reading a list of them.

use std::ffi::OsStr;
use std::time::Duration;

/// Long enough for any test, and within every clock.
const MOST_SECONDS: u64 = 24 * 60 * 60;
/// Enough for the largest limit of a test's volume, and not for the disk of a machine.
const MOST_MIB: u64 = 16 << 10;

/// What is to go wrong; by default nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    pub(super) slow_load: Option<Duration>,
    pub(super) never_ready: bool,
    pub(super) out_of_memory: bool,
    pub(super) fill_cache_at_load: Option<u64>,
    pub(super) fill_cache: Option<u64>,
    pub(super) crash_after: Option<Duration>,
    pub(super) poison_after: Option<Duration>,
    pub(super) wrong_answers: bool,
    pub(super) revalidate_every: Option<Duration>,
}

/// Why a list of faults cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FaultsError {
    /// The list is no UTF-8.
    #[error("it is no text")]
    NotText,
    /// There is no such fault.
    #[error(
        "{word:?} is no fault; there are slow-load=SECONDS, never-ready, out-of-memory, \
         fill-cache-at-load=MIB, fill-cache=MIB, crash-after=SECONDS, poison-after=SECONDS, \
         wrong-answers and revalidate-every=SECONDS, with commas between"
    )]
    Unknown {
        /// What stands there.
        word: String,
    },
    /// The fault has another value, or has none where it needs one.
    #[error("{word:?} must be {wanted}")]
    Malformed {
        /// What stands there.
        word: String,
        /// How it is written.
        wanted: String,
    },
    /// The fault stands there twice.
    #[error("{name} is given twice")]
    Twice {
        /// The fault's name.
        name: String,
    },
}

impl Faults {
    /// Reads a list with commas between its words; an empty one has no fault.
    pub fn parse(list: &OsStr) -> Result<Self, FaultsError> {
        let list = list.to_str().ok_or(FaultsError::NotText)?;
        let mut faults = Self::default();
        if list.is_empty() {
            return Ok(faults);
        }
        for word in list.split(',') {
            faults.add(word)?;
        }
        Ok(faults)
    }

    fn add(&mut self, word: &str) -> Result<(), FaultsError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let malformed = |value: &str| {
            let wanted = format!("{name}{value}");
            FaultsError::Malformed { word: word.to_owned(), wanted }
        };
        let number = |unit: &str, from: u64, to: u64| {
            let number = value.and_then(|value| value.parse().ok());
            let number = number.filter(|number| (from..=to).contains(number));
            number.ok_or_else(|| malformed(&format!("={unit}, a whole number from {from} to {to}")))
        };
        let seconds = || number("SECONDS", 0, MOST_SECONDS).map(Duration::from_secs);
        let mib = || number("MIB", 1, MOST_MIB);
        let alone = || value.map_or(Ok(()), |_| Err(malformed(", without a value")));
        let twice = match name {
            "slow-load" => self.slow_load.replace(seconds()?).is_some(),
            "fill-cache-at-load" => self.fill_cache_at_load.replace(mib()?).is_some(),
            "fill-cache" => self.fill_cache.replace(mib()?).is_some(),
            "crash-after" => self.crash_after.replace(seconds()?).is_some(),
            "poison-after" => self.poison_after.replace(seconds()?).is_some(),
            "revalidate-every" => self.revalidate_every.replace(seconds()?).is_some(),
            "never-ready" => alone().map(|()| std::mem::replace(&mut self.never_ready, true))?,
            "out-of-memory" => {
                alone().map(|()| std::mem::replace(&mut self.out_of_memory, true))?
            }
            "wrong-answers" => {
                alone().map(|()| std::mem::replace(&mut self.wrong_answers, true))?
            }
            _ => return Err(FaultsError::Unknown { word: word.to_owned() }),
        };
        if twice { Err(FaultsError::Twice { name: name.to_owned() }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn parse(list: &str) -> Result<Faults, FaultsError> {
        Faults::parse(OsStr::new(list))
    }

    #[test]
    fn every_fault_is_read_alone_and_all_of_them_together() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let none = Faults::default();
        let table = [
            ("slow-load=30", Faults { slow_load: seconds(30), ..none }),
            ("never-ready", Faults { never_ready: true, ..none }),
            ("out-of-memory", Faults { out_of_memory: true, ..none }),
            ("fill-cache-at-load=64", Faults { fill_cache_at_load: Some(64), ..none }),
            ("fill-cache=16384", Faults { fill_cache: Some(16_384), ..none }),
            ("crash-after=0", Faults { crash_after: seconds(0), ..none }),
            ("poison-after=86400", Faults { poison_after: seconds(86_400), ..none }),
            ("wrong-answers", Faults { wrong_answers: true, ..none }),
            ("revalidate-every=2", Faults { revalidate_every: seconds(2), ..none }),
            ("", none),
        ];
        for (list, faults) in table {
            assert_eq!(parse(list), Ok(faults), "{list}");
        }
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).take(9).collect();
        let all = Faults {
            slow_load: seconds(30),
            never_ready: true,
            out_of_memory: true,
            fill_cache_at_load: Some(64),
            fill_cache: Some(16_384),
            crash_after: seconds(0),
            poison_after: seconds(86_400),
            wrong_answers: true,
            revalidate_every: seconds(2),
        };
        assert_eq!(parse(&words.join(",")), Ok(all));
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for (list, word) in [
            ("crash", "crash"),
            ("never-ready,crash", "crash"),
            ("never-ready,,wrong-answers", ""),
            ("never-ready,", ""),
            (",", ""),
            (" never-ready", " never-ready"),
            ("Never-Ready", "Never-Ready"),
            ("=1", "=1"),
        ] {
            let error = FaultsError::Unknown { word: word.to_owned() };
            assert_eq!(parse(list), Err(error), "{list}");
        }
        let not_text = Faults::parse(OsStr::from_bytes(b"never-ready\xff"));
        assert_eq!(not_text, Err(FaultsError::NotText));
    }

    #[test]
    fn a_value_that_is_missing_or_none_says_how_it_is_written() {
        for (word, wanted) in [
            ("slow-load", "slow-load=SECONDS, a whole number from 0 to 86400"),
            ("crash-after=", "crash-after=SECONDS, a whole number from 0 to 86400"),
            ("crash-after=-1", "crash-after=SECONDS, a whole number from 0 to 86400"),
            ("poison-after=1s", "poison-after=SECONDS, a whole number from 0 to 86400"),
            ("poison-after=86401", "poison-after=SECONDS, a whole number from 0 to 86400"),
            ("fill-cache=0", "fill-cache=MIB, a whole number from 1 to 16384"),
            ("fill-cache=1=2", "fill-cache=MIB, a whole number from 1 to 16384"),
            ("fill-cache-at-load=16385", "fill-cache-at-load=MIB, a whole number from 1 to 16384"),
            ("never-ready=1", "never-ready, without a value"),
            ("out-of-memory=", "out-of-memory, without a value"),
            ("wrong-answers=yes", "wrong-answers, without a value"),
        ] {
            let error = parse(word).unwrap_err().to_string();
            assert_eq!(error, format!("{word:?} must be {wanted}"));
        }
    }

    #[test]
    fn a_fault_that_stands_there_twice_is_refused() {
        for (list, name) in
            [("never-ready,never-ready", "never-ready"), ("slow-load=1,slow-load=1", "slow-load")]
        {
            assert_eq!(parse(list), Err(FaultsError::Twice { name: name.to_owned() }));
        }
    }
}
