//! How urgent work is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A request with more texts or more tokens is bulk, unless it says otherwise. A reranking of some
/// dozens of passages is still answered to somebody who waits.
const BULK_TEXTS: usize = 128;
const BULK_TOKENS: usize = 16_384;

/// Longest time for which bulk work gets nothing because of interactive work.
const BULK_PATIENCE: Duration = Duration::from_millis(250);
/// Longest time for which the worker's own work gets nothing. A worker that is never idle is checked
/// as well.
const IDLE_PATIENCE: Duration = Duration::from_secs(5);

/// How urgent work is; the most urgent is the least.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Somebody waits for it.
    Interactive,
    /// A lot of work, of which nobody waits for a part.
    Bulk,
    /// The worker's own, for when nothing else is to be done.
    Idle,
}

/// A word that names no class that a client may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the class must be interactive or bulk")]
pub struct UnknownClass;

impl Class {
    /// The class that was asked for, or what the request's size says.
    pub fn choose(asked: Option<Self>, texts: usize, tokens: usize) -> Self {
        let is_large = texts > BULK_TEXTS || tokens > BULK_TOKENS;
        asked.unwrap_or(if is_large { Self::Bulk } else { Self::Interactive })
    }

    /// After which time without service it goes before more urgent work.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Interactive => Duration::ZERO,
            Self::Bulk => BULK_PATIENCE,
            Self::Idle => IDLE_PATIENCE,
        }
    }
}

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(word: &str) -> Result<Self, UnknownClass> {
        match word {
            "interactive" => Ok(Self::Interactive),
            "bulk" => Ok(Self::Bulk),
            _ => Err(UnknownClass),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
            Self::Idle => "idle",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_are_bulk_unless_they_say_otherwise() {
        for (asked, texts, tokens, class) in [
            (None, 1, 10, Class::Interactive),
            (None, BULK_TEXTS, BULK_TOKENS, Class::Interactive),
            (None, BULK_TEXTS + 1, 129, Class::Bulk),
            (None, 1, BULK_TOKENS + 1, Class::Bulk),
            (Some(Class::Bulk), 1, 1, Class::Bulk),
            (Some(Class::Interactive), 4_096, 1_000_000, Class::Interactive),
        ] {
            assert_eq!(
                Class::choose(asked, texts, tokens),
                class,
                "{texts} texts, {tokens} tokens"
            );
        }
    }

    #[test]
    fn clients_name_two_classes_and_no_other() {
        for class in [Class::Interactive, Class::Bulk] {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
        for word in ["", "idle", "Bulk", " bulk"] {
            assert_eq!(word.parse::<Class>(), Err(UnknownClass), "{word:?}");
        }
    }
}
