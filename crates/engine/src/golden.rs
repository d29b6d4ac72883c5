//! `golden.json`: an artifact's own validation cases, recorded from a model that was right.
//!
//! ```json
//! {"format": 1, "artifactDigest": "sha256:…", "cases": [
//! {"name": "near", "text": "a lamp", "vector": [0.1, …], "minCosine": "0.9999"}
//! ]}
//! ```
//!
//! Of a model that gives scores, a case has a text or two and what the head gave for them:
//!
//! ```json
//! {"name": "lit", "text": "who lit it?", "second": "a lamplighter", "scores": [7.1], "tolerance": "0.01"}
//! ```
//!
//! A file belongs to the digest that it names, because the answers of other weights differ; it
//! is no part of that digest.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::batch::answer_texts;
use crate::error::EngineError;
use crate::validation::{Case, Check, parse_cosine, parse_decimal};
use crate::{Engine, Gives, Text};

/// The file's name, at the artifact's root.
pub const FILE: &str = "golden.json";
/// The version of the format that is read and written.
pub const FORMAT: u32 = 1;
/// More cases than a start should wait for.
const MAX_CASES: usize = 1_000;

/// The recorded cases of an artifact.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Golden {
    format: u32,
    /// The artifact that the answers were recorded from.
    artifact_digest: String,
    cases: Vec<Recorded>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recorded {
    name: String,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
    /// A decimal string, as in the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_cosine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<f32>>,
    /// A decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tolerance: Option<String>,
}

/// How near later answers must come to the recorded ones, as decimals.
#[derive(Clone, Copy, Debug)]
pub struct Nearness<'a> {
    /// The smallest cosine between vectors.
    pub min_cosine: &'a str,
    /// The largest difference between numbers of a head.
    pub tolerance: &'a str,
}

impl Golden {
    /// Reads a file and checks that it belongs to the artifact.
    pub fn read(path: &Path, artifact_digest: &str) -> Result<Self, EngineError> {
        let json = std::fs::read_to_string(path)
            .map_err(|source| EngineError::Read { path: path.to_owned(), source })?;
        Self::parse(&json, artifact_digest)
    }

    /// As [`Golden::read`], from the file's text.
    pub fn parse(json: &str, artifact_digest: &str) -> Result<Self, EngineError> {
        let golden: Self =
            serde_json::from_str(json).map_err(|error| invalid(error.to_string()))?;
        golden.check()?;
        if golden.artifact_digest != artifact_digest {
            return Err(EngineError::GoldenForeign {
                expected: golden.artifact_digest,
                found: artifact_digest.to_owned(),
            });
        }
        Ok(golden)
    }

    /// Records what the model answers now to texts with names, as what it must answer later.
    pub fn record(
        engine: &dyn Engine,
        artifact_digest: &str,
        texts: &[(String, Text<'_>)],
        nearness: Nearness<'_>,
    ) -> Result<Self, EngineError> {
        let plain: Vec<Text<'_>> = texts.iter().map(|(_, text)| *text).collect();
        let answers = answer_texts(engine, &plain)?;
        let gives_vectors = matches!(engine.facts().gives, Gives::Vectors { .. });
        let recorded = texts.iter().zip(answers).map(|((name, text), answer)| {
            let (text, second) = match *text {
                Text::One(text) => (text, None),
                Text::Pair(text, second) => (text, Some(second)),
            };
            let (vector, scores) =
                if gives_vectors { (Some(answer), None) } else { (None, Some(answer)) };
            Recorded {
                name: name.clone(),
                text: text.to_owned(),
                second: second.map(str::to_owned),
                min_cosine: vector.is_some().then(|| nearness.min_cosine.to_owned()),
                tolerance: scores.is_some().then(|| nearness.tolerance.to_owned()),
                vector,
                scores,
            }
        });
        let golden = Self {
            format: FORMAT,
            artifact_digest: artifact_digest.to_owned(),
            cases: recorded.collect(),
        };
        golden.check().map(|()| golden)
    }

    /// The file's text, one case a line.
    pub fn to_json(&self) -> Result<String, EngineError> {
        let unprintable = |error: serde_json::Error| invalid(error.to_string());
        let cases: Result<Vec<String>, _> = self.cases.iter().map(serde_json::to_string).collect();
        let cases = cases.map_err(unprintable)?;
        let digest = serde_json::to_string(&self.artifact_digest).map_err(unprintable)?;
        let format = self.format;
        let cases = cases.join(",\n");
        Ok(format!(
            "{{\"format\": {format}, \"artifactDigest\": {digest}, \"cases\": [\n{cases}\n]}}\n"
        ))
    }

    /// The cases, to be run.
    pub fn cases(&self) -> Vec<Case> {
        let case = |recorded: &Recorded| {
            let check = recorded.check().ok()?;
            Some(Case { name: recorded.name.clone(), check })
        };
        self.cases.iter().filter_map(case).collect()
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.format != FORMAT {
            return Err(invalid(format!("it has the format {}, known is {FORMAT}", self.format)));
        }
        if !(1..=MAX_CASES).contains(&self.cases.len()) {
            let count = self.cases.len();
            return Err(invalid(format!("it has {count} cases, expected are 1 to {MAX_CASES}")));
        }
        let mut names = BTreeSet::new();
        for case in &self.cases {
            let problem = case.check().err().or_else(|| {
                (!names.insert(&case.name)).then_some("there is another case of that name")
            });
            if let Some(problem) = problem {
                return Err(invalid(format!("the case {:?}: {problem}", case.name)));
            }
        }
        Ok(())
    }
}

impl Recorded {
    /// The case, or what is wrong with it.
    fn check(&self) -> Result<Check, &'static str> {
        if self.name.is_empty() {
            return Err("it has no name");
        }
        let text = self.text.clone();
        match (&self.vector, &self.min_cosine, &self.scores, &self.tolerance) {
            (Some(vector), Some(min_cosine), None, None) => {
                if self.second.is_some() {
                    Err("two texts have no vector")
                } else if vector.iter().any(|value| !value.is_finite()) {
                    Err("the vector is not finite")
                } else if vector.iter().all(|value| *value == 0.0) {
                    Err("the vector is zero")
                } else {
                    let min_cosine = parse_cosine(min_cosine).filter(|cosine| *cosine > 0.0);
                    let min_cosine = min_cosine
                        .ok_or("minCosine is not a decimal number above 0 and up to 1")?;
                    Ok(Check::Vector { text, expected: vector.clone(), min_cosine })
                }
            }
            (None, None, Some(scores), Some(tolerance)) => {
                if scores.is_empty() {
                    Err("there are no scores")
                } else if scores.iter().any(|score| !score.is_finite()) {
                    Err("a score is not finite")
                } else {
                    let tolerance = parse_decimal(tolerance).filter(|most| *most >= 0.0);
                    let tolerance =
                        tolerance.ok_or("tolerance is not a decimal number from 0 on")?;
                    let (second, expected) = (self.second.clone(), scores.clone());
                    Ok(Check::Scores { text, second, expected, tolerance })
                }
            }
            _ => Err("it needs either vector and minCosine or scores and tolerance"),
        }
    }
}

fn invalid(problem: String) -> EngineError {
    EngineError::GoldenInvalid { problem }
}
