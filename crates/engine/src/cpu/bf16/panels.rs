//! How both matrices of a product lie in memory.

use std::ops::Range;

use super::number::pair;
use super::rounding::{InSoftware, Round, pair_of};
use crate::cpu::buffer::Buffer;
use crate::cpu::panels::Rows;

/// Columns of a panel: two vectors of 16 sums, or two tiles beside each other.
pub(crate) const WIDTH: usize = 32;
/// Numbers of the depth that one tile takes.
pub(super) const STEP: usize = 32;

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
        let mut panels = Self::default();
        panels.fill_columns(&InSoftware, columns, count, depth);
        panels
    }

    /// As [`Panels::of_columns`], in the memory of this one.
    #[inline(always)]
    pub(super) fn fill_columns(
        &mut self,
        how: &impl Round,
        columns: Rows<'_>,
        count: usize,
        depth: usize,
    ) {
        let panels = self.reshape(count, depth);
        for (panel, first) in panels.zip((0..count).step_by(WIDTH)) {
            if count - first < WIDTH {
                panel.as_flattened_mut().fill(0);
            }
            for at in 0..WIDTH.min(count - first) {
                let numbers = &columns.numbers[(first + at) * columns.stride..][..depth];
                let (whole, last) = numbers.as_chunks::<STEP>();
                let (places, rest) =
                    panel.as_chunks_mut::<{ STEP / 2 }>().0.split_at_mut(whole.len());
                for (numbers, places) in whole.iter().zip(places) {
                    let mut pairs = [0; STEP / 2];
                    how.round(numbers, &mut pairs);
                    for (place, pair) in places.iter_mut().zip(pairs) {
                        place[at] = pair;
                    }
                }
                for (place, at_depth) in rest.as_flattened_mut().iter_mut().zip((0..).step_by(2)) {
                    place[at] = last.get(at_depth..).map_or(0, pair_of);
                }
            }
        }
    }

    /// Of a matrix with these rows, in the memory of this one.
    #[inline(always)]
    pub(super) fn fill_rows(&mut self, rows: Rows<'_>, count: usize, depth: usize) {
        let row =
            |at: usize| if at < depth { &rows.numbers[at * rows.stride..][..count] } else { &[] };
        let panels = self.reshape(count, depth);
        for (panel, first) in panels.zip((0..count).step_by(WIDTH)) {
            for (places, at) in panel.iter_mut().zip((0..).step_by(2)) {
                let [upper, lower] =
                    [row(at), row(at + 1)].map(|row| row.get(first..).unwrap_or_default());
                if let ([upper, ..], [lower, ..]) =
                    (upper.as_chunks::<WIDTH>().0, lower.as_chunks::<WIDTH>().0)
                {
                    for ((place, upper), lower) in places.iter_mut().zip(upper).zip(lower) {
                        *place = pair(*upper, *lower);
                    }
                } else {
                    for (column, place) in places.iter_mut().enumerate() {
                        let of = |row: &[f32]| row.get(column).copied().unwrap_or_default();
                        *place = pair(of(upper), of(lower));
                    }
                }
            }
        }
    }

    /// Its panels, which hold anything.
    fn reshape(
        &mut self,
        columns: usize,
        depth: usize,
    ) -> impl Iterator<Item = &mut [[u32; WIDTH]]> {
        (self.columns, self.depth) = (columns, depth);
        let deep = self.pairs_deep();
        let pairs = self.pairs.take(columns.div_ceil(WIDTH) * deep * WIDTH);
        pairs.as_chunks_mut::<WIDTH>().0.chunks_exact_mut(deep.max(1))
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
pub(super) fn pairs_deep(depth: usize) -> usize {
    depth.next_multiple_of(STEP) / 2
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
        let (columns, depth) = (35, 37);
        let numbers = count_up(35 * 37);
        let mut panels = Panels::default();
        panels.pairs.take(4096).fill(u32::MAX);
        panels.fill_columns(&InSoftware, Rows::new(&numbers, depth), columns, depth);
        let found: Vec<_> = panels.part(0..columns).panels().collect();
        assert_eq!((found.len(), panels.pairs_deep()), (2, 32));
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
    fn rows_of_a_matrix_become_pairs_of_neighbours_below_each_other() {
        for (columns, depth) in [(32, 1), (64, 5), (33, 40), (5, 32)] {
            let numbers = count_up(41 * 70);
            let mut panels = Panels::default();
            panels.pairs.take(4096).fill(u32::MAX);
            // Rows at a distance of 70.
            panels.fill_rows(Rows::new(&numbers, 70), columns, depth);
            assert_eq!((panels.columns(), panels.depth()), (columns, depth));
            let number = |column: usize, at: usize| {
                if column < columns && at < depth { numbers[at * 70 + column] } else { 0.0 }
            };
            let found: Vec<_> = panels.part(0..columns).panels().collect();
            assert_eq!(found.len(), columns.div_ceil(WIDTH));
            for column in 0..found.len() * WIDTH {
                for (at, pairs) in found[column / WIDTH].iter().enumerate() {
                    let expected = pair(number(column, 2 * at), number(column, 2 * at + 1));
                    assert_eq!(pairs[column % WIDTH], expected, "{columns}: {column} {at}");
                }
            }
        }
    }
}
