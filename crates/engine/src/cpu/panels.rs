//! Products of matrices of 32-bit floats.
//!
//! The right-hand matrix is put into panels before: as many of its columns as fill two vector
//! registers, and of these one number after the other along the depth. The left-hand one stays as it
//! is. Each tile of the product is then a sum that stays in registers, over a panel that is read in
//! order and a few rows beside each other.
//!
//! A number of the product is summed in the order of the depth, whatever else is computed beside
//! it. So a row's result does not depend on how many rows there are.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::activation::{Activated, Gelu, GeluTanh, Relu, Same};
use super::buffer::Buffer;
use super::kernel::Kernel;
use crate::config::Activation;

/// Rows of a tile at most: with two vectors a row, as many sums as fit into the registers beside what is
/// read. The more there are, the less often a panel is read.
const fn most_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}
/// Bytes of left-hand rows that are used with one panel before the next: they stay in the second-level
/// cache.
const BLOCK: usize = 192 << 10;
/// The widest panel of any instruction set: two vectors of sixteen floats.
const WIDEST: usize = 32;

/// A right-hand matrix.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    numbers: Buffer,
    columns: usize,
    depth: usize,
    /// Columns of a panel.
    width: usize,
}

/// Numbers of which one row begins `stride` after the one before.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) stride: usize,
}

impl Panels {
    /// What they take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.numbers.bytes()
    }
}

impl<'a> Rows<'a> {
    pub(crate) fn new(numbers: &'a [f32], stride: usize) -> Self {
        Self { numbers, stride }
    }

    /// Those from this row on.
    pub(crate) fn from(self, row: usize) -> Self {
        Self { numbers: &self.numbers[row * self.stride..], ..self }
    }

    #[inline(always)]
    fn row(self, index: usize, length: usize) -> &'a [f32] {
        &self.numbers[index * self.stride..][..length]
    }
}

/// What becomes of a sum.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Nothing.
    Plain,
    /// A number for each column is added.
    Bias(&'a [f32]),
    /// And what comes of that is activated.
    Activated(&'a [f32], Activation),
}

impl Panels {
    /// Columns of a panel of this kernel.
    pub(crate) fn width(kernel: Kernel) -> usize {
        struct Width;
        impl WithSimd for Width {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> usize {
                2 * S::F32_LANES
            }
        }
        kernel.dispatch(Width)
    }

    /// Of a matrix whose rows are the columns of this one, as the weights of a layer are.
    pub(crate) fn of_columns(columns: Rows<'_>, count: usize, depth: usize, width: usize) -> Self {
        let mut panels = Self::default();
        panels.fill_columns(columns, count, depth, width);
        panels
    }

    /// As [`Panels::of_columns`], in the memory of this one.
    pub(crate) fn fill_columns(
        &mut self,
        columns: Rows<'_>,
        count: usize,
        depth: usize,
        width: usize,
    ) {
        let numbers = self.reshape(count, depth, width);
        match width {
            16 => fill::<16>(columns, count, depth, numbers),
            32 => fill::<32>(columns, count, depth, numbers),
            _ => fill::<2>(columns, count, depth, numbers),
        }
    }

    /// Of a matrix with these rows, in the memory of this one.
    pub(crate) fn fill_rows(&mut self, rows: Rows<'_>, count: usize, depth: usize, width: usize) {
        let numbers = self.reshape(count, depth, width);
        for at in 0..depth {
            for (panel, part) in rows.row(at, count).chunks(width).enumerate() {
                let place = &mut numbers[(panel * depth + at) * width..][..width];
                let (place, rest) = place.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest.fill(0.0);
            }
        }
    }

    fn reshape(&mut self, columns: usize, depth: usize, width: usize) -> &mut [f32] {
        (self.columns, self.depth, self.width) = (columns, depth, width);
        self.numbers.take(columns.div_ceil(width) * depth * width)
    }

    /// Rows.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns with the ones that fill the last panel, which are zero.
    pub(crate) fn padded_columns(&self) -> usize {
        self.columns.next_multiple_of(self.width.max(1))
    }

    /// Columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The whole matrix.
    pub(crate) fn all(&self) -> Columns<'_> {
        self.part(0..self.columns)
    }

    /// These columns, of which the first begins a panel.
    pub(crate) fn part(&self, columns: Range<usize>) -> Columns<'_> {
        let Self { depth, width, .. } = *self;
        debug_assert!(columns.start.is_multiple_of(width.max(1)), "{columns:?} of {width}");
        let numbers = self.numbers.get(self.padded_columns() * depth);
        let end = columns.end.next_multiple_of(width.max(1)) * depth;
        let numbers = &numbers[columns.start * depth..end];
        Columns { numbers, count: columns.len(), depth, width }
    }
}

/// Columns of a right-hand matrix.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    /// Whole panels.
    numbers: &'a [f32],
    count: usize,
    depth: usize,
    width: usize,
}

/// Panels of `W` columns.
fn fill<const W: usize>(columns: Rows<'_>, count: usize, depth: usize, numbers: &mut [f32]) {
    let panels = numbers.as_chunks_mut::<W>().0.chunks_exact_mut(depth.max(1));
    for (panel, first) in panels.zip((0..count).step_by(W)) {
        for at in 0..W {
            if first + at < count {
                for (place, number) in panel.iter_mut().zip(columns.row(first + at, depth)) {
                    place[at] = *number;
                }
            } else {
                for place in panel.iter_mut() {
                    place[at] = 0.0;
                }
            }
        }
    }
}

/// `out = left × right`, finished. `out` has a row of `out_stride` for each of the left-hand rows; of
/// each as many numbers are written as there are columns, or with `padded` as there are in all panels.
pub(crate) struct Product<'a> {
    pub(crate) left: Rows<'a>,
    pub(crate) rows: usize,
    pub(crate) right: Columns<'a>,
    pub(crate) finish: Finish<'a>,
    pub(crate) out: &'a mut [f32],
    pub(crate) out_stride: usize,
    pub(crate) padded: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.finish {
            Finish::Plain => multiply::<S, Same>(simd, self, &[]),
            Finish::Bias(bias) => multiply::<S, Same>(simd, self, bias),
            Finish::Activated(bias, Activation::Relu) => multiply::<S, Relu>(simd, self, bias),
            Finish::Activated(bias, Activation::Gelu) => multiply::<S, Gelu>(simd, self, bias),
            Finish::Activated(bias, Activation::GeluTanh) => {
                multiply::<S, GeluTanh>(simd, self, bias);
            }
        }
    }
}

#[inline(always)]
fn multiply<S: Simd, A: Activated>(simd: S, product: Product<'_>, bias: &[f32]) {
    let Product { left, rows, right, out, out_stride, padded, .. } = product;
    let Columns { depth, width, .. } = right;
    let columns = if padded { right.count.next_multiple_of(width.max(1)) } else { right.count };
    let block = (BLOCK / size_of::<f32>() / depth.max(1)).next_multiple_of(most_rows::<S>());
    for begin in (0..rows).step_by(block) {
        let end = rows.min(begin + block);
        for (panel, right) in right.numbers.chunks_exact((depth * width).max(1)).enumerate() {
            let column = panel * width;
            let tile = Tile {
                right,
                bias: bias.get(column..).unwrap_or_default(),
                out_stride,
                column,
                columns: (columns - column).min(width),
            };
            let mut first = begin;
            while first < end {
                let count = even(end - first, most_rows::<S>());
                let out = &mut out[first * out_stride..];
                match count {
                    1 => tile.compute::<S, A, 1>(simd, left, first, out),
                    2 => tile.compute::<S, A, 2>(simd, left, first, out),
                    3 => tile.compute::<S, A, 3>(simd, left, first, out),
                    4 => tile.compute::<S, A, 4>(simd, left, first, out),
                    5 => tile.compute::<S, A, 5>(simd, left, first, out),
                    // Code for more rows is made only where there are registers for them.
                    _ if most_rows::<S>() == 6 => tile.compute::<S, A, 6>(simd, left, first, out),
                    6 => tile.compute::<S, A, 6>(simd, left, first, out),
                    7 => tile.compute::<S, A, 7>(simd, left, first, out),
                    8 => tile.compute::<S, A, 8>(simd, left, first, out),
                    9 => tile.compute::<S, A, 9>(simd, left, first, out),
                    10 => tile.compute::<S, A, 10>(simd, left, first, out),
                    11 => tile.compute::<S, A, 11>(simd, left, first, out),
                    _ => tile.compute::<S, A, 12>(simd, left, first, out),
                }
                first += count;
            }
        }
    }
}

/// Rows of the next tile, of so many that are left: all tiles have as many or one less, because few
/// sums at a time wait for each other.
fn even(rows: usize, most: usize) -> usize {
    rows.div_ceil(rows.div_ceil(most))
}

/// What tiles below each other have in common.
struct Tile<'a> {
    right: &'a [f32],
    bias: &'a [f32],
    out_stride: usize,
    column: usize,
    columns: usize,
}

impl Tile<'_> {
    #[inline(always)]
    fn compute<S: Simd, A: Activated, const R: usize>(
        &self,
        simd: S,
        left: Rows<'_>,
        first: usize,
        out: &mut [f32],
    ) {
        let sums = sum::<S, R>(simd, left, first, self.right);
        for (row, sums) in sums.into_iter().enumerate() {
            let place = &mut out[row * self.out_stride + self.column..][..self.columns];
            write::<S, A>(simd, sums, self.bias, place);
        }
    }
}

/// A tile of the product: of so many rows from the first on.
#[inline(always)]
fn sum<S: Simd, const R: usize>(
    simd: S,
    left: Rows<'_>,
    first: usize,
    right: &[f32],
) -> [[S::f32s; 2]; R] {
    let (right, _) = S::as_simd_f32s(right);
    let right = right.as_chunks::<2>().0;
    // Rows that are known to be as long as the panel is deep are read without asking again.
    let mut rows: [&[f32]; R] = [&[]; R];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = left.row(first + index, right.len());
    }
    let mut sums = [[simd.splat_f32s(0.0); 2]; R];
    for (at, right) in right.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let left = simd.splat_f32s(row[at]);
            sums[0] = simd.mul_add_e_f32s(left, right[0], sums[0]);
            sums[1] = simd.mul_add_e_f32s(left, right[1], sums[1]);
        }
    }
    sums
}

/// Adds, finishes and writes a row of a tile.
#[inline(always)]
fn write<S: Simd, A: Activated>(simd: S, mut sums: [S::f32s; 2], added: &[f32], place: &mut [f32]) {
    let (added, _) = S::as_simd_f32s(added);
    if let [first, second, ..] = added {
        sums = [simd.add_f32s(sums[0], *first), simd.add_f32s(sums[1], *second)];
    }
    let values = [A::of(simd, sums[0]), A::of(simd, sums[1])];
    let (places, rest) = S::as_mut_simd_f32s(place);
    if rest.is_empty() && places.len() == 2 {
        places[0] = values[0];
        places[1] = values[1];
        return;
    }
    let mut whole = [0.0; WIDEST];
    let (vectors, _) = S::as_mut_simd_f32s(&mut whole);
    vectors[..2].copy_from_slice(&values);
    let length = place.len();
    place.copy_from_slice(&whole[..length]);
}

/// The numbers of a bias, with zeros for the columns that fill the last panel.
pub(crate) fn padded(bias: &[f32], width: usize) -> Vec<f32> {
    let mut padded = bias.to_vec();
    padded.resize(bias.len().next_multiple_of(width), 0.0);
    padded
}

#[cfg(test)]
#[path = "panels_tests.rs"]
mod tests;
