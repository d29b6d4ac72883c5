//! How both matrices of a product lie in memory.

use std::ops::Range;

use super::number::pair;
use crate::cpu::buffer::Buffer;
use crate::cpu::panels::Rows;

/// Columns of a panel: two vectors of 16 sums, or two tiles beside each other.
pub(crate) const WIDTH: usize = 32;
/// Numbers of the depth that one tile takes.
const STEP: usize = 32;
/// What is behind the last row that belongs to the left-hand matrix, up to a multiple of so many, is
/// zero: tiles are always filled.
const FILLED: usize = 32;

/// Columns of a right-hand matrix.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    /// Whole panels.
    pairs: &'a [u32],
    count: usize,
    depth: usize,
}

/// A right-hand matrix.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    /// `[columns / 32][depth / 2][32]`.
    pairs: Buffer<u32>,
    columns: usize,
    depth: usize,
}

impl Panels {
    /// What they take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.pairs.bytes()
    }

    /// Of a matrix whose rows are the columns of this one, as the weights of a layer are.
    pub(crate) fn of_columns(columns: Rows<'_>, count: usize, depth: usize) -> Self {
        let mut panels = Self { pairs: Buffer::default(), columns: count, depth };
        let deep = panels.pairs_deep();
        let pairs = panels.pairs.take(count.div_ceil(WIDTH) * deep * WIDTH);
        pairs.fill(0);
        for column in 0..count {
            let panel = &mut pairs[column / WIDTH * deep * WIDTH..][..deep * WIDTH];
            let numbers = &columns.numbers[column * columns.stride..][..depth];
            let places = panel.as_chunks_mut::<WIDTH>().0;
            for (place, numbers) in places.iter_mut().zip(numbers.chunks(2)) {
                place[column % WIDTH] = pair_of(numbers);
            }
        }
        panels
    }

    /// Rows of the matrix.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// These columns, of which the first begins a panel.
    pub(crate) fn part(&self, columns: Range<usize>) -> Columns<'_> {
        debug_assert!(columns.start.is_multiple_of(WIDTH), "{columns:?}");
        let deep = self.pairs_deep();
        let pairs = self.pairs.get(self.columns.div_ceil(WIDTH) * deep * WIDTH);
        let end = columns.end.next_multiple_of(WIDTH) * deep;
        Columns {
            pairs: &pairs[columns.start * deep..end],
            count: columns.len(),
            depth: self.depth,
        }
    }

    fn pairs_deep(&self) -> usize {
        pairs_deep(self.depth)
    }
}

impl<'a> Columns<'a> {
    pub(super) fn count(self) -> usize {
        self.count
    }

    pub(super) fn depth(self) -> usize {
        self.depth
    }

    pub(super) fn pairs_deep(self) -> usize {
        pairs_deep(self.depth)
    }

    /// Of each panel, one row of pairs after the other.
    pub(super) fn panels(self) -> impl Iterator<Item = &'a [[u32; WIDTH]]> {
        self.pairs.as_chunks::<WIDTH>().0.chunks_exact(self.pairs_deep().max(1))
    }
}

/// Pairs of a column, with those that fill it.
fn pairs_deep(depth: usize) -> usize {
    depth.next_multiple_of(STEP) / 2
}

/// The left-hand rows of a block, rounded. Its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Rounded(Buffer<u32>);

impl Rounded {
    /// `count` rows from the row `first` on, each of `depth` numbers in `deep` pairs.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        left: Rows<'_>,
        first: usize,
        count: usize,
        depth: usize,
        deep: usize,
    ) -> &[u32] {
        let pairs = self.0.take(count.next_multiple_of(FILLED) * deep);
        let (filled, rest) = pairs.split_at_mut(count * deep);
        rest.fill(0);
        for (row, places) in filled.chunks_exact_mut(deep.max(1)).enumerate() {
            let numbers = &left.numbers[(first + row) * left.stride..][..depth];
            let (whole, last) = numbers.as_chunks::<2>();
            let (places, rest) = places.split_at_mut(whole.len());
            for (place, [first, second]) in places.iter_mut().zip(whole) {
                *place = pair(*first, *second);
            }
            rest.fill(0);
            if let ([place, ..], [_]) = (rest, last) {
                *place = pair_of(last);
            }
        }
        pairs
    }
}

/// Of two numbers, or of one at the end of an odd depth.
#[inline(always)]
fn pair_of(numbers: &[f32]) -> u32 {
    match numbers {
        [first, second, ..] => pair(*first, *second),
        [first] => pair(*first, 0.0),
        [] => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_up(count: u16) -> Vec<f32> {
        // Small whole numbers, which rounding leaves as they are.
        (0..count).map(|at| f32::from(at % 200 + 1)).collect()
    }

    #[test]
    fn pairs_lie_where_vectors_and_tiles_look_for_them_and_the_rest_is_zero() {
        let (columns, depth) = (35, 5);
        let numbers = count_up(35 * 5);
        let panels = Panels::of_columns(Rows::new(&numbers, depth), columns, depth);
        let found: Vec<_> = panels.part(0..columns).panels().collect();
        assert_eq!((found.len(), panels.pairs_deep()), (2, 16));
        let number = |column: usize, at: usize| {
            if column < columns && at < depth { numbers[column * depth + at] } else { 0.0 }
        };
        for column in 0..2 * WIDTH {
            for (at, pairs) in found[column / WIDTH].iter().enumerate() {
                let expected = pair(number(column, 2 * at), number(column, 2 * at + 1));
                assert_eq!(pairs[column % WIDTH], expected, "{column} {at}");
            }
        }
    }

    #[test]
    fn a_part_of_the_columns_is_made_of_their_panels() {
        let numbers = count_up(100 * 5);
        let panels = Panels::of_columns(Rows::new(&numbers, 5), 100, 5);
        let all: Vec<_> = panels.part(0..100).panels().collect();
        for (columns, expected) in [(0..32, 0..1), (32..96, 1..3), (64..100, 2..4), (96..100, 3..4)]
        {
            let part = panels.part(columns.clone());
            assert_eq!(part.count(), columns.len());
            assert_eq!(part.panels().collect::<Vec<_>>(), all[expected], "{columns:?}");
        }
    }

    #[test]
    fn rows_are_rounded_and_filled_whatever_was_in_their_memory() {
        let mut rounded = Rounded::default();
        rounded.0.take(4096).fill(u32::MAX);
        let numbers = count_up(70);
        // Rows of five numbers at a distance of seven, from the second on.
        let found = rounded.fill(Rows::new(&numbers, 7), 1, 3, 5, 16).to_vec();
        assert_eq!(found.len(), FILLED * 16);
        for (row, pairs) in found.chunks_exact(16).enumerate() {
            let mut expected = [0; 16];
            if row < 3 {
                let row = &numbers[(row + 1) * 7..][..5];
                expected[..3].copy_from_slice(&[
                    pair(row[0], row[1]),
                    pair(row[2], row[3]),
                    pair(row[4], 0.0),
                ]);
            }
            assert_eq!(pairs, expected, "row {row}");
        }
    }
}
