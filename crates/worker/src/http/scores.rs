//! From a head's numbers to scores, and from scores to an order.

use lamplighter_engine::{Gives, Scale};

/// The scores of a model that gives some, as it wants them or as its head gave them.
pub(super) fn of_model(mut numbers: Vec<f32>, gives: &Gives, raw: bool) -> Vec<f32> {
    if let Gives::Scores { scale, .. } = gives
        && !raw
    {
        scale.apply(&mut numbers);
    }
    numbers
}

/// How much a passage has to do with a query: between 0 and 1, or as the head gave it.
///
/// The order is that of the head's numbers in any case, so what the artifact wants is no matter
/// here.
pub(super) fn relevance(numbers: &[f32], raw: bool) -> f32 {
    let mut number = [numbers.first().copied().unwrap_or_default()];
    if !raw {
        Scale::Sigmoid.apply(&mut number);
    }
    number[0]
}

/// Places of the scores, the highest first; equal ones in order.
pub(super) fn order(scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_are_what_their_names_say() {
        let near = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        };
        let labels = vec!["no".to_owned(), "yes".to_owned()];
        let gives = Gives::Scores { labels, scale: Scale::Softmax };
        near(&of_model(vec![0.0, 2.0], &gives, true), &[0.0, 2.0]);
        near(&of_model(vec![0.0, 2.0], &gives, false), &[0.119_203, 0.880_797]);
        near(&[relevance(&[2.0], false), relevance(&[2.0], true)], &[0.880_797, 2.0]);
        assert_eq!(order(&[1.0, 3.0, 1.0, 2.0]), [1, 3, 0, 2]);
    }

    proptest! {
        #[test]
        fn an_order_has_every_place_once_and_falls(scores in prop::collection::vec(any::<f32>(), 0..50)) {
            let order = order(&scores);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..scores.len()).collect::<Vec<_>>());
            prop_assert!(order.is_sorted_by(|&a, &b| scores[a].total_cmp(&scores[b]).is_ge()));
        }
    }
}
