//! Single numbers.

/// The bits of a 32-bit float that bf16 leaves away.
const DROPPED: u32 = 16;
const SIGN: u32 = 0x8000_0000;
const INFINITY: u32 = 0x7f80_0000;
/// Set in a NaN that raises nothing.
const QUIET: u32 = 0x0040_0000;

/// The bf16 nearest to a float, of two as near the even one; of a float with less than its full
/// precision (below 2⁻¹²⁶) a zero. What `VCVTNEPS2BF16` makes of it.
#[inline(always)]
pub(super) fn round(number: f32) -> u16 {
    let bits = number.to_bits();
    let size = bits & !SIGN;
    let nearest = bits.wrapping_add(0x7fff + (bits >> DROPPED & 1));
    let rounded = if size > INFINITY {
        bits | QUIET
    } else if size < f32::MIN_POSITIVE.to_bits() {
        bits & SIGN
    } else {
        nearest
    };
    (rounded >> DROPPED) as u16
}

/// Two neighbours along the depth as they lie in memory, the first one in the lower half.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> u32 {
    u32::from(round(first)) | u32::from(round(second)) << DROPPED
}

#[cfg(test)]
pub(super) fn widen(number: u16) -> f32 {
    f32::from_bits(u32::from(number) << DROPPED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_becomes_the_nearest_one_and_of_two_the_even_one() {
        // Between 1 and 2, neighbours are 2⁻⁷ apart.
        let step = 1.0 / 128.0;
        for (number, expected) in [
            (1.0, 1.0),
            (1.0 + 0.49 * step, 1.0),
            (1.0 + 0.51 * step, 1.0 + step),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (-1.0 - 1.5 * step, -1.0 - 2.0 * step),
            (2.0 - 0.1 * step, 2.0),
            (0.0, 0.0),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
            (f32::MIN_POSITIVE * 0.999, 0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            (f32::MIN, f32::NEG_INFINITY),
        ] {
            assert_eq!(widen(round(number)).to_bits(), expected.to_bits(), "{number:e}");
        }
        assert_eq!(round(-f32::MIN_POSITIVE / 2.0), 0x8000, "a zero keeps its sign");
        assert!(widen(round(f32::from_bits(INFINITY + 1))).is_nan());
        assert_eq!(pair(1.0, -2.0), 0xc000_3f80);
    }

    proptest! {
        #[test]
        fn any_bits_at_all_stay_what_they_are_no_number_infinite_or_neither(bits: u32) {
            let number = f32::from_bits(bits);
            let rounded = widen(round(number));
            prop_assert_eq!(rounded.is_nan(), number.is_nan(), "{:e}", number);
            prop_assert!(rounded.is_infinite() || !number.is_infinite());
            // Half a step above the largest one.
            prop_assert!(rounded.is_infinite() == (number.abs() >= f32::from_bits(0x7f7f_8000)));
            prop_assert!(number.is_nan() || rounded.is_sign_negative() == number.is_sign_negative());
        }

        #[test]
        fn no_other_number_is_nearer(bits: u32) {
            let number = f32::from_bits(bits);
            prop_assume!(number.is_normal() && number.abs() < 3e38);
            let rounded = round(number);
            let apart = |of: u16| (f64::from(widen(of)) - f64::from(number)).abs();
            for other in [rounded - 1, rounded + 1] {
                prop_assert!(apart(rounded) <= apart(other), "{number:e}");
            }
        }
    }
}
