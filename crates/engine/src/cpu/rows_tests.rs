use proptest::prelude::*;

use super::*;
use crate::cpu::kernel::Kernel;

fn numbers(count: u16) -> Vec<f32> {
    (0..count).map(|at| f32::from(at * 37 % 101) / 10.0 - 5.0).collect()
}

/// A row's numbers by the definition, and by how much 32 bits may miss them. None where one is none.
fn normalized(row: &[f32], gain: &[f32], bias: &[f32], epsilon: f64) -> Option<(Vec<f64>, f64)> {
    let wide: Vec<f64> = row.iter().map(|number| f64::from(*number)).collect();
    if !wide.iter().all(|number| number.is_finite()) {
        return None;
    }
    let count = f64::from(u16::try_from(row.len()).unwrap());
    let mean = wide.iter().sum::<f64>() / count;
    let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    let largest = |numbers: &[f64]| numbers.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
    let gains: Vec<f64> = gain.iter().map(|gain| f64::from(*gain)).collect();
    let allowed = 4e-6 * largest(&wide) * (1.0 + scale) * largest(&gains);
    let each = wide.iter().zip(&gains).zip(bias);
    let each = each.map(|((x, gain), bias)| (x - mean) * scale * gain + f64::from(*bias));
    Some((each.collect(), allowed))
}

fn check_normalize(rows: &[Vec<f32>], added: &[Vec<f32>], gain: &[f32]) {
    let bias: Vec<f32> = gain.iter().map(|gain| 0.5 - gain * 0.25).collect();
    for kernel in Kernel::available() {
        let mut found = rows.concat();
        let added_numbers = added.concat();
        kernel.dispatch(Normalize {
            rows: &mut found,
            added: &added_numbers,
            gain,
            bias: &bias,
            epsilon: 1e-6,
        });
        for (at, found) in found.chunks_exact(gain.len()).enumerate() {
            let row: Vec<f32> = match added.get(at) {
                Some(added) => rows[at].iter().zip(added).map(|(a, b)| a + b).collect(),
                None => rows[at].clone(),
            };
            let Some((expected, allowed)) = normalized(&row, gain, &bias, 1e-6) else {
                assert!(found.iter().all(|number| number.is_nan()), "{kernel}: {row:?} {found:?}");
                continue;
            };
            for (found, expected) in found.iter().zip(expected) {
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart <= allowed, "{kernel}: {row:?}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn rows_are_normalized_as_defined_whatever_their_length() {
    for length in [1, 4, 7, 8, 19, 64, 385] {
        let row = numbers(length);
        let added: Vec<f32> = row.iter().map(|x| x * 0.25 + 1.0).collect();
        check_normalize(&[row.clone(), row.clone()], &[added.clone(), added], &row);
        check_normalize(&[row.clone(), row.clone()], &[], &row);
    }
}

/// Weights by the definition, or none.
fn weights(scores: &[f32]) -> Option<Vec<f64>> {
    let wide: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
    let largest = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if wide.iter().any(|score| score.is_nan()) || largest.is_infinite() {
        return None;
    }
    let exponentials: Vec<f64> = wide.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    Some(exponentials.into_iter().map(|exponential| exponential / sum).collect())
}

fn check_softmax(rows: &[Vec<f32>], length: usize) {
    for kernel in Kernel::available() {
        let (mut found, mut shares) = (rows.concat(), vec![0.0; rows.len()]);
        let stride = rows[0].len();
        kernel.dispatch(Exponentials { rows: &mut found, stride, length, shares: &mut shares });
        let beside: Vec<f32> = found.iter().skip(length).step_by(stride).copied().collect();
        kernel.dispatch(Scale { rows: &mut found, stride, count: length, shares: &shares });
        let beside_scaled: Vec<f32> = found.iter().skip(length).step_by(stride).copied().collect();
        if length < stride {
            let bits =
                |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(beside_scaled), bits(beside), "{kernel}: what is behind is left alone");
        }
        for (row, found) in rows.iter().zip(found.chunks_exact(stride)) {
            let (row, found) = (&row[..length], &found[..length]);
            let Some(expected) = weights(row) else {
                assert!(found.iter().all(|weight| weight.is_nan()), "{kernel}: {row:?} {found:?}");
                continue;
            };
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart < 1e-6, "{kernel}: {row:?} at {at}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn a_softmax_is_of_the_first_numbers_alone() {
    for length in [1, 5, 16, 31, 32] {
        let row = numbers(32);
        check_softmax(&[row.clone(), row], length);
    }
}

#[test]
fn what_is_no_number_anywhere_in_a_row_is_none_in_all_of_it() {
    let strange = [f32::NAN, -f32::NAN, f32::from_bits(0x7fff_ffff), f32::INFINITY];
    for length in [1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 48] {
        for at in 0..length {
            let ordinary = numbers(48);
            for strange in strange {
                let mut row = ordinary.clone();
                row[at] = strange;
                check_softmax(&[ordinary.clone(), row.clone(), ordinary.clone()], length);
                let rows = [&ordinary, &row, &ordinary].map(|row| row[..length].to_vec());
                check_normalize(&rows, &[], &numbers(u16::try_from(length).unwrap()));
            }
            let mut row = vec![f32::NEG_INFINITY; 48];
            check_softmax(&[row.clone(), ordinary], length);
            // One that is a number has all the weight, however small.
            row[at] = f32::MIN;
            check_softmax(&[row], length);
        }
    }
}

/// Numbers as they come, and others.
fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -30.0_f32..30.0,
        1 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![
            0.0, -0.0, 1e-45, -1e-40, 1e30, -1e30, f32::MAX, f32::MIN, f32::NEG_INFINITY,
        ]),
    ]
}

proptest! {
    #[test]
    fn a_softmax_of_any_numbers_is_the_definitions(
        rows in (1..5_usize, 1..4_usize).prop_flat_map(|(count, panels)| {
            prop::collection::vec(prop::collection::vec(any_number(), panels * 32), count)
        }),
        share in 0.0..1.0,
    ) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a length within the row")]
        let length = 1 + (share * (rows[0].len() - 1) as f64) as usize;
        check_softmax(&rows, length);
    }

    #[test]
    fn normalized_rows_of_any_length_are_the_definitions(
        (rows, added, gain) in (1..90_usize, 1..4_usize).prop_flat_map(|(length, count)| {
            let row = || prop::collection::vec(-4.0_f32..4.0, length);
            let rows = || prop::collection::vec(row(), count);
            (rows(), rows(), row())
        }),
        strange in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(vec![
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -0.0,
        ]))),
    ) {
        let mut rows = rows;
        if let Some((at, number)) = strange {
            let at = at.index(rows.len() * gain.len());
            rows[at / gain.len()][at % gain.len()] = number;
        }
        check_normalize(&rows, &added, &gain);
    }
}
