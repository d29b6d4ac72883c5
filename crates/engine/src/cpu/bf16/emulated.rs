//! `VDPBF16PS` in software, over any vectors: the same sums to the last bit, several times slower than
//! products of 32-bit floats.

use pulp::Simd;

use super::lanes::{LANES, Lanes};
use super::rounding::Round;

const SIGN: u32 = 0x8000_0000;
const SECOND: u32 = 0xffff_0000;
const HALF: u32 = 16;

/// Of `N` vectors that have 16 numbers together.
#[derive(Clone, Copy)]
pub(super) struct Emulated<S, const N: usize>(pub(super) S);

impl<S: Simd, const N: usize> Round for Emulated<S, N> {}

impl<S: Simd, const N: usize> Lanes for Emulated<S, N> {
    type Sums = [S::f32s; N];
    type Pairs = [S::u32s; N];

    const ROWS: usize = 2;

    #[inline(always)]
    fn zero(self) -> Self::Sums {
        [self.0.splat_f32s(0.0); N]
    }

    #[inline(always)]
    fn load(self, pairs: &[u32; LANES]) -> Self::Pairs {
        const { assert!(N * S::F32_LANES == LANES, "as many vectors as have 16 numbers") }
        let mut vectors = self.splat(0);
        vectors.copy_from_slice(S::as_simd_u32s(pairs).0);
        vectors
    }

    #[inline(always)]
    fn splat(self, pair: u32) -> Self::Pairs {
        [self.0.splat_u32s(pair); N]
    }

    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, left: Self::Pairs, right: Self::Pairs) -> Self::Sums {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum = dot(self.0, *sum, left, right);
        }
        sums
    }

    #[inline(always)]
    fn store(self, sums: Self::Sums, place: &mut [f32; LANES]) {
        S::as_mut_simd_f32s(place).0.copy_from_slice(&sums);
    }
}

/// Each product is added with one rounding, to the nearest number and of two to the even one. Numbers
/// below 2⁻¹²⁶ are zero where they come in and where they come out.
#[inline(always)]
fn dot<S: Simd>(simd: S, sums: S::f32s, left: S::u32s, right: S::u32s) -> S::f32s {
    let sums = normal(simd, sums);
    let sums = simd.mul_add_f32s(second(simd, left), second(simd, right), sums);
    let sums = normal(simd, sums);
    normal(simd, simd.mul_add_f32s(first(simd, left), first(simd, right), sums))
}

#[inline(always)]
fn first<S: Simd>(simd: S, pairs: S::u32s) -> S::f32s {
    let bits = simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(HALF));
    normal(simd, simd.transmute_f32s_u32s(bits))
}

#[inline(always)]
fn second<S: Simd>(simd: S, pairs: S::u32s) -> S::f32s {
    normal(simd, simd.transmute_f32s_u32s(simd.and_u32s(pairs, simd.splat_u32s(SECOND))))
}

/// Zero, with its sign, where a number has less than its full precision.
#[inline(always)]
fn normal<S: Simd>(simd: S, numbers: S::f32s) -> S::f32s {
    let bits = simd.transmute_u32s_f32s(numbers);
    let size = simd.transmute_f32s_u32s(simd.and_u32s(bits, simd.splat_u32s(!SIGN)));
    let small = simd.less_than_f32s(size, simd.splat_f32s(f32::MIN_POSITIVE));
    let zero = simd.transmute_f32s_u32s(simd.and_u32s(bits, simd.splat_u32s(SIGN)));
    simd.select_f32s(small, zero, numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::{Scalar, WithSimd};

    use super::*;

    /// As the manual has it, one number at a time.
    fn by_definition(mut sum: f32, left: u32, right: u32) -> f32 {
        // The second half of a pair, which is the upper one, and the first.
        let half = |pair: u32, up: u32| zero_if_small(f32::from_bits(pair << up & SECOND));
        for up in [0, 16] {
            sum = zero_if_small(half(left, up).mul_add(half(right, up), zero_if_small(sum)));
        }
        sum
    }

    fn zero_if_small(number: f32) -> f32 {
        if number.is_subnormal() { 0.0_f32.copysign(number) } else { number }
    }

    struct Once([f32; LANES], u32, [u32; LANES]);

    impl WithSimd for Once {
        type Output = [f32; LANES];
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self(mut sums, left, right) = self;
            let (vectors, _) = S::as_mut_simd_f32s(&mut sums);
            let (right, _) = S::as_simd_u32s(&right);
            for (sum, right) in vectors.iter_mut().zip(right) {
                *sum = dot(simd, *sum, simd.splat_u32s(left), *right);
            }
            sums
        }
    }

    fn check(sums: [f32; LANES], left: u32, right: [u32; LANES]) {
        for vectors in crate::cpu::kernel::Vectors::available() {
            let kernel = crate::cpu::kernel::Kernel::of(vectors, None);
            let found = kernel.dispatch(Once(sums, left, right));
            for ((sum, right), found) in sums.iter().zip(right).zip(found) {
                let expected = by_definition(*sum, left, right);
                let same = found.to_bits() == expected.to_bits();
                assert!(
                    same || (found.is_nan() && expected.is_nan()),
                    "{kernel}: {sum:e} + {left:x} × {right:x} is {expected:e}, not {found:e}"
                );
            }
        }
    }

    #[test]
    fn the_second_product_is_added_before_the_first_and_small_numbers_are_zero() {
        // 2²⁴ − 2²⁴ + 1, in the order in which the one is kept.
        let (large, one) = (0x4b80, 0x3f80);
        let left = large << 16 | one;
        let right = 0xbf80 << 16 | one;
        let sums = Simd::vectorize(Scalar, Once([16_777_216.0; LANES], left, [right; LANES]));
        assert_eq!(sums.map(f32::to_bits), [1.0_f32.to_bits(); LANES]);
        let small = f32::MIN_POSITIVE;
        for (sum, left, right, expected) in [
            // An input of 2⁻¹²⁷ counts as zero.
            (1.0, 0x0040, 0x7f00, 1.0),
            (small / 2.0, 0, 0, 0.0),
            // And so does what comes out below 2⁻¹²⁶.
            (small, 0x3f80, 0x8070 | 0x0080, small - f32::from_bits(0x00f0_0000)),
            (1.5 * small, 0x3f80, 0x8080, 0.0),
        ] {
            let found = Simd::vectorize(Scalar, Once([sum; LANES], left, [right; LANES]))[0];
            let expected = zero_if_small(expected);
            assert_eq!(found.abs().to_bits(), expected.abs().to_bits(), "{sum:e} {left:x}");
            check([sum; LANES], left, [right; LANES]);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_at_all_are_those_of_the_definition(
            sums: [u32; LANES], left: u32, right: [u32; LANES],
        ) {
            check(sums.map(f32::from_bits), left, right);
        }

        #[test]
        fn numbers_of_like_size_are_those_of_the_definition(
            sums in prop::array::uniform16(-4.0_f32..4.0), left in any::<[i8; 2]>(), right: [[i8; 2]; LANES],
        ) {
            let pair = |[a, b]: [i8; 2]| super::super::number::pair(f32::from(a), f32::from(b));
            check(sums, pair(left), right.map(pair));
        }
    }
}
