//! Whether instructions multiply right here: found out once, before anything relies on them.

use super::number::pair;
use super::{Instructions, Into, Out, Panels, Product, Rounded, Rounding};
use crate::cpu::kernel::Vectors;
use crate::cpu::panels::{Finish, Rows};

/// Left-hand rows, columns and depth: with whole blocks, panels and tiles, and with parts of each.
const SHAPE: (usize, usize, usize) = (45, 70, 107);

/// A number of a product that is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("of a small product, row {row} of column {column} is {found:e} instead of {expected:e}")]
pub struct WrongProduct {
    /// Its row.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// What was computed.
    pub found: f32,
    /// What comes out in 64-bit floats.
    pub expected: f64,
}

/// Multiplies two small matrices, and compares with sums of 64-bit floats.
pub(crate) fn prove(instructions: Instructions, vectors: Vectors) -> Result<(), WrongProduct> {
    let (rows, columns, depth) = SHAPE;
    let (left, right) = (numbers(rows * depth, 1), numbers(columns * depth, 2));
    let mut out = vec![f32::NAN; rows * columns];
    let panels = Panels::of_columns(Rows::new(&right, depth), columns, depth);
    let mut rounded = Rounded::default();
    let into = Into::Left(&mut rounded);
    let rounding = Rounding { rows: Rows::new(&left, depth), count: rows, depth, into };
    instructions.round(vectors, rounding);
    let product = Product {
        left: &rounded,
        right: panels.part(0..columns),
        finish: Finish::Plain,
        out: Out::Floats { numbers: &mut out, stride: columns },
    };
    instructions.multiply(vectors, product);
    compare(&out, &left, &right, (columns, depth))
}

/// Whether `[rows, columns]` numbers are the product of `[rows, depth]` and `[columns, depth]`, of
/// which each number is rounded, within what rounding the sums may do to them: each addition is off by
/// at most 2⁻²⁴ of all that is added, and twice that is granted.
pub(super) fn compare(
    out: &[f32],
    left: &[f32],
    right: &[f32],
    (columns, depth): (usize, usize),
) -> Result<(), WrongProduct> {
    for (at, found) in out.iter().copied().enumerate() {
        let (row, column) = (at / columns, at % columns);
        let both = left[row * depth..][..depth].iter().zip(&right[column * depth..][..depth]);
        let products = both.map(|(left, right)| rounded(*left) * rounded(*right));
        let (expected, size) =
            products.fold((0.0, 0.0), |(sum, size), next: f64| (sum + next, size + next.abs()));
        #[expect(clippy::cast_precision_loss, reason = "the depth of a layer has few digits")]
        let allowed = size * depth as f64 * f64::from(f32::EPSILON);
        let apart = (f64::from(found) - expected).abs();
        if apart > allowed || apart.is_nan() {
            return Err(WrongProduct { row, column, found, expected });
        }
    }
    Ok(())
}

fn rounded(number: f32) -> f64 {
    f64::from(f32::from_bits(pair(0.0, number)))
}

/// Numbers from −1 to 1, of more digits than are kept.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_has_multiplies_right() {
        for vectors in Vectors::available() {
            for instructions in Instructions::available(vectors) {
                assert_eq!(prove(instructions, vectors), Ok(()), "{}", instructions.name());
            }
            assert_eq!(prove(Instructions::EmulatedTiles, vectors), Ok(()));
        }
    }

    #[test]
    fn one_wrong_number_is_enough() {
        let (left, right) = (numbers(3 * 50, 1), numbers(4 * 50, 2));
        let sum = |row: usize, column: usize| -> f64 {
            (0..50).map(|at| rounded(left[row * 50 + at]) * rounded(right[column * 50 + at])).sum()
        };
        #[expect(clippy::cast_possible_truncation, reason = "sums are 32-bit floats")]
        let out: Vec<f32> = (0..12).map(|at| sum(at / 4, at % 4) as f32).collect();
        assert_eq!(compare(&out, &left, &right, (4, 50)), Ok(()));
        for wrong in [out[6] + 0.001, f32::NAN, f32::INFINITY] {
            let mut out = out.clone();
            out[6] = wrong;
            let error = compare(&out, &left, &right, (4, 50)).unwrap_err();
            assert_eq!((error.row, error.column), (1, 2), "{error}");
        }
        // What was made of numbers that were cut instead of rounded is another product.
        let cut = |number: f32| f32::from_bits(number.to_bits() & 0xffff_0000);
        let cut_left: Vec<f32> = left.iter().copied().map(cut).collect();
        assert!(compare(&out, &cut_left, &right, (4, 50)).is_err());
    }
}
