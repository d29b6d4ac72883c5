//! From a head's numbers to scores, and from scores to an order.

use lamplighter_engine::{Gives, Scale};

/// Scores as the artifact wants them.
pub(super) fn scaled(mut numbers: Vec<f32>, scale: Scale) -> Vec<f32> {
    match scale {
        Scale::Raw => {}
        Scale::Sigmoid => numbers.iter_mut().for_each(|number| *number = sigmoid(*number)),
        Scale::Softmax => softmax(&mut numbers),
    }
    numbers
}

/// The scores of a model that gives some, as it wants them or as its head gave them.
pub(super) fn of_model(numbers: Vec<f32>, gives: &Gives, raw: bool) -> Vec<f32> {
    match gives {
        Gives::Scores { scale, .. } if !raw => scaled(numbers, *scale),
        Gives::Scores { .. } | Gives::Vectors { .. } => numbers,
    }
}

/// How much a passage has to do with a query: between 0 and 1, or as the head gave it.
///
/// The order is that of the head's numbers in any case, so what the artifact wants is no matter
/// here.
pub(super) fn relevance(numbers: &[f32], raw: bool) -> f32 {
    let number = numbers.first().copied().unwrap_or_default();
    if raw { number } else { sigmoid(number) }
}

/// Places of the scores, the highest first; equal ones in order.
pub(super) fn order(scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    places
}

fn sigmoid(number: f32) -> f32 {
    1.0 / (1.0 + (-number).exp())
}

fn softmax(numbers: &mut [f32]) {
    // So that no power is above 1, and one of them is 1.
    let highest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for number in &mut *numbers {
        *number = (*number - highest).exp();
    }
    let sum: f32 = numbers.iter().sum();
    for number in numbers {
        *number /= sum;
    }
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
        near(&scaled(vec![0.0, 2.0], Scale::Raw), &[0.0, 2.0]);
        near(&scaled(vec![0.0, 2.0], Scale::Sigmoid), &[0.5, 0.880_797]);
        near(&scaled(vec![0.0, 2.0], Scale::Softmax), &[0.119_203, 0.880_797]);
        near(&[relevance(&[2.0], false), relevance(&[2.0], true)], &[0.880_797, 2.0]);
        assert_eq!(order(&[1.0, 3.0, 1.0, 2.0]), [1, 3, 0, 2]);
    }

    proptest! {
        #[test]
        fn scores_of_any_head_are_between_0_and_1(numbers in prop::collection::vec(-1e38_f32..1e38, 1..10)) {
            for scale in [Scale::Sigmoid, Scale::Softmax] {
                let scores = scaled(numbers.clone(), scale);
                prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
            }
            let sum: f32 = scaled(numbers, Scale::Softmax).iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-5);
        }

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
