//! Tiles of the machine: AMX, of Sapphire Rapids and later.
//!
//! The compiler has no tiles on stable Rust, so each instruction is assembly. That they keep what is in
//! them between two of those relies on nothing else using tiles meanwhile: the compiler gives a tile
//! register only to values of types that nothing here has, no function that is called here computes
//! with tiles, and the kernel saves and restores them when it switches threads.

#![expect(unsafe_code, reason = "instructions that only some machines have, and no compiler")]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use pulp::x86::V4;

use super::avx512::{Avx512Bf16, Work};
use super::panels::STEP;
use super::product::{self, Product};
use super::rounding::Round;
use super::tiles::{ByTiles, SIDE, Tiles, extent};

/// The proof that the machine has tiles and that this process may use them, and the instructions that go
/// with them: every processor that has the one has the others, and where somebody hides these from a virtual
/// machine, its tiles are not used.
#[derive(Clone, Copy)]
pub(crate) struct Amx(Avx512Bf16);

/// Of `CPUID` leaf 7, in EDX.
const AMX_BF16: u32 = 1 << 22;
const AMX_TILE: u32 = 1 << 24;

impl Amx {
    /// Asks the kernel for the tiles' part of a thread's state, which it gives a process once and for
    /// all of its threads, or refuses
    /// (<https://docs.kernel.org/arch/x86/xstate.html>).
    pub(crate) fn try_new(vectors: V4) -> Option<Self> {
        let features = __cpuid_count(7, 0).edx;
        let found = features & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE;
        let beside = Avx512Bf16::try_new(vectors)?;
        (found && permitted()).then_some(Self(beside))
    }

    /// For everything but products.
    pub(super) fn beside(self) -> Avx512Bf16 {
        self.0
    }

    pub(crate) fn multiply(self, product: Product<'_>) {
        self.0.vectorize(ByHardware { tiles: self, product });
    }
}

/// Whether the kernel gives this process the state of tiles.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: this system call takes two numbers, reads and writes no memory of the process, and
    // destroys the two registers that every system call does.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

struct ByHardware<'a> {
    tiles: Amx,
    product: Product<'a>,
}

impl Work for ByHardware<'_> {
    #[inline(always)]
    fn run(self, vectors: V4, _: Avx512Bf16) {
        product::multiply(vectors, &mut ByTiles(self.tiles), self.product);
    }
}

impl Round for Amx {
    #[inline(always)]
    fn round(&self, numbers: &[f32; STEP], pairs: &mut [u32; STEP / 2]) {
        self.0.round(numbers, pairs);
    }
}

/// What `LDTILECFG` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Of each tile, and eight that there are not.
    bytes_of_a_row: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes, of the only palette that there is.
static WHOLE: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_of_a_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Tiles for Amx {
    #[inline(always)]
    fn configure(&mut self) {
        // SAFETY: the machine has tiles and the process may use them, of which `self` is proof, here
        // and below. The configuration is one that the manual allows, and it is read only.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const WHOLE,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    #[inline(always)]
    fn release(&mut self) {
        // SAFETY: nothing but the tiles changes; without a configuration there are none.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }

    #[inline(always)]
    fn zero<const TILE: u8>(&mut self) {
        // SAFETY: the tile is one of eight that are configured, and nothing else changes.
        unsafe {
            asm!("tilezero tmm{}", const TILE, options(nostack, preserves_flags, nomem));
        }
    }

    #[inline(always)]
    fn load<const TILE: u8>(&mut self, rows: &[u32], stride: usize) {
        let rows = &rows[..extent(stride)];
        // SAFETY: 16 rows of 64 bytes are read, from the first to the last number of the slice, which
        // was cut to just that. Nothing but the tile is written.
        unsafe {
            asm!(
                "tileloadd tmm{}, [{} + {} * 1]",
                const TILE,
                in(reg) rows.as_ptr(),
                in(reg) stride * size_of::<u32>(),
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    #[inline(always)]
    fn dot<const SUMS: u8, const LEFT: u8, const RIGHT: u8>(&mut self) {
        const { assert!(SUMS != LEFT && SUMS != RIGHT && LEFT != RIGHT, "three tiles, or a fault") }
        // SAFETY: the tiles are three of eight that are configured, of one size in which all fit each
        // other, and nothing else changes.
        unsafe {
            asm!(
                "tdpbf16ps tmm{}, tmm{}, tmm{}",
                const SUMS,
                const LEFT,
                const RIGHT,
                options(nostack, preserves_flags, nomem),
            );
        }
    }

    #[inline(always)]
    fn store<const TILE: u8>(&mut self, rows: &mut [f32], stride: usize) {
        let rows = &mut rows[..extent(stride)];
        // SAFETY: 16 rows of 64 bytes are written, from the first to the last number of the slice,
        // which was cut to just that and which nobody else has. Any bits are a float.
        unsafe {
            asm!(
                "tilestored [{} + {} * 1], tmm{}",
                in(reg) rows.as_mut_ptr(),
                in(reg) stride * size_of::<f32>(),
                const TILE,
                options(nostack, preserves_flags),
            );
        }
    }
}

const _: () = assert!(size_of::<Configuration>() == 64 && SIDE == 16);
