//! Which instructions the engine computes with.
//!
//! A [`Kernel`] exists only where the machine has its instructions. Everything else in this folder is
//! written once, over whatever vectors [`Kernel::dispatch`] hands it; what differs between kernels
//! is how many numbers a vector has, and so how wide the panels of weights are
//! ([`super::panels::Panels::width`]). Weights are put into panels when a model is loaded, so a
//! kernel is chosen once for a model and stays.
//!
//! A kernel of another precision is another variant here. It has to bring: its own panel, filled from
//! 32-bit floats at loading (for bf16 products pairs of neighbours along the depth lie beside each
//! other, `[columns / width][depth / 2][width][2]`; AMX wants tiles of 16 rows of such pairs); a product
//! that takes its left-hand rows in 32 bits, rounds them once and sums in 32 bits, each number in the
//! order of the depth whatever is beside it; the rows that softmax, normalisation and activation
//! see stay 32-bit floats. And its name and [`Precision`], which reach reports and metrics from here.

use std::fmt;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Scalar, Simd, WithSimd};

use super::panels::{Finish, Panels, Product, Rows};

/// The instructions that a model on the processor computes with.
#[derive(Clone, Copy)]
pub struct Kernel(Instructions);

/// With the proof that the machine has them.
#[derive(Clone, Copy)]
enum Instructions {
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
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
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

impl Kernel {
    /// Those that this machine has, the ones with the widest vectors last.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Instructions::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(V3::try_new().map(Instructions::Avx2));
            all.extend(V4::try_new().map(Instructions::Avx512));
        }
        all.into_iter().map(Self).collect()
    }

    /// The one of this name, if the machine has it.
    pub fn named(name: &str) -> Result<Self, NoSuchKernel> {
        let all = Self::available();
        all.iter().copied().find(|kernel| kernel.name() == name).ok_or_else(|| NoSuchKernel {
            asked: name.to_owned(),
            available: all.iter().map(|kernel| kernel.name()).collect(),
        })
    }

    /// The one that multiplies fastest here: found by trying, once for each process, in a few
    /// milliseconds. Wide vectors are not the faster ones on every processor that has them.
    pub fn fastest() -> Self {
        static FASTEST: OnceLock<Kernel> = OnceLock::new();
        *FASTEST.get_or_init(|| fastest(&Self::available(), Self::probe))
    }

    /// What it is called, for example `avx2-f32`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Instructions::Portable => "portable-f32",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(_) => "avx2-f32",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512(_) => "avx512-f32",
        }
    }

    /// What it multiplies and sums in.
    pub fn precision(self) -> Precision {
        match self.0 {
            Instructions::Portable => Precision::F32,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(_) | Instructions::Avx512(_) => Precision::F32,
        }
    }

    /// Runs code that is written over any vectors with those of this kernel.
    #[inline(always)]
    pub(crate) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.0 {
            Instructions::Portable => Simd::vectorize(Scalar, op),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512(simd) => Simd::vectorize(simd, op),
        }
    }

    /// What a small product takes.
    fn probe(self) -> Duration {
        Trial::new(self).shortest(TRIES)
    }
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

/// The one that takes least; of equals the one that is listed later.
fn fastest(kernels: &[Kernel], takes: impl Fn(Kernel) -> Duration) -> Kernel {
    let timed = kernels.iter().map(|kernel| (takes(*kernel), *kernel));
    let best = timed.reduce(|best, next| if next.0 <= best.0 { next } else { best });
    best.map_or(Kernel(Instructions::Portable), |(_, kernel)| kernel)
}

/// How often the product is tried: the shortest time is that of the kernel, the others are those of
/// whoever else was running.
const TRIES: u32 = 5;
/// The product's shape: a few texts, and a layer that is small enough to stay in the cache.
const ROWS: usize = 48;
const SIZE: usize = 256;

/// A product that is computed to see how long it takes.
pub(crate) struct Trial {
    kernel: Kernel,
    left: Vec<f32>,
    right: Panels,
    out: Vec<f32>,
}

impl Trial {
    pub(crate) fn new(kernel: Kernel) -> Self {
        let numbers = vec![0.5; SIZE * SIZE];
        let right = Rows::new(&numbers, SIZE);
        let right = Panels::of_columns(right, SIZE, SIZE, Panels::width(kernel));
        Self { kernel, left: vec![0.25; ROWS * SIZE], right, out: vec![0.0; ROWS * SIZE] }
    }

    /// The shortest time of so many tries.
    pub(crate) fn shortest(&mut self, tries: u32) -> Duration {
        (0..tries).map(|_| self.once()).min().unwrap_or_default()
    }

    fn once(&mut self) -> Duration {
        let begun = Instant::now();
        self.kernel.dispatch(Product {
            left: Rows::new(black_box(&self.left), SIZE),
            rows: ROWS,
            right: self.right.all(),
            finish: Finish::Plain,
            out: &mut self.out,
            out_stride: SIZE,
            padded: false,
        });
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
    fn what_was_found_once_is_remembered() {
        assert_eq!(Kernel::fastest(), Kernel::fastest());
    }

    /// So that a kernel whose vectors fell apart cannot land unseen: with vectors of 8 numbers and
    /// sums in registers it is more than ten times faster.
    #[test]
    fn the_chosen_kernel_is_several_times_faster_than_one_number_at_a_time() {
        let chosen = Kernel::fastest();
        if chosen.name() == "portable-f32" {
            assert_eq!(Kernel::available().len(), 1, "nothing else is there");
            return;
        }
        let (mut plain, mut wide) =
            (Trial::new(Kernel(Instructions::Portable)), Trial::new(chosen));
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
