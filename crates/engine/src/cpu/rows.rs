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

/// Of each row, the first `length` numbers become the exponentials of what they were less the largest of
/// them; divided by their sum, that is their softmax. Products are divided instead, because they have
/// fewer numbers: [`Scale`].
///
/// A row has `stride` numbers, a multiple of the lanes of every instruction set; what is behind
/// `length` counts for nothing, and nothing is to be read of it. Where one is no number or +∞, or all are
/// −∞, there is no softmax: the row's share is NaN.
///
/// What is multiplied by them before it is divided is finite as long as the numbers are smaller than the
/// largest float over `length`.
pub(crate) struct Exponentials<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) length: usize,
    /// Of each row, one over its sum.
    pub(crate) shares: &'a mut [f32],
}

impl WithSimd for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.rows.chunks_exact_mut(self.stride);
        for (row, share) in rows.zip(self.shares) {
            *share = exponentials(simd, row, self.length);
        }
    }
}

/// Of a row, as [`Exponentials`] has it: its share.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(simd: S, row: &mut [f32], length: usize) -> f32 {
    row[length..].fill(f32::NEG_INFINITY);
    let (vectors, _) = S::as_mut_simd_f32s(row);
    // Whether this sees a NaN depends on where it stands; the exponential of one is always one.
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for vector in &*vectors {
        largest = simd.max_f32s(largest, *vector);
    }
    let largest = simd.splat_f32s(simd.reduce_max_f32s(largest));
    let mut sums = simd.splat_f32s(0.0);
    for vector in vectors {
        *vector = exp(simd, simd.sub_f32s(*vector, largest));
        sums = simd.add_f32s(sums, *vector);
    }
    1.0 / simd.reduce_sum_f32s(sums)
}

/// Rows of so many numbers, each number times its row's share. A row begins `stride` after the one before.
pub(crate) struct Scale<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) shares: &'a [f32],
}

impl WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (row, share) in self.rows.chunks_mut(self.stride).zip(self.shares) {
            let (vectors, rest) = S::as_mut_simd_f32s(&mut row[..self.count]);
            let shares = simd.splat_f32s(*share);
            for vector in vectors {
                *vector = simd.mul_f32s(*vector, shares);
            }
            for number in rest {
                *number *= share;
            }
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
