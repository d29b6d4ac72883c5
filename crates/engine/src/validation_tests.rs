use super::*;
use crate::{Pooling, Scale};

/// Texts are their own vectors: `"1 0"`. So are pairs their own scores, by their second text. One
/// that is none cannot be answered.
fn answer(texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, EngineError> {
    let vector = |(index, text): (usize, &Text<'_>)| {
        let (Text::One(text) | Text::Pair(_, text)) = text;
        let numbers = text.split(' ').map(str::parse);
        numbers
            .collect::<Result<Vec<f32>, _>>()
            .map_err(|error| EngineError::Untokenizable { index, problem: error.to_string() })
    };
    texts.iter().enumerate().map(vector).collect()
}

fn vectors() -> Gives {
    Gives::Vectors {
        dimensions: 2,
        pooling: Pooling::Mean,
        normalized: false,
        matryoshka: Vec::new(),
    }
}

fn labels(count: usize) -> Gives {
    Gives::Scores { labels: vec!["label".to_owned(); count], scale: Scale::Raw }
}

fn outcome(check: Check) -> Outcome {
    outcome_of(&vectors(), check)
}

fn outcome_of(gives: &Gives, check: Check) -> Outcome {
    let case = Case { name: "case".to_owned(), check };
    let outcomes = run(&[case], gives, &answer);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].name, "case");
    outcomes.into_iter().next().unwrap()
}

fn similarity(a: &str, b: &str, at_least: Option<f64>, at_most: Option<f64>) -> Outcome {
    outcome(Check::Similarity { texts: [a.to_owned(), b.to_owned()], at_least, at_most })
}

fn ranking(query: &str, passages: &[&str], order: &[usize]) -> Outcome {
    outcome(Check::Ranking {
        query: query.to_owned(),
        passages: passages.iter().map(ToString::to_string).collect(),
        order: order.to_vec(),
    })
}

fn vector(text: &str, expected: &[f32], min_cosine: f64) -> Outcome {
    outcome(Check::Vector { text: text.to_owned(), expected: expected.to_vec(), min_cosine })
}

/// Guarantees: gates-06, gates-09.
#[test]
fn a_similarity_lies_within_its_bounds() {
    for (b, at_least, at_most, passes) in [
        ("1 0", Some(1.0), None, true),
        ("3 4", Some(0.6), Some(0.6), true),
        ("3 4", Some(0.61), None, false),
        ("3 4", None, Some(0.59), false),
        ("-1 0", None, Some(-1.0), true),
        ("0 1", Some(0.0), None, true),
        ("3 4", None, None, false),
        ("0 0", Some(-1.0), Some(1.0), false),
        ("NaN 0", Some(-1.0), Some(1.0), false),
        ("1 0 0", Some(-1.0), Some(1.0), false),
        ("no number", Some(-1.0), Some(1.0), false),
    ] {
        let outcome = similarity("1 0", b, at_least, at_most);
        assert_eq!(outcome.passed, passes, "{b} {at_least:?} {at_most:?}: {outcome:?}");
    }
    let outcome = similarity("1 0", "3 4", Some(0.7), None);
    assert_eq!(outcome.expected, "cosine at least 0.7");
    assert_eq!(outcome.found, "cosine 0.6000000");
    let outcome = similarity("1 0", "no number", Some(0.7), None);
    assert!(outcome.found.starts_with("no answer: text 1"), "{outcome:?}");
}

/// Guarantees: gates-06.
#[test]
fn a_ranking_has_exactly_its_order() {
    let passages = ["0 1", "2 0", "1 1"];
    for (order, passes) in [
        (&[1, 2, 0][..], true),
        (&[2, 1, 0], false),
        (&[1, 2], false),
        (&[1, 2, 0, 3], false),
        (&[1, 1, 0], false),
        (&[], false),
    ] {
        let outcome = ranking("1 0", &passages, order);
        assert_eq!(outcome.passed, passes, "{order:?}: {outcome:?}");
    }
    assert!(ranking("1 0", &["1 0", "2 0"], &[0, 1]).passed, "ties keep their order");
    assert!(!ranking("1 0", &["1 0", "0 0"], &[0, 1]).passed, "zero has no direction");
    assert!(!ranking("1 0", &[], &[]).passed, "nothing is no ranking");
    let found = ranking("1 0", &passages, &[0, 1, 2]).found;
    assert_eq!(found, "order [1, 2, 0] (1: 1.000000, 2: 0.707107, 0: 0.000000)");
}

/// Guarantees: gates-06.
#[test]
fn a_vector_has_the_recorded_direction() {
    assert!(vector("3 4", &[0.6, 0.8], 0.99999).passed);
    assert!(vector("3 4.01", &[0.6, 0.8], 0.99999).passed);
    assert!(!vector("3 4.1", &[0.6, 0.8], 0.99999).passed);
    let outcome = vector("3 4 0", &[0.6, 0.8], 0.1);
    assert!(!outcome.passed);
    assert_eq!(outcome.found, "3 numbers, 2 are recorded");
    assert!(!vector("0 0", &[0.6, 0.8], -1.0).passed);
}

fn scores(text: &str, second: Option<&str>, expected: &[f32], tolerance: f64) -> Check {
    let second = second.map(str::to_owned);
    Check::Scores { text: text.to_owned(), second, expected: expected.to_vec(), tolerance }
}

#[test]
fn scores_are_near_the_recorded_ones() {
    for (text, second, expected, tolerance, passes) in [
        ("1 -2", None, &[1.0, -2.0][..], 0.0, true),
        ("x", Some("1 -2"), &[1.0, -2.0], 0.0, true),
        ("1 -2", None, &[1.25, -2.25], 0.25, true),
        ("1 -2", None, &[1.0, -2.3], 0.25, false),
        ("1 NaN", None, &[1.0, -2.0], 9.0, false),
        ("1 -2", None, &[1.0], 9.0, false),
        ("1", None, &[], 9.0, false),
        ("no number", None, &[1.0], 9.0, false),
    ] {
        let outcome = outcome_of(&labels(2), scores(text, second, expected, tolerance));
        assert_eq!(outcome.passed, passes, "{text}: {outcome:?}");
    }
    let outcome = outcome_of(&labels(2), scores("1 -2", None, &[1.0, -2.3], 0.25));
    assert_eq!(outcome.expected, "scores [1.0, -2.3], each within 0.25");
    assert_eq!(outcome.found, "scores [1.0, -2.0]");
}

#[test]
fn a_model_of_one_score_ranks_by_it_and_not_by_cosine() {
    let check = |order: &[usize]| Check::Ranking {
        query: "no vector".to_owned(),
        passages: ["0.5", "-2", "7"].map(str::to_owned).to_vec(),
        order: order.to_vec(),
    };
    let outcome = outcome_of(&labels(1), check(&[2, 0, 1]));
    assert!(outcome.passed, "{outcome:?}");
    assert_eq!(outcome.found, "order [2, 0, 1] (2: 7.000000, 0: 0.500000, 1: -2.000000)");
    assert!(!outcome_of(&labels(1), check(&[0, 2, 1])).passed);
    assert_eq!(
        check(&[]).questions(&labels(1)),
        ["0.5", "-2", "7"].map(|passage| Text::Pair("no vector", passage)),
    );
}

#[test]
fn what_a_model_does_not_give_cannot_be_checked_and_the_outcome_says_so() {
    let similarity = Check::Similarity {
        texts: ["1".to_owned(), "1".to_owned()],
        at_least: Some(-1.0),
        at_most: None,
    };
    let ranking =
        Check::Ranking { query: "1".to_owned(), passages: vec!["1".to_owned()], order: vec![0] };
    let vector = Check::Vector { text: "1".to_owned(), expected: vec![1.0], min_cosine: -1.0 };
    for (gives, check, says) in [
        (labels(1), similarity, "no cosine"),
        (labels(2), ranking, "several labels"),
        (labels(1), vector, "no vectors"),
        (vectors(), scores("1", None, &[1.0], 1.0), "no scores"),
    ] {
        assert!(check.questions(&gives).is_empty());
        let outcome = outcome_of(&gives, check);
        assert!(!outcome.passed && outcome.found.contains(says), "{outcome:?}");
    }
}

/// Guarantees: gates-09.
#[test]
fn an_answer_of_another_length_has_not_passed() {
    let checks = [
        Check::Similarity {
            texts: ["1".to_owned(), "1".to_owned()],
            at_least: Some(0.0),
            at_most: None,
        },
        Check::Ranking { query: "1".to_owned(), passages: vec!["1".to_owned()], order: vec![0] },
        Check::Vector { text: "1".to_owned(), expected: vec![1.0], min_cosine: 0.0 },
        scores("1", None, &[1.0], 1.0),
    ];
    for check in checks {
        let case = Case { name: "case".to_owned(), check };
        for gives in [vectors(), labels(1)] {
            for answers in [vec![], vec![vec![1.0]; 7]] {
                let outcomes = run(std::slice::from_ref(&case), &gives, &|_| Ok(answers.clone()));
                assert!(!outcomes[0].passed, "{outcomes:?}");
            }
        }
    }
}

#[test]
fn bounds_are_decimal_numbers_between_minus_one_and_one() {
    for (text, expected) in [("0.6", 0.6), ("-1", -1.0), ("1.0", 1.0), (".5", 0.5)] {
        assert_eq!(parse_cosine(text), Some(expected), "{text}");
    }
    for text in ["", "1.01", "-2", "NaN", "inf", "1e-3", "0,5", " 0.5", "+0.5", "half"] {
        assert_eq!(parse_cosine(text), None, "{text}");
    }
}
