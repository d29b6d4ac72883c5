//! Which questions a model is asked before it serves, and what came of them.

use lamplighter_artifact::Artifact;
use lamplighter_engine::golden::Golden;
use lamplighter_engine::validation::{self, Outcome, parse_cosine};
use lamplighter_engine::{Engine, answer_texts};
use lamplighter_protocol::{
    Case, CaseResult, Check, Failure, Phase, Reason, ValidationMode, ValidationPlan,
    ValidationReport,
};

use crate::failure;

/// The manifest's cases, then the artifact's own.
pub(crate) fn collect(
    plan: &ValidationPlan,
    artifact: &Artifact,
) -> Result<Vec<validation::Case>, Failure> {
    let mut cases = plan.cases.iter().map(of_manifest).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &artifact.golden {
        let golden = Golden::read(path, &artifact.digest.to_string())
            .map_err(|error| failure::of_engine(&error, Phase::Validate))?;
        cases.extend(golden.cases());
    }
    Ok(cases)
}

/// Asks every case, in order, whatever came of the ones before.
pub(crate) fn ask(engine: &dyn Engine, cases: &[validation::Case]) -> ValidationReport {
    let gives = &engine.facts().gives;
    let outcomes = validation::run(cases, gives, &|texts| answer_texts(engine, texts));
    ValidationReport { disabled: false, cases: outcomes.into_iter().map(result).collect() }
}

/// Whether a model with this report may serve.
pub(crate) fn judge(mode: ValidationMode, report: &ValidationReport) -> Result<(), Failure> {
    if report.cases.is_empty() && mode == ValidationMode::Required {
        return Err(failure(
            Reason::NoValidationCases,
            "there is no validation case and no golden.json; add cases under validation, record \
             golden.json with `lamplighter-worker golden`, or set validation to Disabled"
                .to_owned(),
        ));
    }
    let wrong: Vec<&CaseResult> = report.cases.iter().filter(|case| !case.passed).collect();
    let Some(first) = wrong.first() else {
        return Ok(());
    };
    let message = format!(
        "validation case {:?} got a wrong answer ({} of {} cases did)",
        first.name,
        wrong.len(),
        report.cases.len(),
    );
    Err(Failure {
        expected: Some(first.expected.clone()),
        found: Some(first.found.clone()),
        ..failure(Reason::ValidationFailed, message)
    })
}

/// The report of a model whose user does not want its answers checked.
pub(crate) fn disabled() -> ValidationReport {
    ValidationReport { disabled: true, cases: Vec::new() }
}

fn result(outcome: Outcome) -> CaseResult {
    CaseResult {
        name: outcome.name,
        passed: outcome.passed,
        expected: outcome.expected,
        found: outcome.found,
    }
}

fn of_manifest(case: &Case) -> Result<validation::Case, Failure> {
    let bound = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => parse_cosine(text).map(Some).ok_or_else(|| {
            failure(
                Reason::ManifestInvalid,
                format!(
                    "validation case {:?}: {text:?} is not a decimal number from -1 to 1",
                    case.name
                ),
            )
        }),
    };
    let check = match &case.check {
        Check::Similarity { texts, at_least, at_most } => validation::Check::Similarity {
            texts: texts.clone(),
            at_least: bound(at_least)?,
            at_most: bound(at_most)?,
        },
        Check::Ranking { query, passages, order } => validation::Check::Ranking {
            query: query.clone(),
            passages: passages.clone(),
            order: order.clone(),
        },
    };
    Ok(validation::Case { name: case.name.clone(), check })
}

fn failure(reason: Reason, message: String) -> Failure {
    Failure::new(reason, message).with_phase(Phase::Validate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, passed: bool) -> CaseResult {
        CaseResult {
            name: name.to_owned(),
            passed,
            expected: "cosine at least 0.6".to_owned(),
            found: format!("cosine of {name}"),
        }
    }

    fn report(cases: Vec<CaseResult>) -> ValidationReport {
        ValidationReport { disabled: false, cases }
    }

    /// Guarantees: gates-06.
    #[test]
    fn no_case_at_all_is_never_healthy_unless_the_user_said_so() {
        let none = report(vec![]);
        let refused = judge(ValidationMode::Required, &none).unwrap_err();
        assert_eq!(refused.reason, Reason::NoValidationCases);
        assert_eq!(judge(ValidationMode::Disabled, &none), Ok(()));
    }

    #[test]
    fn the_first_wrong_case_is_named_with_what_was_expected_and_found() {
        let mixed = report(vec![case("a", true), case("b", false), case("c", false)]);
        let failure = judge(ValidationMode::Required, &mixed).unwrap_err();
        assert_eq!(failure.reason, Reason::ValidationFailed);
        assert!(failure.message.contains(r#""b""#), "{failure}");
        assert!(failure.message.contains("2 of 3"), "{failure}");
        assert_eq!(failure.expected.as_deref(), Some("cosine at least 0.6"));
        assert_eq!(failure.found.as_deref(), Some("cosine of b"));
    }

    #[test]
    fn a_bound_that_is_no_cosine_is_the_manifests_fault() {
        for bound in ["much", "1.5", "0,6", "NaN", ""] {
            let case = Case {
                name: "near".to_owned(),
                check: Check::Similarity {
                    texts: ["a".to_owned(), "b".to_owned()],
                    at_least: Some(bound.to_owned()),
                    at_most: None,
                },
            };
            let failure = of_manifest(&case).unwrap_err();
            assert_eq!(failure.reason, Reason::ManifestInvalid, "{bound}");
            assert!(failure.message.contains("near"), "{failure}");
        }
    }
}
