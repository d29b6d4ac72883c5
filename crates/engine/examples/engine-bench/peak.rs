//! What the processor can do: multiplications and additions of registers, and nothing else.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};

/// As many sums as hide the latency of each, in as many registers as every instruction set has.
const SUMS: usize = 12;
const TURNS: u32 = 100_000;
const TIME: Duration = Duration::from_millis(60);

/// Floating-point operations a second of so many threads together: the best moment of each.
pub(crate) fn peak(threads: usize) -> f64 {
    std::thread::scope(|scope| {
        let each: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        each.into_iter().filter_map(|thread| thread.join().ok()).sum()
    })
}

fn one() -> f64 {
    let arch = pulp::Arch::new();
    let begun = Instant::now();
    let mut best = 0.0_f64;
    while begun.elapsed() < TIME {
        let at = Instant::now();
        let operations = arch.dispatch(Turns);
        best = best.max(operations / at.elapsed().as_secs_f64());
    }
    best
}

struct Turns;

impl WithSimd for Turns {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let factor = simd.splat_f32s(black_box(0.999));
        let mut sums = [simd.splat_f32s(black_box(1.0)); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, factor);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
        let lanes = u32::try_from(S::F32_LANES * SUMS).unwrap_or_default();
        2.0 * f64::from(lanes) * f64::from(TURNS)
    }
}
