use proptest::prelude::*;

use super::*;
use crate::cpu::bf16::proof::compare;
use crate::cpu::bf16::{Instructions, Into, Panels, Rounding};
use crate::cpu::kernel::Vectors;
use crate::cpu::panels::{Rows, padded};

/// Every instruction that is there, and those in software with all vectors that are there.
fn paths() -> Vec<(Instructions, Vectors)> {
    let of = |vectors| {
        let all = Instructions::available(vectors).into_iter();
        all.chain([Instructions::EmulatedTiles]).map(move |one| (one, vectors))
    };
    Vectors::available().into_iter().flat_map(of).collect()
}

/// Numbers of three digits.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |at: usize| u16::try_from((at * 7919 + seed * 104_729) % 2001).unwrap();
    (0..count).map(|at| f32::from(number(at)) / 1000.0 - 1.0).collect()
}

/// `[rows, columns]`, of rows that lie `gap` numbers apart on both sides.
fn multiply(
    path: (Instructions, Vectors),
    left: &[f32],
    right: &[f32],
    (count, columns, depth): (usize, usize, usize),
    finish: Finish<'_>,
    gap: usize,
) -> Vec<f32> {
    let apart = |numbers: &[f32], length: usize| -> Vec<f32> {
        let rows = numbers.chunks(length.max(1));
        rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(f32::NAN, gap))).collect()
    };
    let right = apart(right, depth);
    let panels = Panels::of_columns(Rows::new(&right, depth + gap), columns, depth);
    let mut rounded = Rounded::default();
    let mut out = vec![9.0; count * (columns + gap)];
    let left = apart(left, depth);
    let into = Into::Left(&mut rounded);
    let rows = Rows::new(&left, depth + gap);
    path.0.round(path.1, Rounding { rows, count, depth, into });
    path.0.multiply(
        path.1,
        Product {
            left: &rounded,
            right: panels.part(0..columns),
            finish,
            out: Out::Floats { numbers: &mut out, stride: columns + gap },
        },
    );
    for row in out.chunks(columns + gap) {
        assert_eq!(row[columns..], vec![9.0; gap], "nothing else is written");
    }
    out.chunks(columns + gap).flat_map(|row| &row[..columns]).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn a_product_is_that_of_the_rounded_numbers(
        rows in 1..70_usize, columns in 1..70_usize, depth in 1..140_usize, gap in 0..3_usize,
    ) {
        let (left, right) = (numbers(rows * depth, 1), numbers(columns * depth, 2));
        for path in paths() {
            let shape = (rows, columns, depth);
            let out = multiply(path, &left, &right, shape, Finish::Plain, gap);
            compare(&out, &left, &right, (columns, depth))
                .unwrap_or_else(|error| panic!("{} {shape:?}: {error}", path.0.name()));
        }
    }
}

#[test]
fn every_shape_around_the_edges_of_blocks_panels_and_tiles() {
    for rows in [1, 2, 12, 13, 15, 16, 17, 31, 32, 33, 48, 65] {
        for columns in [1, 15, 16, 17, 31, 32, 33, 64, 65] {
            for depth in [1, 2, 31, 32, 33, 64, 65] {
                let (left, right) = (numbers(rows * depth, 3), numbers(columns * depth, 4));
                for path in paths() {
                    let shape = (rows, columns, depth);
                    let out = multiply(path, &left, &right, shape, Finish::Plain, 0);
                    compare(&out, &left, &right, (columns, depth))
                        .unwrap_or_else(|error| panic!("{} {shape:?}: {error}", path.0.name()));
                }
            }
        }
    }
}

#[test]
fn more_rows_than_stay_in_the_cache_are_all_multiplied() {
    // A row of 1,600 numbers takes 3,200 bytes, so that 64 are multiplied at a time.
    let (rows, columns, depth) = (150, 3, 1600);
    let (left, right) = (numbers(rows * depth, 5), numbers(columns * depth, 6));
    for path in paths() {
        let out = multiply(path, &left, &right, (rows, columns, depth), Finish::Plain, 1);
        assert_eq!(compare(&out, &left, &right, (columns, depth)), Ok(()), "{}", path.0.name());
    }
}

#[test]
fn a_sum_is_finished_with_its_columns_number_and_activated() {
    let shape = (19, 45, 40);
    let (left, right) = (numbers(19 * 40, 1), numbers(45 * 40, 2));
    let bias = numbers(45, 3);
    let with_rest = padded(&bias, WIDTH);
    for path in paths() {
        let plain = multiply(path, &left, &right, shape, Finish::Plain, 0);
        let added: Vec<f32> =
            plain.iter().enumerate().map(|(at, sum)| sum + bias[at % 45]).collect();
        let found = multiply(path, &left, &right, shape, Finish::Bias(&with_rest), 0);
        assert_eq!(found, added, "{}", path.0.name());
        let finish = |activation| Finish::Activated(&with_rest, activation);
        let relu = multiply(path, &left, &right, shape, finish(Activation::Relu), 0);
        let expected: Vec<f32> = added.iter().map(|sum| sum.max(0.0)).collect();
        assert_eq!(relu, expected, "{}", path.0.name());
        for activation in [Activation::Gelu, Activation::GeluTanh] {
            let found = multiply(path, &left, &right, shape, finish(activation), 0);
            for (found, x) in found.iter().zip(&added) {
                // What both come to within a thousandth: √(2/π) (x + 0.044715 x³) in the tanh.
                let inner = 0.797_884_6 * (x + 0.044_715 * x.powi(3));
                let expected = 0.5 * x * (1.0 + inner.tanh());
                assert!((found - expected).abs() < 1e-3, "{x}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn what_is_written_for_another_product_is_what_would_be_rounded_for_it() {
    for (count, columns, depth) in [(1, 1, 1), (13, 32, 33), (19, 45, 40), (66, 100, 1600)] {
        let (left, right) = (numbers(count * depth, 1), numbers(columns * depth, 2));
        let bias = padded(&numbers(columns, 3), WIDTH);
        for path in paths() {
            let finish = Finish::Activated(&bias, Activation::Gelu);
            let floats = multiply(path, &left, &right, (count, columns, depth), finish, 0);
            let round = |rows: &[f32], depth, rounded: &mut Rounded| {
                let (rows, into) = (Rows::new(rows, depth), Into::Left(rounded));
                path.0.round(path.1, Rounding { rows, count, depth, into });
            };
            let [mut from, mut expected, mut found] = [const { 0 }; 3].map(|_| Rounded::default());
            round(&left, depth, &mut from);
            round(&floats, columns, &mut expected);
            let panels = Panels::of_columns(Rows::new(&right, depth), columns, depth);
            // What was there before is of another shape.
            round(&vec![f32::NAN; count * 200], 200, &mut found);
            let (right, out) = (panels.part(0..columns), Out::Left(&mut found));
            path.0.multiply(path.1, Product { left: &from, right, finish, out });
            let shape = (found.count(), found.depth());
            assert_eq!(shape, (count, columns), "{}", path.0.name());
            assert_eq!(found.pairs(), expected.pairs(), "{} {shape:?}", path.0.name());
        }
    }
}

#[test]
fn a_row_is_the_same_to_the_last_bit_alone_and_among_others() {
    let (columns, depth) = (50, 77);
    let (left, right) = (numbers(61 * depth, 6), numbers(columns * depth, 5));
    let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
    for path in paths() {
        let product = |left: &[f32]| {
            let rows = left.len() / depth;
            multiply(path, left, &right, (rows, columns, depth), Finish::Plain, 0)
        };
        let all = product(&left);
        for (row, one) in left.chunks_exact(depth).enumerate() {
            let among = &all[row * columns..][..columns];
            assert_eq!(bits(&product(one)), bits(among), "{} row {row}", path.0.name());
        }
    }
}

#[test]
fn vectors_in_software_give_the_same_bits_whatever_vectors_they_are_made_of() {
    let shape = (23, 37, 70);
    let (left, right) = (numbers(23 * 70, 8), numbers(37 * 70, 9));
    let of = |vectors| {
        let path = (Instructions::Emulated, vectors);
        multiply(path, &left, &right, shape, Finish::Plain, 0)
    };
    let first = of(Vectors::Portable);
    for vectors in Vectors::available() {
        assert_eq!(of(vectors), first);
    }
}
