//! Softmax of the scores of attention, which is the left-hand side of its second product.

use pulp::Simd;

use super::rounding::{Round, Rounded, round_row};
use crate::cpu::rows::{Exponentials, exponentials};

/// Rows of scores whose exponentials are rounded while they are in the first-level cache. As many as
/// they are long are the left-hand side.
pub(crate) struct Softmax<'a> {
    pub(crate) rows: Exponentials<'a>,
    pub(crate) left: &'a mut Rounded,
}

impl Softmax<'_> {
    #[inline(always)]
    pub(super) fn compute<S: Simd>(self, simd: S, how: &impl Round) {
        let Exponentials { rows, stride, length, shares } = self.rows;
        let (filled, deep) = self.left.reshape(shares.len(), length);
        let rows = rows.chunks_exact_mut(stride).zip(shares);
        for ((row, share), places) in rows.zip(filled.chunks_exact_mut(deep.max(1))) {
            *share = exponentials(simd, row, length);
            round_row(how, &row[..length], places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::bf16::{Instructions, Into, Rounding};
    use crate::cpu::kernel::{Kernel, Vectors};
    use crate::cpu::panels::Rows;

    #[test]
    fn weights_are_the_exponentials_rounded_and_shares_are_those_of_the_exponentials() {
        let numbers: Vec<f32> = (0..5 * 96_u16).map(|at| f32::from(at * 37 % 101) / 9.0).collect();
        for vectors in Vectors::available() {
            for instructions in Instructions::available(vectors) {
                for length in [1, 31, 32, 33, 64, 90, 96] {
                    let mut strange = numbers.clone();
                    strange[2 * 96] = f32::NAN;
                    let (mut plain, mut expected) = (strange.clone(), [0.0; 5]);
                    let shares = &mut expected;
                    let rows = Exponentials { rows: &mut plain, stride: 96, length, shares };
                    Kernel::of(vectors, None).dispatch(rows);
                    let mut rounded = Rounded::default();
                    let (rows, into) = (Rows::new(&plain, 96), Into::Left(&mut rounded));
                    let rounding = Rounding { rows, count: 5, depth: length, into };
                    instructions.round(vectors, rounding);

                    let (mut shares, mut left) = ([0.0; 5], Rounded::default());
                    let (rows, shares_found) = (&mut strange, &mut shares);
                    let rows = Exponentials { rows, stride: 96, length, shares: shares_found };
                    instructions.softmax(vectors, Softmax { rows, left: &mut left });
                    let name = instructions.name();
                    assert_eq!(left.pairs(), rounded.pairs(), "{name} {length}");
                    assert_eq!((left.count(), left.depth()), (5, length));
                    for (row, (found, expected)) in shares.into_iter().zip(expected).enumerate() {
                        let same = found.to_bits() == expected.to_bits();
                        let none = found.is_nan() && expected.is_nan();
                        assert!(if row == 2 { none } else { same }, "{name} {length}: {found}");
                    }
                }
            }
        }
    }
}
