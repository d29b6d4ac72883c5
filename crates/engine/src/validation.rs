//! Whether a model's answers are right.

use crate::error::EngineError;

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
    /// Passages ordered by falling cosine to a query.
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

/// Gives one vector for each text.
pub type Embed<'a> = &'a dyn Fn(&[&str]) -> Result<Vec<Vec<f32>>, EngineError>;

/// Asks every case, in order. A case whose question cannot be answered has not passed.
pub fn run(cases: &[Case], embed: Embed<'_>) -> Vec<Outcome> {
    let ask = |case: &Case| {
        let (passed, found) = match case.check.ask(embed) {
            Ok(answer) => answer,
            Err(error) => (false, format!("no answer: {error}")),
        };
        Outcome { name: case.name.clone(), passed, expected: case.check.expectation(), found }
    };
    cases.iter().map(ask).collect()
}

/// A bound on a cosine, as it is written in resources and golden files: a decimal number
/// between −1 and 1. None for anything else.
pub fn parse_cosine(text: &str) -> Option<f64> {
    let is_decimal = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let cosine: f64 = text.parse().ok()?;
    (text.chars().all(is_decimal) && (-1.0..=1.0).contains(&cosine)).then_some(cosine)
}

impl Check {
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
        }
    }

    /// Whether the answer was as expected, and the answer in words.
    fn ask(&self, embed: Embed<'_>) -> Result<(bool, String), EngineError> {
        match self {
            Self::Similarity { texts: [a, b], at_least, at_most } => {
                let vectors = embed(&[a, b])?;
                let [a, b] = vectors.as_slice() else {
                    return Ok((false, count(&vectors)));
                };
                let cosine = cosine(a, b);
                let within = at_least.is_none_or(|least| cosine >= least)
                    && at_most.is_none_or(|most| cosine <= most);
                let bounded = at_least.is_some() || at_most.is_some();
                Ok((within && bounded, describe(cosine)))
            }
            Self::Ranking { query, passages, order } => {
                let texts: Vec<&str> =
                    std::iter::once(query).chain(passages).map(String::as_str).collect();
                let vectors = embed(&texts)?;
                let Some((query, passages)) = vectors.split_first() else {
                    return Ok((false, count(&vectors)));
                };
                Ok(rank(query, passages, order))
            }
            Self::Vector { text, expected, min_cosine } => {
                let vectors = embed(&[text])?;
                let [vector] = vectors.as_slice() else {
                    return Ok((false, count(&vectors)));
                };
                if vector.len() != expected.len() {
                    let found = format!(
                        "a vector of {} numbers, the recorded one has {}",
                        vector.len(),
                        expected.len(),
                    );
                    return Ok((false, found));
                }
                let cosine = cosine(vector, expected);
                Ok((cosine >= *min_cosine, describe(cosine)))
            }
        }
    }
}

/// Ties keep the order of the passages.
fn rank(query: &[f32], passages: &[Vec<f32>], order: &[usize]) -> (bool, String) {
    let cosines: Vec<f64> = passages.iter().map(|passage| cosine(query, passage)).collect();
    let mut found: Vec<usize> = (0..cosines.len()).collect();
    found.sort_by(|a, b| cosines[*b].total_cmp(&cosines[*a]));
    let listed: Vec<String> =
        found.iter().map(|index| format!("{index}: {:.6}", cosines[*index])).collect();
    let defined = cosines.iter().all(|cosine| cosine.is_finite());
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

fn count(vectors: &[Vec<f32>]) -> String {
    format!("{} vectors", vectors.len())
}

/// NaN, which no bound admits, when a vector has no direction or they differ in length.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
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
