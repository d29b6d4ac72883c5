//! Tiles in software, by the pseudocode of the manual. Only tests compute with them: they are slow,
//! and what they compute the vectors do, too.

use pulp::{Simd, WithSimd};

use super::{ByTiles, SIDE, Tiles, extent};
use crate::cpu::bf16::product::{self, Product};
use crate::cpu::bf16::rounding::Round;

type Tile = [[u32; SIDE]; SIDE];

/// Configured or not.
#[derive(Default)]
pub(super) struct Emulated(Option<[Tile; 8]>);

/// A product by emulated tiles.
pub(in crate::cpu::bf16) struct InSoftware<'a>(pub(in crate::cpu::bf16) Product<'a>);

impl WithSimd for InSoftware<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut blocks = ByTiles(Emulated::default());
        product::multiply(simd, &mut blocks, self.0);
        assert!(blocks.0.0.is_none(), "tiles are given back");
    }
}

impl Emulated {
    /// An instruction without a configuration is a fault.
    #[inline(always)]
    fn tile(&mut self, tile: u8) -> &mut Tile {
        &mut self.0.as_mut().expect("the tiles are configured")[usize::from(tile)]
    }
}

impl Round for Emulated {}

impl Tiles for Emulated {
    fn configure(&mut self) {
        assert!(self.0.is_none(), "tiles are configured once");
        self.0 = Some([[[u32::MAX; SIDE]; SIDE]; 8]);
    }

    fn release(&mut self) {
        self.0 = None;
    }

    #[inline(always)]
    fn zero<const TILE: u8>(&mut self) {
        *self.tile(TILE) = [[0; SIDE]; SIDE];
    }

    #[inline(always)]
    fn load<const TILE: u8>(&mut self, rows: &[u32], stride: usize) {
        for (place, row) in self.tile(TILE).iter_mut().zip(rows[..extent(stride)].chunks(stride)) {
            place.copy_from_slice(&row[..SIDE]);
        }
    }

    #[inline(always)]
    fn dot<const SUMS: u8, const LEFT: u8, const RIGHT: u8>(&mut self) {
        let (left, right) = (*self.tile(LEFT), *self.tile(RIGHT));
        for (sums, left) in self.tile(SUMS).iter_mut().zip(left) {
            // First and second halves of the pairs are summed apart.
            let mut halves = [[0.0_f32; SIDE]; 2];
            for (left, right) in left.into_iter().zip(&right) {
                for (shift, halves) in [16, 0].into_iter().zip(&mut halves) {
                    let left = normal(f32::from_bits(left << shift & 0xffff_0000));
                    for (sum, right) in halves.iter_mut().zip(right) {
                        let right = normal(f32::from_bits(right << shift & 0xffff_0000));
                        *sum = normal(left.mul_add(right, *sum));
                    }
                }
            }
            for ((sum, first), second) in sums.iter_mut().zip(halves[0]).zip(halves[1]) {
                let both = normal(first + second);
                *sum = normal(normal(f32::from_bits(*sum)) + both).to_bits();
            }
        }
    }

    #[inline(always)]
    fn store<const TILE: u8>(&mut self, rows: &mut [f32], stride: usize) {
        let places = rows[..extent(stride)].chunks_mut(stride);
        for (place, row) in places.zip(&*self.tile(TILE)) {
            place[..SIDE].copy_from_slice(&row.map(f32::from_bits));
        }
    }
}

/// Zero, with its sign, where a number has less than its full precision.
#[inline(always)]
fn normal(number: f32) -> f32 {
    if number.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(number) } else { number }
}
