//! Blocking: which sums are computed one after the other, and what becomes of them.

use pulp::Simd;

use super::panels::{Columns, WIDTH};
use super::rounding::{Round, Rounded};
use crate::config::Activation;
use crate::cpu::activation::{Activated, Gelu, GeluTanh, Relu, Same};
use crate::cpu::panels::Finish;

/// Rows of the largest block of any instruction.
pub(super) const MOST: usize = 32;
/// Bytes of left-hand rows that are used with one panel before the next: they stay in the second-level
/// cache.
const CACHED: usize = 192 << 10;

/// `out = left × right`, finished. A number is summed in the order of the depth, whatever is computed
/// beside it.
pub(crate) struct Product<'a> {
    /// As deep as the columns are.
    pub(crate) left: &'a Rounded,
    pub(crate) right: Columns<'a>,
    pub(crate) finish: Finish<'a>,
    pub(crate) out: Out<'a>,
}

/// Where a product is written.
pub(crate) enum Out<'a> {
    /// To rows of `stride` numbers, one for each of the left-hand rows; of each as many are written as
    /// there are columns.
    Floats { numbers: &'a mut [f32], stride: usize },
    /// To be the left-hand side of another one.
    Left(&'a mut Rounded),
}

/// The sums of a block, a row for each of its rows.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; WIDTH]; MOST]);

/// An instruction's way to sum a block: a few left-hand rows with one panel.
pub(super) trait Blocks: Round {
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
    let Product { left, right, finish, out } = product;
    debug_assert_eq!(left.depth(), right.depth());
    let (left, rows) = (left.pairs(), left.count());
    let mut out = match out {
        Out::Floats { numbers, stride } => Place::Floats(numbers, stride),
        Out::Left(rounded) => {
            let (pairs, stride) = rounded.reshape(rows, right.count());
            Place::Pairs(pairs, stride)
        }
    };
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
                let sums = &mut sums.0[..taken];
                finish_sums(simd, sums, finish, column);
                out.write(&*blocks, sums, begin + first, column, columns);
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

/// Numbers or pairs, and how many of them there are from one row to the next.
enum Place<'a> {
    Floats(&'a mut [f32], usize),
    Pairs(&'a mut [u32], usize),
}

impl Place<'_> {
    /// Writes finished sums, of the rows from `first` on, each of so many columns from `column` on.
    #[inline(always)]
    fn write(
        &mut self,
        how: &impl Round,
        sums: &mut [[f32; WIDTH]],
        first: usize,
        column: usize,
        columns: usize,
    ) {
        match self {
            Self::Floats(numbers, stride) => {
                let places = numbers[first * *stride + column..].chunks_mut(*stride);
                for (sums, place) in sums.iter().zip(places) {
                    // A whole row of a panel is two vectors; the length of a part of one is known only
                    // now.
                    match place.first_chunk_mut::<WIDTH>() {
                        Some(whole) if columns == WIDTH => *whole = *sums,
                        _ => place[..columns].copy_from_slice(&sums[..columns]),
                    }
                }
            }
            Self::Pairs(pairs, stride) => {
                let places = pairs[first * *stride + column / 2..].chunks_mut(*stride);
                for (sums, place) in sums.iter_mut().zip(places) {
                    // What fills the panel is zero for whatever multiplies it, also beside what is not
                    // finite.
                    sums[columns..].fill(0.0);
                    if let Some(place) = place.first_chunk_mut() {
                        how.round(sums, place);
                    }
                }
            }
        }
    }
}

/// Finishes rows of sums, of the columns from `column` on.
#[inline(always)]
fn finish_sums<S: Simd>(simd: S, sums: &mut [[f32; WIDTH]], finish: Finish<'_>, column: usize) {
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
