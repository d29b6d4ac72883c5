use proptest::prelude::*;

use super::*;

/// Numbers of three digits, so that sums of a few hundred are exact enough to compare.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |at: usize| u16::try_from((at * 7919 + seed * 104_729) % 2001).unwrap();
    (0..count).map(|at| f32::from(number(at)) / 1000.0 - 1.0).collect()
}

fn reference(left: &[f32], right: &[f32], shape: (usize, usize, usize)) -> Vec<f64> {
    let (rows, columns, depth) = shape;
    let number = |row: usize, column: usize| {
        let products = (0..depth)
            .map(|at| f64::from(left[row * depth + at]) * f64::from(right[column * depth + at]));
        products.sum::<f64>()
    };
    (0..rows * columns).map(|at| number(at / columns, at % columns)).collect()
}

fn check(shape: (usize, usize, usize), kernel: Kernel) {
    let (rows, columns, depth) = shape;
    let width = Panels::width(kernel);
    let (left, right) = (numbers(rows * depth, 1), numbers(columns * depth, 2));
    let bias = numbers(columns, 3);
    let mut transposed = vec![0.0; right.len()];
    for (at, number) in right.iter().enumerate() {
        transposed[at % depth * columns + at / depth] = *number;
    }
    let mut of_rows = Panels::default();
    of_rows.fill_rows(Rows::new(&transposed, columns), columns, depth, width);
    let of_columns = Panels::of_columns(Rows::new(&right, depth), columns, depth, width);
    let expected = reference(&left, &right, shape);
    for panels in [&of_columns, &of_rows] {
        let mut out = vec![9.0; rows * columns];
        kernel.dispatch(Product {
            left: Rows::new(&left, depth),
            rows,
            right: panels.all(),
            finish: Finish::Bias(&padded(&bias, width)),
            out: &mut out,
            out_stride: columns,
            padded: false,
        });
        for (at, (found, expected)) in out.iter().zip(&expected).enumerate() {
            let expected = expected + f64::from(bias[at % columns]);
            let apart = (f64::from(*found) - expected).abs();
            assert!(apart < 1e-4, "{shape:?} at {at}: {found} instead of {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_product_is_that_of_the_definition(
        rows in 1..70_usize, columns in 1..70_usize, depth in 1..70_usize,
    ) {
        for kernel in Kernel::available() {
            check((rows, columns, depth), kernel);
        }
    }
}

#[test]
fn a_row_is_the_same_alone_and_among_others() {
    for kernel in Kernel::available() {
        row_alone_and_among_others(kernel);
    }
}

fn row_alone_and_among_others(kernel: Kernel) {
    let (depth, columns, width) = (37, 50, Panels::width(kernel));
    let right = numbers(columns * depth, 5);
    let right = Panels::of_columns(Rows::new(&right, depth), columns, depth, width);
    let left = numbers(61 * depth, 6);
    let product = |left: &[f32]| {
        let rows = left.len() / depth;
        let mut out = vec![0.0; rows * columns];
        kernel.dispatch(Product {
            left: Rows::new(left, depth),
            rows,
            right: right.all(),
            finish: Finish::Plain,
            out: &mut out,
            out_stride: columns,
            padded: false,
        });
        out
    };
    let all = product(&left);
    for (row, one) in left.chunks_exact(depth).enumerate() {
        let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&product(one)), bits(&all[row * columns..][..columns]), "row {row}");
    }
}
