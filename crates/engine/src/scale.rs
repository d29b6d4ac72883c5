//! From a head's numbers to scores.

use crate::Scale;

impl Scale {
    /// Makes scores of the numbers that an engine gives for a text.
    pub fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Raw => {}
            Self::Sigmoid => {
                for number in numbers {
                    *number = sigmoid(*number);
                }
            }
            Self::Softmax => softmax(numbers),
        }
    }
}

/// Of large negative numbers, too, no exponential is infinite.
fn sigmoid(number: f32) -> f32 {
    if number >= 0.0 {
        1.0 / (1.0 + (-number).exp())
    } else {
        let exponential = number.exp();
        exponential / (1.0 + exponential)
    }
}

fn softmax(numbers: &mut [f32]) {
    let largest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for number in &mut *numbers {
        *number = (*number - largest).exp();
        sum += *number;
    }
    for number in numbers {
        *number /= sum;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scaled(scale: Scale, numbers: &[f32]) -> Vec<f32> {
        let mut numbers = numbers.to_vec();
        scale.apply(&mut numbers);
        numbers
    }

    #[test]
    fn known_numbers_become_known_scores() {
        assert_eq!(scaled(Scale::Raw, &[-3.0, 70.0]), [-3.0, 70.0]);
        assert_eq!(scaled(Scale::Sigmoid, &[0.0, 1e9, -1e9]), [0.5, 1.0, 0.0]);
        assert_eq!(scaled(Scale::Softmax, &[4.0, 4.0]), [0.5, 0.5]);
        assert_eq!(scaled(Scale::Softmax, &[1e9, -1e9]), [1.0, 0.0]);
        assert_eq!(scaled(Scale::Softmax, &[-7.0]), [1.0]);
        assert!(scaled(Scale::Softmax, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn scores_keep_the_order_and_lie_between_0_and_1(
            numbers in prop::collection::vec(-30.0_f32..30.0, 1..8),
        ) {
            for scale in [Scale::Sigmoid, Scale::Softmax] {
                let scores = scaled(scale, &numbers);
                prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
                for (a, of_a) in numbers.iter().zip(&scores) {
                    for (b, of_b) in numbers.iter().zip(&scores) {
                        prop_assert!(a > b || of_a <= of_b, "{scale:?} {numbers:?} {scores:?}");
                    }
                }
            }
            let sum: f32 = scaled(Scale::Softmax, &numbers).iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-5);
            for (number, score) in numbers.iter().zip(scaled(Scale::Sigmoid, &numbers)) {
                let wide = 1.0 / (1.0 + (-f64::from(*number)).exp());
                prop_assert!((f64::from(score) - wide).abs() < 1e-6);
            }
        }
    }
}
