//! Layers of weights, as the kernels that multiply them want them in memory.

use std::ops::Range;

use super::bf16;
use super::kernel::Kernel;
use super::panels::{Finish, Panels, Product, Rows, padded};
use crate::config::Activation;

pub(crate) use bf16::Rounded;

/// Weights and a bias.
pub(crate) struct Linear {
    weights: Weights,
    /// With zeros for the columns that fill the last panel, however they lie in memory.
    bias: Vec<f32>,
}

/// How weights lie in memory.
enum Weights {
    /// As 32-bit floats, in panels as wide as a kernel's vectors want them.
    Floats(Panels),
    /// Rounded to bf16.
    Pairs(bf16::Instructions, bf16::Panels),
    /// As long as it is not known which of them will do.
    Both(Panels, bf16::Instructions, bf16::Panels),
}

/// Rows that layers of one depth are applied to, as a kernel wants them.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    floats: Rows<'a>,
    count: usize,
    /// For kernels that multiply pairs.
    rounded: &'a Rounded,
}

impl<'a> Left<'a> {
    /// The first `count` rows, each of `depth` numbers; `rounded` is the memory for what is made of them.
    pub(crate) fn new(
        kernel: Kernel,
        floats: Rows<'a>,
        count: usize,
        depth: usize,
        rounded: &'a mut Rounded,
    ) -> Self {
        if let Some(instructions) = kernel.pairs() {
            let into = bf16::Into::Left(&mut *rounded);
            let rounding = bf16::Rounding { rows: floats, count, depth, into };
            instructions.round(kernel.vectors(), rounding);
        }
        Self { floats, count, rounded }
    }

    /// Rows that were rounded before, for kernels that multiply pairs.
    pub(crate) fn of_pairs(rounded: &'a Rounded) -> Self {
        Self { floats: Rows::new(&[], 0), count: rounded.count(), rounded }
    }
}

impl Linear {
    /// Of weights `[bias.len(), depth]`, for a kernel; where that is one of lower precision, for one
    /// of 32-bit floats beside it, too, if there is such a one.
    pub(crate) fn pack(
        weight: &[f32],
        bias: &[f32],
        depth: usize,
        kernel: Kernel,
        beside: Option<Kernel>,
    ) -> Self {
        let rows = Rows::new(weight, depth);
        let floats = |kernel| Panels::of_columns(rows, bias.len(), depth, Panels::width(kernel));
        let pairs = || bf16::Panels::of_columns(rows, bias.len(), depth);
        let weights = match (kernel.pairs(), beside) {
            (None, _) => Weights::Floats(floats(kernel)),
            (Some(instructions), None) => Weights::Pairs(instructions, pairs()),
            (Some(instructions), Some(beside)) => {
                Weights::Both(floats(beside), instructions, pairs())
            }
        };
        Self { weights, bias: padded(bias, bf16::WIDTH) }
    }

    /// Of how many columns a part may begin at, for a kernel.
    pub(crate) fn width(kernel: Kernel) -> usize {
        kernel.pairs().map_or_else(|| Panels::width(kernel), |_| bf16::WIDTH)
    }

    /// Numbers that it makes of a row.
    pub(crate) fn columns(&self) -> usize {
        match &self.weights {
            Weights::Floats(floats) | Weights::Both(floats, ..) => floats.columns(),
            Weights::Pairs(_, pairs) => pairs.columns(),
        }
    }

    /// Length of the rows that it is applied to.
    pub(crate) fn depth(&self) -> usize {
        match &self.weights {
            Weights::Floats(floats) | Weights::Both(floats, ..) => floats.depth(),
            Weights::Pairs(_, pairs) => pairs.depth(),
        }
    }

    /// What its weights take in memory, in whichever forms they are there.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.weights {
            Weights::Floats(floats) => floats.bytes(),
            Weights::Pairs(_, pairs) => pairs.bytes(),
            Weights::Both(floats, _, pairs) => floats.bytes() + pairs.bytes(),
        }
    }

    /// Gives the memory back that this kernel does not need.
    pub(crate) fn keep(&mut self, kernel: Kernel) {
        let weights = std::mem::replace(&mut self.weights, Weights::Floats(Panels::default()));
        self.weights = match (weights, kernel.pairs()) {
            (Weights::Both(floats, ..), None) => Weights::Floats(floats),
            (Weights::Both(_, instructions, pairs), Some(_)) => Weights::Pairs(instructions, pairs),
            (alone, _) => alone,
        };
    }

    /// These columns of `left × weights + bias`, activated, with a kernel that it was packed for and
    /// `left` was made for. In `out` one row begins `stride` after the one before.
    pub(crate) fn apply(
        &self,
        kernel: Kernel,
        columns: Range<usize>,
        left: Left<'_>,
        activation: Option<Activation>,
        out: &mut [f32],
        stride: usize,
    ) {
        let finish = self.finish(columns.start, activation);
        match (&self.weights, kernel.pairs()) {
            (Weights::Floats(right), _) | (Weights::Both(right, ..), None) => {
                let Left { floats: left, count: rows, .. } = left;
                let (right, padded) = (right.part(columns), false);
                kernel.dispatch(Product {
                    left,
                    rows,
                    right,
                    finish,
                    out,
                    out_stride: stride,
                    padded,
                });
            }
            (Weights::Pairs(instructions, right) | Weights::Both(_, instructions, right), _) => {
                let (left, right) = (left.rounded, right.part(columns));
                let out = bf16::Out::Floats { numbers: out, stride };
                instructions.multiply(kernel.vectors(), bf16::Product { left, right, finish, out });
            }
        }
    }

    /// As [`Linear::apply`] with a kernel that multiplies pairs: what comes out is rounded for another
    /// layer to be applied to.
    pub(crate) fn apply_for_next(
        &self,
        kernel: Kernel,
        left: Left<'_>,
        activation: Option<Activation>,
        out: &mut Rounded,
    ) {
        match &self.weights {
            Weights::Pairs(instructions, right) | Weights::Both(_, instructions, right) => {
                let (left, finish) = (left.rounded, self.finish(0, activation));
                let (right, out) = (right.part(0..right.columns()), bf16::Out::Left(out));
                let product = bf16::Product { left, right, finish, out };
                instructions.multiply(kernel.vectors(), product);
            }
            Weights::Floats(_) => debug_assert!(false, "{kernel} does not multiply these"),
        }
    }

    fn finish(&self, column: usize, activation: Option<Activation>) -> Finish<'_> {
        let bias = &self.bias[column..];
        activation.map_or(Finish::Bias(bias), |activation| Finish::Activated(bias, activation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precision;

    #[test]
    fn of_two_forms_the_one_is_kept_that_the_kernel_needs_and_gives_the_same_as_alone() {
        let numbers: Vec<f32> = (0..40_u16).map(|at| f32::from(at * 37 % 41) / 7.0 - 3.0).collect();
        let (weight, left) = numbers.split_at(20);
        let bias = [0.5, -0.5, 1.5, 2.5];
        let apply = |linear: &Linear, kernel| {
            let (mut rounded, mut out) = (Rounded::default(), vec![0.0; 16]);
            let left = Left::new(kernel, Rows::new(left, 5), 4, 5, &mut rounded);
            linear.apply(kernel, 0..4, left, None, &mut out, 4);
            out
        };
        let kernels = [Precision::F32, Precision::BF16].map(Kernel::fastest_in);
        let [floats, pairs] = kernels;
        let [of_floats, of_pairs] = kernels.map(|kernel| {
            let alone = Linear::pack(weight, &bias, 5, kernel, None);
            apply(&alone, kernel)
        });
        assert_ne!(of_floats, of_pairs, "rounding is seen");
        for (kernel, expected) in [(floats, &of_floats), (pairs, &of_pairs)] {
            let mut both = Linear::pack(weight, &bias, 5, pairs, Some(floats));
            assert_eq!(&apply(&both, kernel), expected, "{kernel} beside the other");
            both.keep(kernel);
            assert!(!matches!(both.weights, Weights::Both(..)));
            assert_eq!(&apply(&both, kernel), expected, "{kernel} alone");
        }
    }

    #[test]
    fn in_bf16_weights_take_half_the_memory_and_as_long_as_both_are_there_both() {
        const SIDE: usize = 64;
        let (weight, bias) = (vec![0.5; SIDE * SIDE], vec![0.0; SIDE]);
        let [floats, pairs] = [Precision::F32, Precision::BF16].map(Kernel::fastest_in);
        let pack = |kernel, beside| Linear::pack(&weight, &bias, SIDE, kernel, beside);
        let [of_floats, of_pairs] = [floats, pairs].map(|kernel| pack(kernel, None).bytes());
        let stored = size_of_val(weight.as_slice()) as u64;
        for (found, expected) in [(of_floats, stored), (of_pairs, stored / 2)] {
            // A buffer begins with a line of the cache.
            assert!((expected..expected + 64).contains(&found), "{found}, {expected}");
        }
        for (kernel, kept) in [(floats, of_floats), (pairs, of_pairs)] {
            let mut both = pack(pairs, Some(floats));
            assert_eq!(both.bytes(), of_floats + of_pairs);
            both.keep(kernel);
            assert_eq!(both.bytes(), kept);
        }
    }
}
