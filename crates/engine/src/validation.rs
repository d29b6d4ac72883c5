//! Whether a model's answers are right.

use crate::error::EngineError;
use crate::{Gives, Text};

/// A question with its expected answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The case's name in reports.
    pub name: String,
    /// What is asked and expected.
    pub check: Check,
}

/// What a case asks and expects. Cosines lie between −1 and 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// The cosine of two texts' vectors lies within bounds.
    Similarity {
        /// The two texts.
        texts: [String; 2],
        /// The smallest allowed cosine.
        at_least: Option<f64>,
        /// The largest allowed cosine.
        at_most: Option<f64>,
    },
    /// Passages ordered by falling cosine to a query; of a model that gives one score, by falling
    /// score of the query with each of them.
    Ranking {
        /// The query.
        query: String,
        /// The passages.
        passages: Vec<String>,
        /// Indices of `passages`, best first.
        order: Vec<usize>,
    },
    /// A text's vector has nearly the recorded direction.
    Vector {
        /// The text.
        text: String,
        /// The recorded vector.
        expected: Vec<f32>,
        /// The smallest allowed cosine between them.
        min_cosine: f64,
    },
    /// A head's numbers are nearly the recorded ones.
    Scores {
        /// The text, or the first of two.
        text: String,
        /// The second text.
        second: Option<String>,
        /// The recorded numbers, as the head gave them: no sigmoid, no softmax.
        expected: Vec<f32>,
        /// The largest allowed difference of one of them.
        tolerance: f64,
    },
}

/// What came of a case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// Whether the answer was as expected.
    pub passed: bool,
    /// What was expected, in words.
    pub expected: String,
    /// What was found, in words.
    pub found: String,
}

/// Gives a model's own output for each text: a vector, or its scores.
pub type Answer<'a> = &'a dyn Fn(&[Text<'_>]) -> Result<Vec<Vec<f32>>, EngineError>;

/// Asks every case, in order, of a model that gives this. A case whose question cannot be answered
/// has not passed.
pub fn run(cases: &[Case], gives: &Gives, answer: Answer<'_>) -> Vec<Outcome> {
    let ask = |case: &Case| {
        let (passed, found) = case.check.ask(gives, answer).unwrap_or_else(|unasked| {
            let found = match unasked {
                Unasked::OfSuchModel(why) => why.to_owned(),
                Unasked::NoAnswer(error) => format!("no answer: {error}"),
            };
            (false, found)
        });
        Outcome { name: case.name.clone(), passed, expected: case.check.expectation(), found }
    };
    cases.iter().map(ask).collect()
}

/// A bound on a cosine, as it is written in resources and golden files: a decimal number
/// between −1 and 1. None for anything else.
pub fn parse_cosine(text: &str) -> Option<f64> {
    parse_decimal(text).filter(|cosine| (-1.0..=1.0).contains(cosine))
}

/// A finite number that is written as a decimal.
pub(crate) fn parse_decimal(text: &str) -> Option<f64> {
    let is_decimal = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let number: f64 = text.parse().ok()?;
    (text.chars().all(is_decimal) && number.is_finite()).then_some(number)
}

enum Unasked {
    /// A model that gives something else cannot be asked that.
    OfSuchModel(&'static str),
    NoAnswer(EngineError),
}

impl From<EngineError> for Unasked {
    fn from(error: EngineError) -> Self {
        Self::NoAnswer(error)
    }
}

impl Check {
    /// The texts, or pairs of texts, whose answers the check looks at, of a model that gives this;
    /// none that it could be asked if that is nothing that the check is about.
    pub fn questions(&self, gives: &Gives) -> Vec<Text<'_>> {
        self.ask_of(gives).unwrap_or_default()
    }

    fn ask_of(&self, gives: &Gives) -> Result<Vec<Text<'_>>, &'static str> {
        match (self, gives) {
            (Self::Similarity { texts: [a, b], .. }, Gives::Vectors { .. }) => {
                Ok(vec![Text::One(a), Text::One(b)])
            }
            (Self::Similarity { .. }, Gives::Scores { .. }) => Err(
                "the model gives scores and no vectors, so that texts have no cosine; check it with \
                 a ranking or with golden.json",
            ),
            (Self::Ranking { query, passages, .. }, Gives::Vectors { .. }) => {
                Ok(std::iter::once(query).chain(passages).map(|text| Text::One(text)).collect())
            }
            (Self::Ranking { query, passages, .. }, Gives::Scores { labels, .. }) => {
                if labels.len() == 1 {
                    Ok(passages.iter().map(|passage| Text::Pair(query, passage)).collect())
                } else {
                    Err("the model gives scores for several labels, by which passages have no \
                         order; check it with golden.json")
                }
            }
            (Self::Vector { text, .. }, Gives::Vectors { .. }) => Ok(vec![Text::One(text)]),
            (Self::Vector { .. }, Gives::Scores { .. }) => {
                Err("the model gives scores and no vectors; record golden.json again")
            }
            (Self::Scores { text, second: None, .. }, Gives::Scores { .. }) => {
                Ok(vec![Text::One(text)])
            }
            (Self::Scores { text, second: Some(second), .. }, Gives::Scores { .. }) => {
                Ok(vec![Text::Pair(text, second)])
            }
            (Self::Scores { .. }, Gives::Vectors { .. }) => {
                Err("the model gives vectors and no scores; record golden.json again")
            }
        }
    }

    fn expectation(&self) -> String {
        match self {
            Self::Similarity { at_least, at_most, .. } => match (at_least, at_most) {
                (Some(least), Some(most)) => format!("cosine from {least} to {most}"),
                (Some(least), None) => format!("cosine at least {least}"),
                (None, Some(most)) => format!("cosine at most {most}"),
                (None, None) => "a bound on the cosine".to_owned(),
            },
            Self::Ranking { order, .. } => format!("order {order:?}"),
            Self::Vector { min_cosine, .. } => {
                format!("cosine at least {min_cosine} to the recorded vector")
            }
            Self::Scores { expected, tolerance, .. } => {
                format!("scores {expected:?}, each within {tolerance}")
            }
        }
    }

    /// Whether the answer was as expected, and the answer in words.
    fn ask(&self, gives: &Gives, answer: Answer<'_>) -> Result<(bool, String), Unasked> {
        let questions = self.ask_of(gives).map_err(Unasked::OfSuchModel)?;
        let answers = answer(&questions)?;
        if answers.len() != questions.len() {
            return Ok((false, format!("{} answers", answers.len())));
        }
        Ok(match (self, answers.as_slice()) {
            (Self::Similarity { at_least, at_most, .. }, [a, b]) => {
                let cosine = cosine(a, b);
                let within = at_least.is_none_or(|least| cosine >= least)
                    && at_most.is_none_or(|most| cosine <= most);
                let bounded = at_least.is_some() || at_most.is_some();
                (within && bounded, describe(cosine))
            }
            (Self::Ranking { order, .. }, answers) => match gives {
                Gives::Vectors { .. } => match answers.split_first() {
                    Some((query, passages)) => {
                        let cosines = passages.iter().map(|passage| cosine(query, passage));
                        rank(&cosines.collect::<Vec<_>>(), order)
                    }
                    None => (false, "no answers".to_owned()),
                },
                Gives::Scores { .. } => {
                    let first = |scores: &Vec<f32>| scores.first().copied().map(f64::from);
                    let scores = answers.iter().map(|scores| first(scores).unwrap_or(f64::NAN));
                    rank(&scores.collect::<Vec<_>>(), order)
                }
            },
            (Self::Vector { expected, .. } | Self::Scores { expected, .. }, [found])
                if found.len() != expected.len() =>
            {
                let (found, recorded) = (found.len(), expected.len());
                (false, format!("{found} numbers, {recorded} are recorded"))
            }
            (Self::Vector { expected, min_cosine, .. }, [vector]) => {
                let cosine = cosine(vector, expected);
                (cosine >= *min_cosine, describe(cosine))
            }
            (Self::Scores { expected, tolerance, .. }, [scores]) => {
                let mut pairs = scores.iter().zip(expected);
                // Of a number that is none, no difference is small.
                let near =
                    |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs() <= *tolerance;
                (!expected.is_empty() && pairs.all(near), format!("scores {scores:?}"))
            }
            (Self::Similarity { .. } | Self::Vector { .. } | Self::Scores { .. }, answers) => {
                (false, format!("{} answers", answers.len()))
            }
        })
    }
}

/// Ties keep the order of the passages.
fn rank(scores: &[f64], order: &[usize]) -> (bool, String) {
    let mut found: Vec<usize> = (0..scores.len()).collect();
    found.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let listed: Vec<String> =
        found.iter().map(|index| format!("{index}: {:.6}", scores[*index])).collect();
    let defined = scores.iter().all(|score| score.is_finite());
    let right = defined && !order.is_empty() && found == order;
    (right, format!("order {found:?} ({})", listed.join(", ")))
}

fn describe(cosine: f64) -> String {
    if cosine.is_finite() {
        format!("cosine {cosine:.7}")
    } else {
        "no cosine: a vector is zero, not finite, or of another length".to_owned()
    }
}

/// NaN, which no bound admits, when a vector has no direction or they differ in length.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
