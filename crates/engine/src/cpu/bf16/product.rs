//! Blocking: which sums are computed one after the other, and what becomes of them.

use pulp::Simd;

use super::panels::{Columns, WIDTH};
use super::rounding::Rounded;
use crate::config::Activation;
use crate::cpu::activation::{Activated, Gelu, GeluTanh, Relu, Same};
use crate::cpu::panels::Finish;

/// Rows of the largest block of any instruction.
pub(super) const MOST: usize = 32;
/// Bytes of left-hand rows that are used with one panel before the next: they stay in the second-level
/// cache.
const CACHED: usize = 192 << 10;

/// `out = left × right`, finished. `out` has a row of `out_stride` for each of the left-hand rows; of
/// each as many numbers are written as there are columns. A number is summed in the order of the
/// depth, whatever is computed beside it.
pub(crate) struct Product<'a> {
    /// As deep as the columns are.
    pub(crate) left: &'a Rounded,
    pub(crate) right: Columns<'a>,
    pub(crate) finish: Finish<'a>,
    pub(crate) out: &'a mut [f32],
    pub(crate) out_stride: usize,
}

/// The sums of a block, a row for each of its rows.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; WIDTH]; MOST]);

/// An instruction's way to sum a block: a few left-hand rows with one panel.
pub(super) trait Blocks {
    /// Before the first block of a product.
    fn begin(&mut self) {}

    /// After the last one.
    fn end(&mut self) {}

    /// Rows of the next block, of so many that are left: at most [`MOST`].
    fn next(&self, left: usize) -> usize;

    /// The sums of `rows` rows of `deep` pairs. Behind them, `left` has rows up to a multiple of
    /// 32; sums of those may be anything.
    fn sum(
        &mut self,
        left: &[u32],
        deep: usize,
        panel: &[[u32; WIDTH]],
        rows: usize,
        sums: &mut Sums,
    );
}

#[inline(always)]
pub(super) fn multiply<S: Simd, B: Blocks>(simd: S, blocks: &mut B, product: Product<'_>) {
    let Product { left, right, finish, out, out_stride } = product;
    debug_assert_eq!(left.depth(), right.depth());
    let (left, rows) = (left.pairs(), left.count());
    let deep = right.pairs_deep();
    let most = (CACHED / size_of::<u32>() / deep.max(1)).next_multiple_of(MOST);
    let mut sums = Sums([[0.0; WIDTH]; MOST]);
    let blocks = Begun::new(blocks);
    let blocks = &mut *blocks.0;
    for begin in (0..rows).step_by(most) {
        let count = most.min(rows - begin);
        let left = &left[begin * deep..];
        for (index, panel) in right.panels().enumerate() {
            let column = index * WIDTH;
            let columns = WIDTH.min(right.count() - column);
            let mut first = 0;
            while first < count {
                let taken = blocks.next(count - first);
                blocks.sum(&left[first * deep..], deep, panel, taken, &mut sums);
                let place = &mut out[(begin + first) * out_stride + column..];
                write(simd, &mut sums.0[..taken], finish, column, place, (out_stride, columns));
                first += taken;
            }
        }
    }
}

/// Blocks that come to their end, however the product ends: a thread on which a product panicked
/// computes others.
struct Begun<'a, B: Blocks>(&'a mut B);

impl<'a, B: Blocks> Begun<'a, B> {
    #[inline(always)]
    fn new(blocks: &'a mut B) -> Self {
        blocks.begin();
        Self(blocks)
    }
}

impl<B: Blocks> Drop for Begun<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Finishes rows of sums, of the columns from `column` on, and writes of each as many as there are
/// columns.
#[inline(always)]
fn write<S: Simd>(
    simd: S,
    sums: &mut [[f32; WIDTH]],
    finish: Finish<'_>,
    column: usize,
    place: &mut [f32],
    (stride, columns): (usize, usize),
) {
    match finish {
        Finish::Plain => {}
        Finish::Bias(bias) => finish_rows::<S, Same>(simd, sums, &bias[column..]),
        Finish::Activated(bias, Activation::Relu) => {
            finish_rows::<S, Relu>(simd, sums, &bias[column..]);
        }
        Finish::Activated(bias, Activation::Gelu) => {
            finish_rows::<S, Gelu>(simd, sums, &bias[column..]);
        }
        Finish::Activated(bias, Activation::GeluTanh) => {
            finish_rows::<S, GeluTanh>(simd, sums, &bias[column..]);
        }
    }
    for (sums, place) in sums.iter().zip(place.chunks_mut(stride)) {
        // A whole row of a panel is two vectors; the length of a part of one is known only now.
        match place.first_chunk_mut::<WIDTH>() {
            Some(whole) if columns == WIDTH => *whole = *sums,
            _ => place[..columns].copy_from_slice(&sums[..columns]),
        }
    }
}

#[inline(always)]
fn finish_rows<S: Simd, A: Activated>(simd: S, sums: &mut [[f32; WIDTH]], bias: &[f32]) {
    let (bias, _) = S::as_simd_f32s(bias);
    for sums in sums {
        let (sums, _) = S::as_mut_simd_f32s(sums);
        for (sum, added) in sums.iter_mut().zip(bias) {
            *sum = A::of(simd, simd.add_f32s(*sum, *added));
        }
    }
}

#[cfg(test)]
#[path = "product_tests.rs"]
mod tests;
