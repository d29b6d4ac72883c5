//! `golden.json`: an artifact's own validation cases, recorded from a model that was right.
//!
//! ```json
//! {"format": 1, "artifactDigest": "sha256:…", "cases": [
//! {"name": "near", "text": "a lamp", "vector": [0.1, …], "minCosine": "0.9999"}
//! ]}
//! ```
//!
//! A file belongs to the digest that it names, because the vectors of other weights differ; it
//! is no part of that digest.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::batch::embed_texts;
use crate::error::EngineError;
use crate::validation::{Case, Check, parse_cosine};

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
    /// The artifact that the vectors were recorded from.
    artifact_digest: String,
    cases: Vec<Recorded>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recorded {
    name: String,
    text: String,
    vector: Vec<f32>,
    /// A decimal string, as in the resource.
    min_cosine: String,
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
        texts: &[(String, String)],
        min_cosine: &str,
    ) -> Result<Self, EngineError> {
        let plain: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
        let vectors = embed_texts(engine, &plain)?;
        let recorded = texts.iter().zip(vectors).map(|((name, text), vector)| Recorded {
            name: name.clone(),
            text: text.clone(),
            vector,
            min_cosine: min_cosine.to_owned(),
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
            Some(Case {
                name: recorded.name.clone(),
                check: Check::Vector {
                    text: recorded.text.clone(),
                    expected: recorded.vector.clone(),
                    min_cosine: parse_cosine(&recorded.min_cosine)?,
                },
            })
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
            let problem = case.problem().or_else(|| {
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
    fn problem(&self) -> Option<&'static str> {
        if self.name.is_empty() {
            Some("it has no name")
        } else if self.vector.iter().any(|value| !value.is_finite()) {
            Some("the vector is not finite")
        } else if self.vector.iter().all(|value| *value == 0.0) {
            Some("the vector is zero")
        } else if parse_cosine(&self.min_cosine).is_none_or(|cosine| cosine <= 0.0) {
            Some("minCosine is not a decimal number above 0 and up to 1")
        } else {
            None
        }
    }
}

fn invalid(problem: String) -> EngineError {
    EngineError::GoldenInvalid { problem }
}
