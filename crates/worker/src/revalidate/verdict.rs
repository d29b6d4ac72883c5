//! What an answer to a case that is asked again means, given the ones before: decided here,
//! without I/O.
//!
//! ```text
//! right ──────────▶ go on; the case is beyond suspicion
//! wrong, first ───▶ ask again at once; the case is suspect
//! wrong, suspect ─▶ confirmed
//! failed ─────────▶ ask again after a pause; three times in a row are confirmed
//! no answer ──────▶ go on; nothing is known, suspicion stays
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_protocol::ModelKey;

/// What came of a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// As expected.
    Right,
    /// Not as expected.
    Wrong {
        /// What was expected, in words.
        expected: String,
        /// What was found, in words.
        found: String,
    },
    /// None: the engine failed at what it had computed before.
    Failed {
        /// How.
        problem: String,
    },
    /// None: it took too long, because of others for example.
    Inconclusive {
        /// Why.
        problem: String,
    },
}

/// So many failures in a row of one case are no passing trouble, such as memory that others took.
const FAILURES: u32 = 3;

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// To the next case.
    GoOn,
    /// Ask the same case again at once.
    AskAgain,
    /// Ask the same case again after a pause.
    AskLater,
    /// The model is wrong.
    Confirmed,
}

/// A case by its model and its place.
pub type CaseId = (ModelKey, usize);

/// The cases whose last answer was wrong, or at which the engine failed last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Suspects {
    wrong: BTreeSet<CaseId>,
    /// How often in a row.
    failed: BTreeMap<CaseId, u32>,
}

impl Suspects {
    /// Remembers an answer and says what to do.
    pub fn judge(&mut self, case: &CaseId, answer: &Answer) -> Next {
        match answer {
            Answer::Right => {
                self.wrong.remove(case);
                self.failed.remove(case);
                Next::GoOn
            }
            Answer::Inconclusive { .. } => Next::GoOn,
            Answer::Wrong { .. } if self.wrong.insert(case.clone()) => Next::AskAgain,
            Answer::Wrong { .. } => Next::Confirmed,
            Answer::Failed { .. } => {
                let times = self.failed.entry(case.clone()).or_default();
                *times += 1;
                if *times < FAILURES { Next::AskLater } else { Next::Confirmed }
            }
        }
    }

    /// Forgets the cases of models that are gone.
    pub fn forget_all_but(&mut self, is_there: impl Fn(&CaseId) -> bool) {
        self.wrong.retain(&is_there);
        self.failed.retain(|case, _| is_there(case));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(word: char) -> Answer {
        match word {
            'r' => Answer::Right,
            'w' => Answer::Wrong { expected: "1".to_owned(), found: "2".to_owned() },
            'f' => Answer::Failed { problem: "no device".to_owned() },
            _ => Answer::Inconclusive { problem: "busy".to_owned() },
        }
    }

    fn case(model: &str, index: usize) -> CaseId {
        (model.to_owned().try_into().unwrap(), index)
    }

    /// What is done after the last of the answers to one case.
    fn after(answers: &str) -> Next {
        let mut suspects = Suspects::default();
        answers.chars().map(|word| suspects.judge(&case("a:1", 0), &answer(word))).last().unwrap()
    }

    /// Guarantees: gates-16.
    #[test]
    fn the_same_case_must_be_wrong_twice_in_a_row() {
        for (answers, next) in [
            ("r", Next::GoOn),
            ("w", Next::AskAgain),
            ("ww", Next::Confirmed),
            ("wr", Next::GoOn),
            ("wrw", Next::AskAgain),
            ("wrww", Next::Confirmed),
        ] {
            assert_eq!(after(answers), next, "{answers}");
        }
    }

    /// Guarantees: gates-09.
    #[test]
    fn no_answer_is_never_a_failure_and_clears_no_suspicion() {
        for (answers, next) in [
            ("-", Next::GoOn),
            ("--------", Next::GoOn),
            ("w-", Next::GoOn),
            ("w--w", Next::Confirmed),
            ("w-rw", Next::AskAgain),
        ] {
            assert_eq!(after(answers), next, "{answers}");
        }
    }

    #[test]
    fn an_engine_that_fails_three_times_in_a_row_is_confirmed_to_be_broken() {
        for (answers, next) in [
            ("f", Next::AskLater),
            ("ff", Next::AskLater),
            ("fff", Next::Confirmed),
            ("ffr", Next::GoOn),
            ("ffrff", Next::AskLater),
            ("ff-f", Next::Confirmed),
            ("wfw", Next::Confirmed),
        ] {
            assert_eq!(after(answers), next, "{answers}");
        }
    }

    /// Guarantees: gates-16.
    #[test]
    fn another_case_of_the_same_or_of_another_model_confirms_nothing() {
        let mut suspects = Suspects::default();
        for case in [case("a:1", 0), case("a:1", 1), case("a:2", 0)] {
            assert_eq!(suspects.judge(&case, &answer('w')), Next::AskAgain);
        }
        assert_eq!(suspects.judge(&case("a:1", 1), &answer('w')), Next::Confirmed);
    }

    #[test]
    fn a_model_that_comes_back_is_not_suspect_for_what_it_was() {
        let mut suspects = Suspects::default();
        for model in ["a:1", "a:2"] {
            suspects.judge(&case(model, 0), &answer('w'));
        }
        suspects.forget_all_but(|(model, _)| model.version == "2");
        assert_eq!(suspects.judge(&case("a:1", 0), &answer('w')), Next::AskAgain);
        assert_eq!(suspects.judge(&case("a:2", 0), &answer('w')), Next::Confirmed);
    }
}
