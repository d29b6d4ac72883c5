//! `VDPBF16PS` of the machine: AVX-512-BF16, of Cooper Lake, Sapphire Rapids, Zen 4 and later.

#![expect(unsafe_code, reason = "instructions that only some machines have")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use pulp::x86::V4;

use super::lanes::{ByLanes, LANES, Lanes};
use super::product::{self, Product};

/// The proof that the machine has the instruction, and the vectors that go with it.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16(V4);

impl Avx512Bf16 {
    pub(crate) fn try_new(vectors: V4) -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512bf16").then_some(Self(vectors))
    }

    pub(crate) fn multiply(self, product: Product<'_>) {
        // SAFETY: `V4` is proof of all of its instructions, which are those that are named here but the
        // last, and `Avx512Bf16` is only made where that was found.
        unsafe { multiply(self, product) }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
fn multiply(instructions: Avx512Bf16, product: Product<'_>) {
    product::multiply(instructions.0, &mut ByLanes(instructions), product);
}

/// What is not inlined into [`multiply`] would still be right, but slow.
impl Lanes for Avx512Bf16 {
    type Sums = __m512;
    type Pairs = __m512bh;

    /// With two vectors of sums a row, 24 of 32 registers.
    const ROWS: usize = 12;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: the machine has AVX-512, of which `V4` is proof.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn load(self, pairs: &[u32; LANES]) -> __m512bh {
        // SAFETY: both are 64 bytes, and any bits are a value of both.
        unsafe { std::mem::transmute::<[u32; LANES], __m512bh>(*pairs) }
    }

    #[inline(always)]
    fn splat(self, pair: u32) -> __m512bh {
        // SAFETY: the machine has AVX-512, of which `V4` is proof.
        let pairs = unsafe { _mm512_set1_epi32(pair.cast_signed()) };
        // SAFETY: both are 64 bytes, and any bits are a value of both.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(pairs) }
    }

    #[inline(always)]
    fn dot(self, sums: __m512, left: __m512bh, right: __m512bh) -> __m512 {
        // SAFETY: the machine has AVX-512-BF16, of which `self` is proof.
        unsafe { _mm512_dpbf16_ps(sums, left, right) }
    }

    #[inline(always)]
    fn store(self, sums: __m512, place: &mut [f32; LANES]) {
        // SAFETY: the machine has AVX-512, of which `V4` is proof. 16 floats are written, to a place
        // of 16 that nobody else has; it may have any address.
        unsafe { _mm512_storeu_ps(place.as_mut_ptr(), sums) }
    }
}
