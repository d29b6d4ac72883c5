//! Functions of single numbers, for a vector of them at a time.
//!
//! Closures would not be compiled with the vector instructions of whoever calls them, so there are
//! none here, and functions are handed on as types.
//!
//! What is no number stays none. The maximum and the minimum of most instruction sets would hide it: of a
//! NaN and a number they are the number, or whichever comes second. So they are taken only where a NaN
//! goes another way, too.

use pulp::Simd;

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

/// A float of this size has no bits behind the point: what is added to it is rounded, and stands in
/// its lowest bits.
const ROUNDING: f32 = 12_582_912.0;
/// Bits of a float's fraction.
const FRACTION: u32 = 23;
/// The natural logarithm of 2 in two parts, of which the first has so few digits that whole multiples
/// of it are exact (W. J. Cody, W. Waite: Software Manual for the Elementary Functions, 1980).
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Below it, the exponential is next to no number that a float can be.
const LOWEST: f32 = -87.0;
/// From here on, it is infinite: nearly the largest number that a float can be.
const HIGHEST: f32 = 88.5;

/// e to the power of each number, within 3 units in the last place; of those below −87 as of −87, of
/// those from 88.5 on infinity, and of what is no number none.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let is_finite = simd.less_than_f32s(x, simd.splat_f32s(HIGHEST));
    let otherwise = simd.add_f32s(x, simd.splat_f32s(f32::INFINITY));
    let x = simd.max_f32s(x, simd.splat_f32s(LOWEST));
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(LOG2_E), simd.splat_f32s(ROUNDING));
    let whole = simd.sub_f32s(shifted, simd.splat_f32s(ROUNDING));
    let rest = simd.mul_add_e_f32s(whole, simd.splat_f32s(-LN_2_HIGH), x);
    let rest = simd.mul_add_e_f32s(whole, simd.splat_f32s(-LN_2_LOW), rest);
    // The polynomial of Cephes (https://www.netlib.org/cephes/, expf).
    let mut sum = simd.splat_f32s(1.987_569_1e-4);
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        sum = simd.mul_add_e_f32s(sum, rest, simd.splat_f32s(factor));
    }
    let squared = simd.mul_f32s(rest, rest);
    let sum = simd.mul_add_e_f32s(sum, squared, simd.add_f32s(rest, simd.splat_f32s(1.0)));
    // Times 2 to the power of the whole part: an addition to the exponent's bits.
    let bits = simd.transmute_u32s_f32s(shifted);
    let exponent = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(FRACTION));
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(sum), exponent);
    simd.select_f32s(is_finite, simd.transmute_f32s_u32s(bits), otherwise)
}

/// A function between the halves of a feed-forward layer.
pub(crate) trait Activated {
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s;
}

/// What a sum is where nothing is activated.
pub(crate) struct Same;
pub(crate) struct Relu;
pub(crate) struct Gelu;
pub(crate) struct GeluTanh;

impl Activated for Same {
    #[inline(always)]
    fn of<S: Simd>(_: S, x: S::f32s) -> S::f32s {
        x
    }
}

impl Activated for Relu {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
    }
}

impl Activated for Gelu {
    /// x Φ(x), as max(x, 0) − |x| erfc(|x| / √2) / 2, in which nothing is cancelled. The complementary
    /// error function is the eighth power of one over a polynomial, the form of approximation 7.1.28
    /// of Abramowitz and Stegun, Handbook of Mathematical Functions, with one square less and two
    /// terms more: fitted to |x| erfc(|x| / √2) / 2 between 0 and 7, where it is off by at most 5e-8.
    /// Of an infinite number there is none.
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        let size = simd.max_f32s(x, simd.sub_f32s(zero, x));
        let mut sum = simd.splat_f32s(2.932_119e-6);
        for factor in [
            -1.674_301_7e-5,
            9.756_338e-5,
            1.113_938e-4,
            9.806_091e-4,
            8.591_667e-3,
            4.478_879e-2,
            9.973_25e-2,
            1.0,
        ] {
            sum = simd.mul_add_e_f32s(sum, size, simd.splat_f32s(factor));
        }
        for _ in 0..3 {
            sum = simd.mul_f32s(sum, sum);
        }
        let beyond = simd.div_f32s(simd.mul_f32s(size, simd.splat_f32s(0.5)), sum);
        simd.sub_f32s(simd.max_f32s(x, zero), beyond)
    }
}

impl Activated for GeluTanh {
    /// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, as x / (1 + e^(−2 …)).
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let squared = simd.mul_f32s(x, x);
        let inner = simd.mul_f32s(
            x,
            simd.mul_add_e_f32s(squared, simd.splat_f32s(0.044_715), simd.splat_f32s(1.0)),
        );
        // √(2/π) is 2/√π / √2.
        let inner = simd.mul_f32s(inner, simd.splat_f32s(-2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2));
        simd.div_f32s(x, simd.add_f32s(simd.splat_f32s(1.0), exp(simd, inner)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::WithSimd;

    use super::*;
    use crate::cpu::kernel::Kernel;

    /// Applies a function to each number, eight and more at a time.
    struct Map<'a, F>(&'a mut [f32], &'a F);

    trait Function {
        fn of<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s;
    }

    impl<F: Function> WithSimd for Map<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty(), "a multiple of all lanes");
            for vector in vectors {
                *vector = self.1.of(simd, *vector);
            }
        }
    }

    struct Exp;
    impl Function for Exp {
        #[inline(always)]
        fn of<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            exp(simd, x)
        }
    }
    struct Of<A>(A);
    impl<A: Activated> Function for Of<A> {
        #[inline(always)]
        fn of<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            A::of(simd, x)
        }
    }

    /// 160,000 numbers from one bound to the other.
    fn between(lowest: f32, highest: f32) -> Vec<f32> {
        let count = 160_000_u32;
        #[expect(clippy::cast_precision_loss, reason = "any numbers will do")]
        let share = |at: u32| at as f32 / (count - 1) as f32;
        (0..count).map(|at| lowest + (highest - lowest) * share(at)).collect()
    }

    fn farthest(
        function: &impl Function,
        numbers: &[f32],
        expected: impl Fn(f64) -> f64,
        apart: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        let of_kernel = |kernel: Kernel| {
            let mut found = numbers.to_vec();
            kernel.dispatch(Map(&mut found, function));
            let each = numbers.iter().zip(&found);
            each.map(|(x, found)| apart(f64::from(*found), expected(f64::from(*x))))
                .fold(0.0, f64::max)
        };
        Kernel::available().into_iter().map(of_kernel).fold(0.0, f64::max)
    }

    #[test]
    fn the_exponential_is_right_to_the_last_digits() {
        let apart = |found: f64, expected: f64| ((found - expected) / expected).abs();
        let far = farthest(&Exp, &between(-87.0, 88.0), f64::exp, apart);
        assert!(far < 3.0 * f64::from(f32::EPSILON), "{far:e}");
        let low = farthest(&Exp, &between(-1e9, -100.0), |_| 0.0, |found, _| found);
        assert!(low < 2e-38, "{low:e}");
        let is_infinite = |found: f64, _| if found == f64::INFINITY { 0.0 } else { 1.0 };
        let high = farthest(&Exp, &between(88.5, 1e9), f64::exp, is_infinite);
        assert!(high == 0.0, "there is one that is no infinity");
    }

    /// The error function by its series, which converges everywhere.
    fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..400 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn gelu(x: f64) -> f64 {
        // Beyond, its terms are so large that nothing is left of their sum.
        let phi = if x.abs() < 6.0 { erf(x / std::f64::consts::SQRT_2) } else { x.signum() };
        0.5 * x * (1.0 + phi)
    }

    fn gelu_tanh(x: f64) -> f64 {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    }

    #[test]
    fn the_activations_are_those_of_their_definitions() {
        let apart = |found: f64, expected: f64| (found - expected).abs();
        let far = farthest(&Of(Gelu), &between(-6.0, 6.0), gelu, apart);
        assert!(far < 3e-7, "{far:e}");
        let far = farthest(&Of(GeluTanh), &between(-10.0, 10.0), gelu_tanh, apart);
        assert!(far < 3e-6, "{far:e}");
        let far = farthest(&Of(Relu), &between(-10.0, 10.0), |x| x.max(0.0), apart);
        assert!(far == 0.0, "{far:e}");
        for (x, expected) in [(-60.0, 0.0), (60.0, 60.0)] {
            let far = farthest(&Of(Gelu), &[x; 32], |_| expected, apart);
            assert!(far < 1e-30, "{x}: {far:e}");
        }
    }

    /// Of a number that may be none, or infinite: what comes out is the definition's, or no finite number
    /// where that has none.
    fn check_any(number: f32) {
        fn found(kernel: Kernel, number: f32, function: &impl Function) -> f32 {
            // One of them is another, so that no vector is of one kind alone.
            let mut numbers = [number; 32];
            numbers[1] = 1.0;
            kernel.dispatch(Map(&mut numbers, function));
            for at in 2..32 {
                assert_eq!(numbers[at].to_bits(), numbers[0].to_bits(), "{number:e} at {at}");
            }
            numbers[0]
        }
        let wide = f64::from(number);
        for kernel in Kernel::available() {
            let of = |name: &str, found: f32, expected: f64, allowed: f64| {
                let is_right = if number.is_nan() {
                    found.is_nan()
                } else if number.is_infinite() && !expected.is_finite() {
                    !found.is_finite()
                } else if expected > f64::from(f32::MAX) {
                    found == f32::INFINITY
                } else {
                    (f64::from(found) - expected).abs() <= allowed
                };
                assert!(is_right, "{kernel}: {name} of {number:e} is {found:e}, not {expected:e}");
            };
            let expected = if number >= 88.5 { f64::INFINITY } else { wide.exp() };
            of("exp", found(kernel, number, &Exp), expected, expected * 4e-7 + 2e-38);
            of("relu", found(kernel, number, &Of(Relu)), if wide < 0.0 { 0.0 } else { wide }, 0.0);
            of("gelu", found(kernel, number, &Of(Gelu)), gelu(wide), 3e-7);
            let allowed = 3e-6 * wide.abs().clamp(1.0, 10.0);
            of("gelu_tanh", found(kernel, number, &Of(GeluTanh)), gelu_tanh(wide), allowed);
        }
    }

    #[test]
    fn what_is_no_number_stays_none_and_no_infinity_becomes_a_number() {
        let mut numbers = vec![f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)];
        // A quiet one whose lowest bits are set: the exponential adds to bits.
        numbers.extend([0x7fc0_0001, 0xffff_ffff, 0x7fff_ffff].map(f32::from_bits));
        for size in [0.0, 1e-45, 1e-40, f32::MIN_POSITIVE, 1.0, 88.0, 88.6, 100.0, 1e30, f32::MAX] {
            numbers.extend([size, -size]);
        }
        numbers.extend([f32::INFINITY, f32::NEG_INFINITY]);
        numbers.into_iter().for_each(check_any);
    }

    proptest! {
        #[test]
        fn any_bits_at_all_come_out_as_defined(bits: u32) {
            check_any(f32::from_bits(bits));
        }
    }
}
