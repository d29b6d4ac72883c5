//! The sums of a block by vectors: of each row two, which stay in registers over the whole depth.

use super::panels::{STEP, WIDTH};
use super::product::{Blocks, Sums};
use super::rounding::Round;

/// Rows of a block at most, of any instruction.
const LARGEST: usize = 12;
/// Sums of a vector.
pub(super) const LANES: usize = 16;

/// `VDPBF16PS`, on vectors of 16 sums and as many pairs.
pub(super) trait Lanes: Copy + Round {
    type Sums: Copy;
    type Pairs: Copy;

    /// Rows of a block at most: as many as have their sums in registers.
    const ROWS: usize;

    fn zero(self) -> Self::Sums;
    fn load(self, pairs: &[u32; LANES]) -> Self::Pairs;
    /// The same pair 16 times.
    fn splat(self, pair: u32) -> Self::Pairs;
    /// To each sum, the product of the second halves of its two pairs, and then that of the first.
    fn dot(self, sums: Self::Sums, left: Self::Pairs, right: Self::Pairs) -> Self::Sums;
    fn store(self, sums: Self::Sums, place: &mut [f32; LANES]);
}

pub(super) struct ByLanes<L>(pub(super) L);

impl<L: Lanes> Round for ByLanes<L> {
    #[inline(always)]
    fn round(&self, numbers: &[f32; STEP], pairs: &mut [u32; LANES]) {
        self.0.round(numbers, pairs);
    }
}

impl<L: Lanes> Blocks for ByLanes<L> {
    /// All blocks have as many or one less, because few sums at a time wait for each other.
    #[inline(always)]
    fn next(&self, left: usize) -> usize {
        const { assert!(L::ROWS <= LARGEST, "there is code for each number of rows") }
        left.div_ceil(left.div_ceil(L::ROWS))
    }

    #[inline(always)]
    fn sum(
        &mut self,
        left: &[u32],
        deep: usize,
        panel: &[[u32; WIDTH]],
        rows: usize,
        sums: &mut Sums,
    ) {
        match rows.min(L::ROWS) {
            1 => sum::<L, 1>(self.0, left, deep, panel, sums),
            2 => sum::<L, 2>(self.0, left, deep, panel, sums),
            3 => sum::<L, 3>(self.0, left, deep, panel, sums),
            4 => sum::<L, 4>(self.0, left, deep, panel, sums),
            5 => sum::<L, 5>(self.0, left, deep, panel, sums),
            6 => sum::<L, 6>(self.0, left, deep, panel, sums),
            7 => sum::<L, 7>(self.0, left, deep, panel, sums),
            8 => sum::<L, 8>(self.0, left, deep, panel, sums),
            9 => sum::<L, 9>(self.0, left, deep, panel, sums),
            10 => sum::<L, 10>(self.0, left, deep, panel, sums),
            11 => sum::<L, 11>(self.0, left, deep, panel, sums),
            _ => sum::<L, LARGEST>(self.0, left, deep, panel, sums),
        }
    }
}

#[inline(always)]
fn sum<L: Lanes, const R: usize>(
    lanes: L,
    left: &[u32],
    deep: usize,
    panel: &[[u32; WIDTH]],
    out: &mut Sums,
) {
    // Rows that are known to be as long as the panel is deep are read without asking again.
    let mut rows: [&[u32]; R] = [&[]; R];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &left[index * deep..][..panel.len()];
    }
    let panel = panel.as_flattened().as_chunks::<LANES>().0.as_chunks::<2>().0;
    let mut sums = [[lanes.zero(); 2]; R];
    for (at, [first, second]) in panel.iter().enumerate() {
        let (first, second) = (lanes.load(first), lanes.load(second));
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let left = lanes.splat(row[at]);
            sums[0] = lanes.dot(sums[0], left, first);
            sums[1] = lanes.dot(sums[1], left, second);
        }
    }
    for (row, sums) in out.0.iter_mut().zip(sums) {
        let (places, _) = row.as_chunks_mut::<LANES>();
        for (place, sums) in places.iter_mut().zip(sums) {
            lanes.store(sums, place);
        }
    }
}
