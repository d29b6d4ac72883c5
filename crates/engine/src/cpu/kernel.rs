//! Which instructions the engine computes with.
//!
//! A [`Kernel`] exists only where the machine has its instructions. Everything else in this folder is
//! written once, over whatever vectors [`Kernel::dispatch`] hands it; what differs between kernels
//! is how many numbers a vector has, and so how wide the panels of weights are
//! ([`super::panels::Panels::width`]). Weights are put into panels when a model is loaded, so a
//! kernel is chosen once for a model and stays.
//!
//! A kernel of another precision multiplies the weights of layers, and in texts that are not short queries
//! with keys and weights of attention with values, by other instructions ([`super::bf16`]), which round what
//! they multiply and sum in 32 bits, each number in the order of the depth whatever is beside it. What
//! softmax, normalisation and activation see are 32-bit floats, which are computed with the same vectors
//! as everywhere. It is had only where it was seen to multiply right.

use std::fmt;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Scalar, Simd, WithSimd};

use super::bf16::{self, WrongProduct};
use super::linear::{Left, Linear, Rounded};
use super::panels::Rows;

/// The instructions that a model on the processor computes with.
#[derive(Clone, Copy)]
pub struct Kernel {
    vectors: Vectors,
    /// What weights are multiplied with instead of the vectors.
    pairs: Option<bf16::Instructions>,
}

/// Vectors of 32-bit floats, with the proof that the machine has them.
#[derive(Clone, Copy)]
pub(crate) enum Vectors {
    /// One number at a time, on any processor.
    Portable,
    /// Vectors of 8 numbers: AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(V3),
    /// Vectors of 16 numbers: the parts F, BW, CD, DQ and VL of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512(V4),
}

/// A number format that is computed in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// Products of numbers that were rounded to 8 significant bits, summed in 32-bit floating point.
    BF16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::BF16 => f.write_str("bf16"),
        }
    }
}

/// A kernel that was asked for by name and is not to be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no kernel {asked:?} on this machine; it has {}", .available.join(", "))]
pub struct NoSuchKernel {
    /// The name.
    pub asked: String,
    /// Names of the kernels that this machine has.
    pub available: Vec<&'static str>,
}

/// A kernel that the machine has by its own account, and that computes wrongly.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the kernel {kernel} is not used: {wrong}")]
pub struct WrongKernel {
    /// Its name.
    pub kernel: &'static str,
    /// What was wrong.
    pub wrong: WrongProduct,
}

impl Vectors {
    /// Those that this machine has, the widest last.
    pub(crate) fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(V3::try_new().map(Self::Avx2));
            all.extend(V4::try_new().map(Self::Avx512));
        }
        all
    }

    pub(crate) fn widest() -> Self {
        Self::available().pop().unwrap_or(Self::Portable)
    }
}

impl Kernel {
    pub(crate) fn of(vectors: Vectors, pairs: Option<bf16::Instructions>) -> Self {
        Self { vectors, pairs }
    }

    /// Those that this machine has, by precision, the ones with the widest vectors last.
    pub fn available() -> Vec<Self> {
        tried().0.clone()
    }

    /// Those that this machine says it has and that were seen to compute wrongly.
    pub fn wrong() -> &'static [WrongKernel] {
        &tried().1
    }

    /// The one of this name, if the machine has it.
    pub fn named(name: &str) -> Result<Self, NoSuchKernel> {
        let all = Self::available();
        all.iter().copied().find(|kernel| kernel.name() == name).ok_or_else(|| NoSuchKernel {
            asked: name.to_owned(),
            available: all.iter().map(|kernel| kernel.name()).collect(),
        })
    }

    /// The one that multiplies fastest here, of whatever precision: found by trying, once for each
    /// process, in a few milliseconds. Wide vectors are not the faster ones on every processor that
    /// has them, and neither are fewer bits.
    pub fn fastest() -> Self {
        static FASTEST: OnceLock<Kernel> = OnceLock::new();
        *FASTEST.get_or_init(|| fastest(&Self::available(), Self::probe))
    }

    /// The fastest one of a precision: one of bf16 is there on every machine, if need be in software.
    pub fn fastest_in(precision: Precision) -> Self {
        static FASTEST: [OnceLock<Kernel>; 2] = [const { OnceLock::new() }; 2];
        let place = match precision {
            Precision::F32 => &FASTEST[0],
            Precision::BF16 => &FASTEST[1],
        };
        *place.get_or_init(|| {
            let mut all = Self::available();
            all.retain(|kernel| kernel.precision() == precision);
            fastest(&all, Self::probe)
        })
    }

    /// What it is called, for example `avx2-f32`.
    pub fn name(self) -> &'static str {
        if let Some(pairs) = self.pairs {
            return pairs.name();
        }
        match self.vectors {
            Vectors::Portable => "portable-f32",
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(_) => "avx2-f32",
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(_) => "avx512-f32",
        }
    }

    /// What it multiplies weights in.
    pub fn precision(self) -> Precision {
        self.pairs.map_or(Precision::F32, |_| Precision::BF16)
    }

    /// What weights are multiplied with, where that is not the vectors.
    pub(crate) fn pairs(self) -> Option<bf16::Instructions> {
        self.pairs
    }

    pub(crate) fn vectors(self) -> Vectors {
        self.vectors
    }

    /// Runs code that is written over any vectors with those of this kernel.
    #[inline(always)]
    pub(crate) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.vectors {
            Vectors::Portable => Simd::vectorize(Scalar, op),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(simd) => Simd::vectorize(simd, op),
        }
    }

    /// What a small product takes.
    fn probe(self) -> Duration {
        Trial::new(self).shortest(TRIES)
    }
}

/// The kernels that there are, and those of which it was seen, once for each process, that they
/// compute wrongly.
fn tried() -> &'static (Vec<Kernel>, Vec<WrongKernel>) {
    static TRIED: OnceLock<(Vec<Kernel>, Vec<WrongKernel>)> = OnceLock::new();
    TRIED.get_or_init(|| {
        let vectors = Vectors::widest();
        let in_floats = Vectors::available().into_iter().map(|vectors| Kernel::of(vectors, None));
        let in_pairs = bf16::Instructions::available(vectors).into_iter();
        let (proved, wrong) = sift(in_pairs, |pairs| bf16::prove(pairs, vectors));
        let proved = proved.into_iter().map(|pairs| Kernel::of(vectors, Some(pairs)));
        (in_floats.chain(proved).collect(), wrong)
    })
}

/// Those that prove themselves, and why not the others.
fn sift(
    all: impl Iterator<Item = bf16::Instructions>,
    prove: impl Fn(bf16::Instructions) -> Result<(), WrongProduct>,
) -> (Vec<bf16::Instructions>, Vec<WrongKernel>) {
    let (mut proved, mut refused) = (Vec::new(), Vec::new());
    for instructions in all {
        match prove(instructions) {
            Ok(()) => proved.push(instructions),
            Err(wrong) => refused.push(WrongKernel { kernel: instructions.name(), wrong }),
        }
    }
    (proved, refused)
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Kernel {}

/// Of the precision in which the product takes least, the widest one that takes as long but for what such
/// trials differ by: it reads fewer times what all have to read, of which a small product has little.
fn fastest(kernels: &[Kernel], takes: impl Fn(Kernel) -> Duration) -> Kernel {
    let timed: Vec<_> = kernels.iter().map(|kernel| (takes(*kernel), *kernel)).collect();
    let least =
        timed.iter().copied().reduce(|least, next| if next.0 <= least.0 { next } else { least });
    let Some((shortest, least)) = least else { return Kernel::of(Vectors::Portable, None) };
    let granted = shortest.mul_f64(1.0 + GRANTED);
    let equals = timed
        .iter()
        .rev()
        .find(|(took, kernel)| kernel.precision() == least.precision() && *took <= granted);
    equals.map_or(least, |(_, kernel)| *kernel)
}

/// How often the product is tried: the shortest time is that of the kernel, the others are those of
/// whoever else was running.
const TRIES: u32 = 5;
/// By how much more of the time the wider vectors are still taken.
const GRANTED: f64 = 0.08;
/// The product's shape: a few texts, and a layer that is small enough to stay in the cache.
const ROWS: usize = 48;
const SIZE: usize = 256;

/// A product that is computed to see how long it takes.
pub(crate) struct Trial {
    kernel: Kernel,
    left: Vec<f32>,
    right: Linear,
    rounded: Rounded,
    out: Vec<f32>,
}

impl Trial {
    pub(crate) fn new(kernel: Kernel) -> Self {
        let numbers = vec![0.5; SIZE * SIZE];
        let right = Linear::pack(&numbers, &[0.0; SIZE], SIZE, kernel, None);
        Self {
            kernel,
            left: vec![0.25; ROWS * SIZE],
            right,
            rounded: Rounded::default(),
            out: vec![0.0; ROWS * SIZE],
        }
    }

    /// The shortest time of so many tries.
    pub(crate) fn shortest(&mut self, tries: u32) -> Duration {
        (0..tries).map(|_| self.once()).min().unwrap_or_default()
    }

    fn once(&mut self) -> Duration {
        let begun = Instant::now();
        let left = Rows::new(black_box(&self.left), SIZE);
        let left = Left::new(self.kernel, left, ROWS, SIZE, &mut self.rounded);
        self.right.apply(self.kernel, 0..SIZE, left, None, &mut self.out, SIZE);
        black_box(&mut self.out);
        begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_had_by_its_name_or_the_names_that_are_there_are_told() {
        let all = Kernel::available();
        assert_eq!(all[0].name(), "portable-f32", "every machine has it");
        for kernel in &all {
            assert_eq!(Kernel::named(kernel.name()), Ok(*kernel));
        }
        assert!(Kernel::named("portable-bf16").is_ok(), "every machine has it, too");
        let error = Kernel::named("amx").unwrap_err().to_string();
        assert!(error.contains("\"amx\""), "{error}");
        for kernel in all {
            assert!(error.contains(kernel.name()), "{error}");
        }
    }

    #[test]
    fn the_one_that_takes_least_is_the_fastest_and_of_equals_the_widest() {
        let all = Kernel::available();
        let last = all[all.len() - 1];
        assert_eq!(fastest(&all, |_| Duration::from_micros(1)), last);
        for wanted in &all {
            let takes = |kernel| Duration::from_micros(if kernel == *wanted { 1 } else { 2 });
            assert_eq!(fastest(&all, takes), *wanted);
        }
    }

    #[test]
    fn wider_vectors_are_taken_that_seem_a_little_slower_and_fewer_bits_are_not() {
        let widest = Vectors::widest();
        if matches!(widest, Vectors::Portable) {
            return;
        }
        let vectors = [Vectors::Portable, widest].map(|one| Kernel::of(one, None));
        let last = vectors[1];
        let takes = |kernel| Duration::from_micros(if kernel == last { 105 } else { 100 });
        assert_eq!(fastest(&vectors, takes), last);
        let takes = |kernel| Duration::from_micros(if kernel == last { 110 } else { 100 });
        assert_eq!(fastest(&vectors, takes), vectors[0]);
        // More bits that take as long are as good, and what is granted to one is not granted on.
        let pairs = Kernel::of(Vectors::widest(), Some(bf16::Instructions::Emulated));
        for (vectors_take, pairs_take, expected) in
            [(100, 101, last), (107, 105, last), (100, 99, pairs), (109, 105, vectors[0])]
        {
            let mut all = vectors.to_vec();
            all.push(pairs);
            let takes = |kernel| {
                Duration::from_micros(match kernel {
                    kernel if kernel == pairs => pairs_take,
                    kernel if kernel == last => vectors_take,
                    _ => 100,
                })
            };
            assert_eq!(fastest(&all, takes), expected, "{vectors_take} {pairs_take}");
        }
    }

    #[test]
    fn what_was_found_once_is_remembered() {
        assert_eq!(Kernel::fastest(), Kernel::fastest());
        for precision in [Precision::F32, Precision::BF16] {
            let found = Kernel::fastest_in(precision);
            assert_eq!((found, found.precision()), (Kernel::fastest_in(precision), precision));
        }
    }

    #[test]
    fn instructions_that_multiply_wrongly_are_no_kernel_and_it_is_told_why() {
        let all = bf16::Instructions::available(Vectors::widest());
        let wrong = WrongProduct { row: 3, column: 4, found: 1.0, expected: 2.0 };
        let broken = |pairs: bf16::Instructions| {
            if pairs.name() == "portable-bf16" { Err(wrong) } else { Ok(()) }
        };
        let (proved, refused) = sift(all.iter().copied(), broken);
        assert_eq!(proved.len(), all.len() - 1);
        assert!(proved.iter().all(|pairs| pairs.name() != "portable-bf16"));
        assert_eq!(refused, [WrongKernel { kernel: "portable-bf16", wrong }]);
        let told = refused[0].to_string();
        assert!(told.contains("portable-bf16") && told.contains("row 3 of column 4"), "{told}");
        assert_eq!(Kernel::wrong(), [], "none of this machine's");
    }

    /// So that a kernel whose vectors fell apart cannot land unseen: with vectors of 8 numbers and
    /// sums in registers it is more than ten times faster.
    #[test]
    fn the_chosen_kernel_is_several_times_faster_than_one_number_at_a_time() {
        let chosen = Kernel::fastest();
        if chosen.name() == "portable-f32" {
            assert_eq!(Vectors::available().len(), 1, "nothing else is there");
            return;
        }
        let (mut plain, mut wide) =
            (Trial::new(Kernel::of(Vectors::Portable, None)), Trial::new(chosen));
        let mut best = [Duration::MAX; 2];
        // In turns: a neighbour's work falls on both.
        for _ in 0..40 {
            best[0] = best[0].min(plain.shortest(1));
            best[1] = best[1].min(wide.shortest(3));
        }
        let times = best[0].as_secs_f64() / best[1].as_secs_f64();
        assert!(times > 3.0, "{chosen} is only {times:.1} times as fast");
    }
}
