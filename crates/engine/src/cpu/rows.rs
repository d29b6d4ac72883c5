//! Functions of whole rows of numbers.

use pulp::{Simd, WithSimd};

use super::activation::exp;

/// `rows = norm(rows + added)`, each row of its own: mean 0 and variance 1, then times `gain` plus
/// `bias` (<https://arxiv.org/abs/1607.06450>). All have rows of as many numbers as `gain`.
pub(crate) struct Normalize<'a> {
    pub(crate) rows: &'a mut [f32],
    /// Nothing where it is empty.
    pub(crate) added: &'a [f32],
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
}

impl WithSimd for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = self.gain.len();
        let mut added = self.added.chunks_exact(length);
        for row in self.rows.chunks_exact_mut(length) {
            if let Some(added) = added.next() {
                add(simd, row, added);
            }
            normalize(simd, row, self.gain, self.bias, self.epsilon);
        }
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, row: &mut [f32], added: &[f32]) {
    let ((row, row_rest), (added, added_rest)) = (S::as_mut_simd_f32s(row), S::as_simd_f32s(added));
    for (number, added) in row.iter_mut().zip(added) {
        *number = simd.add_f32s(*number, *added);
    }
    for (number, added) in row_rest.iter_mut().zip(added_rest) {
        *number += added;
    }
}

#[inline(always)]
fn normalize<S: Simd>(simd: S, row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    #[expect(clippy::cast_precision_loss, reason = "a row has fewer than 2^24 numbers")]
    let count = row.len() as f32;
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    let mut sums = simd.splat_f32s(0.0);
    for vector in &*vectors {
        sums = simd.add_f32s(sums, *vector);
    }
    let mean = (simd.reduce_sum_f32s(sums) + rest.iter().sum::<f32>()) / count;
    let means = simd.splat_f32s(mean);
    let mut squares = simd.splat_f32s(0.0);
    for vector in &mut *vectors {
        *vector = simd.sub_f32s(*vector, means);
        squares = simd.mul_add_e_f32s(*vector, *vector, squares);
    }
    let mut square = simd.reduce_sum_f32s(squares);
    for number in &mut *rest {
        *number -= mean;
        square += *number * *number;
    }
    let scale = 1.0 / (square / count + epsilon).sqrt();
    let scales = simd.splat_f32s(scale);
    let ((gains, gain), (biases, bias)) = (S::as_simd_f32s(gain), S::as_simd_f32s(bias));
    for ((vector, gain), bias) in vectors.iter_mut().zip(gains).zip(biases) {
        *vector = simd.mul_add_e_f32s(simd.mul_f32s(*vector, scales), *gain, *bias);
    }
    for ((number, gain), bias) in rest.iter_mut().zip(gain).zip(bias) {
        *number = *number * scale * gain + bias;
    }
}

/// Of each row, the first `length` numbers become the exponentials of what they were, over their
/// sum. A row has `stride` numbers, a multiple of the lanes of every instruction set; what is behind
/// `length` becomes 0.
pub(crate) struct Softmax<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) length: usize,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows.chunks_exact_mut(self.stride) {
            row[self.length..].fill(f32::MIN);
            let (vectors, _) = S::as_mut_simd_f32s(row);
            let mut largest = simd.splat_f32s(f32::MIN);
            for vector in &*vectors {
                largest = simd.max_f32s(largest, *vector);
            }
            let largest = simd.splat_f32s(simd.reduce_max_f32s(largest));
            let mut sums = simd.splat_f32s(0.0);
            for vector in &mut *vectors {
                *vector = exp(simd, simd.sub_f32s(*vector, largest));
                sums = simd.add_f32s(sums, *vector);
            }
            let share = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sums));
            for vector in vectors {
                *vector = simd.mul_f32s(*vector, share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::Kernel;

    fn numbers(count: u16) -> Vec<f32> {
        (0..count).map(|at| f32::from(at * 37 % 101) / 10.0 - 5.0).collect()
    }

    #[test]
    fn rows_are_normalized_as_defined_whatever_their_length() {
        for length in [1, 4, 7, 8, 19, 64, 385] {
            let row = numbers(length);
            let added: Vec<f32> = row.iter().map(|x| x * 0.25 + 1.0).collect();
            let (gain, bias) = (numbers(length), vec![0.5; row.len()]);
            let wide: Vec<f64> =
                row.iter().zip(&added).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
            let count = f64::from(length);
            let mean = wide.iter().sum::<f64>() / count;
            let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            for kernel in Kernel::available() {
                let mut rows = [row.clone(), row.clone()].concat();
                kernel.dispatch(Normalize {
                    rows: &mut rows,
                    added: &[added.clone(), added.clone()].concat(),
                    gain: &gain,
                    bias: &bias,
                    epsilon: 1e-6,
                });
                for (at, found) in rows.iter().enumerate() {
                    let at = at % row.len();
                    let scaled = (wide[at] - mean) / (variance + 1e-6).sqrt();
                    let expected = scaled * f64::from(gain[at]) + 0.5;
                    assert!((f64::from(*found) - expected).abs() < 1e-4, "{length} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_softmax_is_of_the_first_numbers_alone() {
        for length in [1, 5, 16, 31, 32] {
            let row = numbers(32);
            let exponentials: Vec<f64> =
                row[..length].iter().map(|x| f64::from(*x).exp()).collect();
            let sum: f64 = exponentials.iter().sum();
            for kernel in Kernel::available() {
                let mut rows = row.repeat(2);
                kernel.dispatch(Softmax { rows: &mut rows, stride: 32, length });
                for (at, found) in rows.iter().enumerate() {
                    let expected = exponentials.get(at % 32).map_or(0.0, |x| x / sum);
                    assert!((f64::from(*found) - expected).abs() < 1e-6, "{length} at {at}");
                }
            }
        }
    }
}
