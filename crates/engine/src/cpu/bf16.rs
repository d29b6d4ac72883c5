//! Products of matrices whose numbers were rounded to bf16 and are summed as 32-bit floats.
//!
//! bf16 is a 32-bit float without its lower half (8 significant bits). Instructions for it take
//! numbers in pairs of neighbours along the depth, so that is how both matrices lie in memory, and
//! one layout serves them all: the weights in panels of 32 columns, `[columns / 32][depth / 2][32][2]`,
//! which are two vectors of 16 pairs or, 16 rows at a time, two tiles beside each other; the
//! left-hand rows as they are, rounded once for all panels. The depth is filled with zeros to a
//! multiple of 32.
//!
//! What is written once, over any instruction, is blocking ([`product`]) and the sums of a block, by
//! vectors ([`lanes`]) or by tiles ([`tiles`]). An instruction is one small function of the
//! machine's ([`avx512`], [`amx`]), and the same one in software ([`emulated`]), as Intel documents it
//! (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2): so all that is ours is tested
//! on any machine. An instruction is used only after it has multiplied right ([`proof`]).
//!
//! Softmax, normalisation and activation compute in 32 bits with every kernel, and so does the attention of
//! short texts. Numbers that are computed and then multiplied are rounded in software, but left-hand rows and
//! keys by `VCVTNE2PS2BF16` where products are by an instruction ([`rounding`]); those between the layers of a
//! feed-forward as they are written, if no other core has to see them, and the weights of attention as soon as a
//! row has them ([`softmax`]).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod emulated;
mod lanes;
mod number;
mod panels;
mod product;
mod proof;
mod rounding;
mod softmax;
mod tiles;

use pulp::{Simd, WithSimd};

pub(crate) use panels::{Panels, WIDTH};
pub(crate) use product::{Out, Product};
pub use proof::WrongProduct;
pub(crate) use proof::prove;
pub(crate) use rounding::{Into, Rounded, Rounding};
pub(crate) use softmax::Softmax;

use super::kernel::{Kernel, Vectors};
use emulated::Emulated;
use lanes::ByLanes;

/// The instructions that pairs are multiplied with, and the proof that the machine has them.
#[derive(Clone, Copy)]
pub(crate) enum Instructions {
    /// `VDPBF16PS` in software, on any processor.
    Emulated,
    /// `VDPBF16PS`.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512Bf16),
    /// `TDPBF16PS`.
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx),
    /// `TDPBF16PS` in software.
    #[cfg(test)]
    EmulatedTiles,
}

impl Instructions {
    /// Those that this machine has, beside the vectors of 32-bit floats that it has.
    pub(crate) fn available(vectors: Vectors) -> Vec<Self> {
        let mut all = vec![Self::Emulated];
        #[cfg(target_arch = "x86_64")]
        if let Vectors::Avx512(vectors) = vectors {
            all.extend(avx512::Avx512Bf16::try_new(vectors).map(Self::Avx512));
            all.extend(amx::Amx::try_new(vectors).map(Self::Amx));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = vectors;
        all
    }

    /// What a kernel with them is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Emulated => "portable-bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => "amx-bf16",
            #[cfg(test)]
            Self::EmulatedTiles => "emulated-amx-bf16",
        }
    }

    /// Rounds numbers, on a machine with these vectors.
    pub(crate) fn round(self, vectors: Vectors, rounding: Rounding<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(instructions) => instructions.vectorize(rounding),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(instructions) => instructions.beside().vectorize(rounding),
            _ => Kernel::of(vectors, None).dispatch(RoundInSoftware(rounding)),
        }
    }

    /// Looks at scores, on a machine with these vectors.
    pub(crate) fn softmax(self, vectors: Vectors, softmax: Softmax<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(instructions) => instructions.vectorize(softmax),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(instructions) => instructions.beside().vectorize(softmax),
            _ => Kernel::of(vectors, None).dispatch(SoftmaxInSoftware(softmax)),
        }
    }

    /// Multiplies, on a machine with these vectors.
    pub(crate) fn multiply(self, vectors: Vectors, product: Product<'_>) {
        match self {
            Self::Emulated => match vectors {
                Vectors::Portable => Simd::vectorize(pulp::Scalar, InSoftware::<16>(product)),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2(simd) => Simd::vectorize(simd, InSoftware::<2>(product)),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512(simd) => Simd::vectorize(simd, InSoftware::<1>(product)),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(instructions) => instructions.vectorize(product),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(instructions) => instructions.multiply(product),
            #[cfg(test)]
            Self::EmulatedTiles => {
                Kernel::of(vectors, None).dispatch(tiles::InSoftware(product));
            }
        }
    }
}

/// A product by emulated instructions, each of as many vectors as have 16 numbers together.
struct InSoftware<'a, const N: usize>(Product<'a>);

impl<const N: usize> WithSimd for InSoftware<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        product::multiply(simd, &mut ByLanes(Emulated::<S, N>(simd)), self.0);
    }
}

struct RoundInSoftware<'a>(Rounding<'a>);

impl WithSimd for RoundInSoftware<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.run(&rounding::InSoftware);
    }
}

struct SoftmaxInSoftware<'a>(Softmax<'a>);

impl WithSimd for SoftmaxInSoftware<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.compute(simd, &rounding::InSoftware);
    }
}
