//! `VDPBF16PS` and `VCVTNE2PS2BF16` of the machine: AVX-512-BF16, of Cooper Lake, Sapphire Rapids, Zen 4 and later.

#![expect(unsafe_code, reason = "instructions that only some machines have")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_set1_epi32,
    _mm512_setzero_ps,
};

use pulp::x86::V4;

use super::lanes::{ByLanes, LANES, Lanes};
use super::panels::STEP;
use super::product::{self, Product};
use super::rounding::{Round, Rounding};
use super::softmax::Softmax;

/// The proof that the machine has the instruction, and the vectors that go with it.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16(V4);

impl Avx512Bf16 {
    pub(crate) fn try_new(vectors: V4) -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512bf16").then_some(Self(vectors))
    }

    /// Does the work, compiled with these instructions.
    pub(super) fn vectorize(self, work: impl Work) {
        // SAFETY: `V4` is proof of all of its instructions, which are those that are named here but the
        // last, and `Avx512Bf16` is only made where that was found.
        unsafe { vectorize(self, work) }
    }
}

/// What is inlined into a function that is compiled with the instructions.
pub(super) trait Work {
    fn run(self, vectors: V4, instructions: Avx512Bf16);
}

#[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
fn vectorize(instructions: Avx512Bf16, work: impl Work) {
    work.run(instructions.0, instructions);
}

impl Work for Product<'_> {
    #[inline(always)]
    fn run(self, vectors: V4, instructions: Avx512Bf16) {
        product::multiply(vectors, &mut ByLanes(instructions), self);
    }
}

impl Work for Rounding<'_> {
    #[inline(always)]
    fn run(self, _: V4, instructions: Avx512Bf16) {
        self.run(&instructions);
    }
}

impl Work for Softmax<'_> {
    #[inline(always)]
    fn run(self, vectors: V4, instructions: Avx512Bf16) {
        self.compute(vectors, &instructions);
    }
}

/// What is not inlined into [`vectorize`] would still be right, but slow.
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
        // SAFETY: both are 64 bytes, and any bits are a value of both.
        *place = unsafe { std::mem::transmute::<__m512, [f32; LANES]>(sums) };
    }
}

impl Round for Avx512Bf16 {
    #[inline(always)]
    fn round(&self, numbers: &[f32; STEP], pairs: &mut [u32; LANES]) {
        // SAFETY: both are 128 bytes, and any bits are a value of both.
        let [first, second] = unsafe { std::mem::transmute::<[f32; STEP], [__m512; 2]>(*numbers) };
        // SAFETY: the machine has AVX-512-BF16, of which `self` is proof.
        let rounded = unsafe { _mm512_cvtne2ps_pbh(second, first) };
        // SAFETY: both are 64 bytes, and any bits are a value of both.
        *pairs = unsafe { std::mem::transmute::<__m512bh, [u32; LANES]>(rounded) };
    }
}
