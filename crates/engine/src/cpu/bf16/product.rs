//! Blocking: which sums are computed one after the other, and what becomes of them.

use pulp::Simd;

use super::panels::{Columns, Rounded, WIDTH};
use crate::config::Activation;
use crate::cpu::activation::{Activated, Gelu, GeluTanh, Relu, Same};
use crate::cpu::panels::{Finish, Rows};

/// Rows of the largest block of any instruction.
pub(super) const MOST: usize = 32;
/// Bytes of left-hand rows that are used with one panel before the next: they stay in the second-level
/// cache.
const CACHED: usize = 192 << 10;

/// `out = left × right`, finished. `out` has a row of `out_stride` for each of the left-hand rows; of
/// each as many numbers are written as there are columns. A number is summed in the order of the
/// depth, whatever is computed beside it.
pub(crate) struct Product<'a> {
    pub(crate) left: Rows<'a>,
    pub(crate) rows: usize,
    pub(crate) right: Columns<'a>,
    pub(crate) finish: Finish<'a>,
    /// Where left-hand rows are rounded to.
    pub(crate) rounded: &'a mut Rounded,
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
    let Product { left, rows, right, finish, rounded, out, out_stride } = product;
    let deep = right.pairs_deep();
    let most = (CACHED / size_of::<u32>() / deep.max(1)).next_multiple_of(MOST);
    let mut sums = Sums([[0.0; WIDTH]; MOST]);
    let blocks = Begun::new(blocks);
    let blocks = &mut *blocks.0;
    for begin in (0..rows).step_by(most) {
        let count = most.min(rows - begin);
        let left = rounded.fill(left, begin, count, right.depth(), deep);
        for (index, panel) in right.panels().enumerate() {
            let column = index * WIDTH;
            let columns = WIDTH.min(right.count() - column);
            let mut first = 0;
            while first < count {
                let taken = blocks.next(count - first);
                blocks.sum(&left[first * deep..], deep, panel, taken, &mut sums);
                for (row, sums) in sums.0.iter_mut().take(taken).enumerate() {
                    let place = &mut out[(begin + first + row) * out_stride + column..];
                    write(simd, sums, finish, column, &mut place[..columns]);
                }
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

/// Finishes a row of sums, of the columns from `column` on, and writes as many as have a place.
#[inline(always)]
fn write<S: Simd>(
    simd: S,
    sums: &mut [f32; WIDTH],
    finish: Finish<'_>,
    column: usize,
    place: &mut [f32],
) {
    match finish {
        Finish::Plain => {}
        Finish::Bias(bias) => finish_row::<S, Same>(simd, sums, &bias[column..]),
        Finish::Activated(bias, Activation::Relu) => {
            finish_row::<S, Relu>(simd, sums, &bias[column..]);
        }
        Finish::Activated(bias, Activation::Gelu) => {
            finish_row::<S, Gelu>(simd, sums, &bias[column..]);
        }
        Finish::Activated(bias, Activation::GeluTanh) => {
            finish_row::<S, GeluTanh>(simd, sums, &bias[column..]);
        }
    }
    place.copy_from_slice(&sums[..place.len()]);
}

#[inline(always)]
fn finish_row<S: Simd, A: Activated>(simd: S, sums: &mut [f32; WIDTH], bias: &[f32]) {
    let (sums, _) = S::as_mut_simd_f32s(sums);
    let (bias, _) = S::as_simd_f32s(bias);
    for (sum, added) in sums.iter_mut().zip(bias) {
        *sum = A::of(simd, simd.add_f32s(*sum, *added));
    }
}

#[cfg(test)]
#[path = "product_tests.rs"]
mod tests;
