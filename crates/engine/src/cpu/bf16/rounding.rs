//! Numbers of 32 bits, rounded to 16: the left-hand rows of a product, and matrices that are computed and
//! then multiplied.

use super::number::pair;
use super::panels::{Panels, STEP, pairs_deep};
use crate::cpu::buffer::Buffer;
use crate::cpu::panels::Rows;

/// What is behind the last row that belongs to the left-hand matrix, up to a multiple of so many, is
/// zero: tiles are always filled.
const FILLED: usize = 32;

/// How instructions round numbers.
pub(super) trait Round {
    /// Neighbours become pairs, each number as [`super::number::round`] has it.
    #[inline(always)]
    fn round(&self, numbers: &[f32; STEP], pairs: &mut [u32; STEP / 2]) {
        for (place, [first, second]) in pairs.iter_mut().zip(numbers.as_chunks::<2>().0) {
            *place = pair(*first, *second);
        }
    }
}

/// Without an instruction for it.
pub(super) struct InSoftware;

impl Round for InSoftware {}

/// The first `count` rows of a matrix, each of `depth` numbers, to be rounded.
pub(crate) struct Rounding<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) count: usize,
    pub(crate) depth: usize,
    pub(crate) into: Into<'a>,
}

/// What rounded rows become.
pub(crate) enum Into<'a> {
    /// Left-hand rows.
    Left(&'a mut Rounded),
    /// The columns of a right-hand matrix.
    Columns(&'a mut Panels),
    /// The rows of a right-hand matrix.
    Rows(&'a mut Panels),
}

impl Rounding<'_> {
    #[inline(always)]
    pub(super) fn run(self, how: &impl Round) {
        let Self { rows, count, depth, into } = self;
        match into {
            Into::Left(rounded) => rounded.fill(how, rows, count, depth),
            Into::Columns(panels) => panels.fill_columns(how, rows, count, depth),
            Into::Rows(panels) => panels.fill_rows(rows, depth, count),
        }
    }
}

/// Left-hand rows, rounded. Its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Rounded {
    /// `[rows, depth / 2]`, and rows of zeros up to a multiple of [`FILLED`].
    pairs: Buffer<u32>,
    count: usize,
    depth: usize,
}

impl Rounded {
    /// The first `count` of these rows, each of `depth` numbers.
    #[inline(always)]
    fn fill(&mut self, how: &impl Round, left: Rows<'_>, count: usize, depth: usize) {
        let (filled, deep) = self.reshape(count, depth);
        for (row, places) in filled.chunks_exact_mut(deep.max(1)).enumerate() {
            round_row(how, &left.numbers[row * left.stride..][..depth], places);
        }
    }

    /// Rows that hold anything, and how many pairs each of them has.
    pub(super) fn reshape(&mut self, count: usize, depth: usize) -> (&mut [u32], usize) {
        (self.count, self.depth) = (count, depth);
        let deep = pairs_deep(depth);
        let pairs = self.pairs.take(count.next_multiple_of(FILLED) * deep);
        let (filled, rest) = pairs.split_at_mut(count * deep);
        rest.fill(0);
        (filled, deep)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn pairs(&self) -> &[u32] {
        self.pairs.get(self.count.next_multiple_of(FILLED) * pairs_deep(self.depth))
    }
}

/// A left-hand row, and zeros up to a whole number of steps.
#[inline(always)]
pub(super) fn round_row(how: &impl Round, numbers: &[f32], places: &mut [u32]) {
    let (whole, last) = numbers.as_chunks::<STEP>();
    let (places, rest) = places.as_chunks_mut::<{ STEP / 2 }>().0.split_at_mut(whole.len());
    for (numbers, pairs) in whole.iter().zip(places) {
        how.round(numbers, pairs);
    }
    if let [pairs, ..] = rest {
        pairs.fill(0);
        for (place, numbers) in pairs.iter_mut().zip(last.chunks(2)) {
            *place = pair_of(numbers);
        }
    }
}

/// Of two numbers, or of one at the end of an odd depth.
#[inline(always)]
pub(super) fn pair_of(numbers: &[f32]) -> u32 {
    match numbers {
        [first, second, ..] => pair(*first, *second),
        [first] => pair(*first, 0.0),
        [] => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::bf16::Instructions;
    use crate::cpu::kernel::Vectors;

    fn rounded(instructions: Instructions, vectors: Vectors, numbers: &[f32]) -> Vec<u32> {
        let mut rounded = Rounded::default();
        let (rows, depth) = (Rows::new(numbers, numbers.len()), numbers.len());
        let into = Into::Left(&mut rounded);
        instructions.round(vectors, Rounding { rows, count: 1, depth, into });
        rounded.pairs()[..depth.div_ceil(2)].to_vec()
    }

    fn check(numbers: &[f32]) {
        let expected: Vec<u32> = numbers.chunks(2).map(pair_of).collect();
        for vectors in Vectors::available() {
            for instructions in Instructions::available(vectors) {
                let found = rounded(instructions, vectors, numbers);
                assert_eq!(found, expected, "{} {numbers:?}", instructions.name());
            }
        }
    }

    #[test]
    fn every_instruction_rounds_what_is_no_number_too_small_or_between_two_as_it_is_defined() {
        let edges = [0, 1, 0x7f_ffff, 0x80_0000, 0x80_8000, 0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff];
        let no_numbers = [0x7f80_0000, 0x7f80_0001, 0x7fc0_0000, 0x7fff_ffff];
        let bits = edges.into_iter().chain(no_numbers);
        let numbers: Vec<f32> =
            bits.flat_map(|bits| [bits, bits | 1 << 31]).map(f32::from_bits).collect();
        let many: Vec<f32> = numbers.iter().cycle().take(67).copied().collect();
        check(&many);
    }

    proptest! {
        #[test]
        fn every_instruction_rounds_any_bits_as_it_is_defined(
            bits in proptest::collection::vec(any::<u32>(), 1..100),
        ) {
            check(&bits.into_iter().map(f32::from_bits).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_are_rounded_and_filled_whatever_was_in_their_memory() {
        let numbers = (0..210_u16).map(f32::from).collect::<Vec<_>>();
        for depth in [1, 5, 32, 35] {
            let mut rounded = Rounded::default();
            rounded.pairs.take(4096).fill(u32::MAX);
            // Rows at a distance of 37.
            rounded.fill(&InSoftware, Rows::new(&numbers, 37), 3, depth);
            assert_eq!((rounded.count(), rounded.depth()), (3, depth));
            let deep = pairs_deep(depth);
            let found = rounded.pairs();
            assert_eq!(found.len(), FILLED * deep);
            for (row, pairs) in found.chunks_exact(deep).enumerate() {
                let number = |at: usize| {
                    if row < 3 && at < depth { numbers[row * 37 + at] } else { 0.0 }
                };
                for (at, found) in pairs.iter().enumerate() {
                    let expected = pair(number(2 * at), number(2 * at + 1));
                    assert_eq!(*found, expected, "row {row} of {depth} at {at}");
                }
            }
        }
    }
}
