//! The sums of a block by tiles: two tiles of rows by two tiles of columns, so that each tile that is
//! loaded is used twice.

use super::panels::{STEP, WIDTH};
use super::product::{Blocks, MOST, Sums};
use super::rounding::Round;

/// Rows of a tile, and 32-bit numbers of a row.
pub(super) const SIDE: usize = 16;

/// Eight tiles of 16 rows of 16 32-bit numbers or as many pairs, and what is done with them.
pub(super) trait Tiles {
    /// `LDTILECFG`: all tiles have their full size.
    fn configure(&mut self);
    /// `TILERELEASE`.
    fn release(&mut self);
    /// `TILEZERO`.
    fn zero<const TILE: u8>(&mut self);
    /// `TILELOADD`: rows of 16 pairs, of which each begins `stride` pairs after the one before.
    fn load<const TILE: u8>(&mut self, rows: &[u32], stride: usize);
    /// `TDPBF16PS`: to the sums of a row and a column are added the products of the row's pairs of
    /// the one tile with the column's pairs of the other.
    fn dot<const SUMS: u8, const LEFT: u8, const RIGHT: u8>(&mut self);
    /// `TILESTORED`: rows of 16 sums, of which each begins `stride` numbers after the one before.
    fn store<const TILE: u8>(&mut self, rows: &mut [f32], stride: usize);
}

/// Numbers of a tile whose rows are so far apart, and between them.
pub(super) const fn extent(stride: usize) -> usize {
    (SIDE - 1) * stride + SIDE
}

pub(super) struct ByTiles<T>(pub(super) T);

impl<T: Round> Round for ByTiles<T> {
    #[inline(always)]
    fn round(&self, numbers: &[f32; STEP], pairs: &mut [u32; STEP / 2]) {
        self.0.round(numbers, pairs);
    }
}

impl<T: Tiles + Round> Blocks for ByTiles<T> {
    fn begin(&mut self) {
        self.0.configure();
    }

    fn end(&mut self) {
        self.0.release();
    }

    #[inline(always)]
    fn next(&self, left: usize) -> usize {
        left.min(MOST)
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
        let tiles = &mut self.0;
        let both = rows > SIDE;
        tiles.zero::<0>();
        tiles.zero::<1>();
        tiles.zero::<2>();
        tiles.zero::<3>();
        for (step, right) in panel.chunks_exact(SIDE).enumerate() {
            let left = &left[step * SIDE..];
            let right = right.as_flattened();
            tiles.load::<4>(left, deep);
            tiles.load::<6>(right, WIDTH);
            tiles.dot::<0, 4, 6>();
            tiles.load::<7>(&right[SIDE..], WIDTH);
            tiles.dot::<1, 4, 7>();
            if both {
                tiles.load::<5>(&left[SIDE * deep..], deep);
                tiles.dot::<2, 5, 6>();
                tiles.dot::<3, 5, 7>();
            }
        }
        let sums = sums.0.as_flattened_mut();
        tiles.store::<0>(sums, WIDTH);
        tiles.store::<1>(&mut sums[SIDE..], WIDTH);
        if both {
            let sums = &mut sums[SIDE * WIDTH..];
            tiles.store::<2>(sums, WIDTH);
            tiles.store::<3>(&mut sums[SIDE..], WIDTH);
        }
    }
}

#[cfg(test)]
#[path = "tiles_emulated.rs"]
mod emulated;
#[cfg(test)]
pub(super) use emulated::InSoftware;
