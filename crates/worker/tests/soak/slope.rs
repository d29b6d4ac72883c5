//! How fast something grows, and how sure that is.

/// Samples of one process a second apart are nearly the same sample: what memory is like now, it was a
/// moment ago. Means of so many seconds are taken for independent of each other.
const BLOCK_SECONDS: f64 = 300.0;
/// Where that makes fewer blocks, they are shorter.
const FEWEST_BLOCKS: f64 = 8.0;
/// Freedoms below which the quantile is not computed: nothing is sure then.
const FEWEST_FREEDOMS: f64 = 3.0;
/// 97.5 % of a normal distribution.
const NORMAL: f64 = 1.959_964;

/// Least squares of the means of blocks of `(second, value)`: units a second, and 95 % of where it may
/// lie on either side; infinite where there are too few.
pub(crate) fn slope(samples: &[(f64, f64)]) -> (f64, f64) {
    let blocks = blocks(samples);
    let count = f64::from(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
    let (middle, level) = mean(&blocks);
    let spread: f64 = blocks.iter().map(|(second, _)| (second - middle).powi(2)).sum();
    if spread <= 0.0 {
        return (0.0, f64::INFINITY);
    }
    let together = |(second, value): &(f64, f64)| (second - middle) * (value - level);
    let slope = blocks.iter().map(together).sum::<f64>() / spread;
    let freedoms = count - 2.0;
    if freedoms < FEWEST_FREEDOMS {
        return (slope, f64::INFINITY);
    }
    let rest = |(second, value): &(f64, f64)| (value - level - slope * (second - middle)).powi(2);
    let variance = blocks.iter().map(rest).sum::<f64>() / freedoms;
    (slope, quantile(freedoms) * (variance / spread).sqrt())
}

/// The means of samples that lie in the same stretch of time.
fn blocks(samples: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (Some((begin, _)), Some((end, _))) = (samples.first(), samples.last()) else {
        return Vec::new();
    };
    let count = ((end - begin) / BLOCK_SECONDS).floor().max(FEWEST_BLOCKS);
    let length = (end - begin) / count;
    let block = |(second, _): &(f64, f64)| ((second - begin) / length).floor().min(count - 1.0);
    let blocks = samples.chunk_by(|before, after| block(before) >= block(after));
    blocks.map(mean).collect()
}

fn mean(samples: &[(f64, f64)]) -> (f64, f64) {
    let count = f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX)).max(1.0);
    let sum = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>();
    (sum(|at| at.0) / count, sum(|at| at.1) / count)
}

/// 97.5 % of Student's distribution, within one percent from 3 freedoms on: approximation 26.7.5 of
/// Abramowitz and Stegun, Handbook of Mathematical Functions.
fn quantile(freedoms: f64) -> f64 {
    let power = |exponent| NORMAL.powi(exponent);
    let first = (power(3) + NORMAL) / 4.0;
    let second = (5.0 * power(5) + 16.0 * power(3) + 3.0 * NORMAL) / 96.0;
    let third = (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * NORMAL) / 384.0;
    NORMAL + first / freedoms + second / freedoms.powi(2) + third / freedoms.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Random;

    const HOURS: u32 = 4;

    /// Noise of which each second keeps 98 % of the one before, and grows by so much an hour.
    fn noise(seed: u64, growth: f64) -> Vec<(f64, f64)> {
        let mut random = Random::new(seed);
        let mut unit = || f64::from(u32::try_from(random.below(2001)).unwrap()) / 1000.0 - 1.0;
        let mut value = 0.0;
        let second = |at: u32| {
            value = 0.98 * value + unit();
            (f64::from(at), value + growth * f64::from(at) / 3600.0)
        };
        (0..HOURS * 3600).map(second).collect()
    }

    #[test]
    fn noise_that_remembers_is_no_slope() {
        let contains = |truth: f64, (slope, open): (f64, f64)| {
            let (slope, open) = (slope * 3600.0, open * 3600.0);
            (slope - truth).abs() <= open
        };
        for growth in [0.0, 1.0] {
            let right = (0..100).filter(|seed| contains(growth, slope(&noise(*seed, growth))));
            let right = right.count();
            assert!((88..=99).contains(&right), "of 95 % of a hundred series, {right}");
        }
    }

    #[test]
    fn a_real_slope_is_seen_through_the_noise() {
        for seed in 0..100 {
            let (slope, open) = slope(&noise(seed, 3.0));
            assert!(slope > open, "{seed}: {:.2} ± {:.2}", slope * 3600.0, open * 3600.0);
        }
    }

    #[test]
    fn a_line_has_its_slope_whatever_is_left_out() {
        let line = (0..4_000).map(|at| (f64::from(at), 7.0 + 0.25 * f64::from(at)));
        let line: Vec<_> = line.filter(|(at, _)| at % 700.0 < 500.0).collect();
        let (found, open) = slope(&line);
        assert!((found - 0.25).abs() < 1e-9 && open < 1e-9, "{found} ± {open}");
    }

    #[test]
    fn of_few_samples_nothing_is_sure() {
        assert_eq!(slope(&[]), (0.0, f64::INFINITY));
        assert_eq!(slope(&[(1.0, 2.0)]), (0.0, f64::INFINITY));
        assert_eq!(slope(&[(0.0, 2.0), (1.0, 4.0)]), (2.0, f64::INFINITY));
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (freedoms, expected) in [(3.0, 3.182), (6.0, 2.447), (17.0, 2.110), (120.0, 1.980)] {
            let found = quantile(freedoms);
            assert!((found / expected - 1.0).abs() < 0.01, "{freedoms}: {found}");
        }
    }
}
