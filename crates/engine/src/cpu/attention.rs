//! Attention, of one head of one text after the other.

use std::ops::Range;

use super::bf16::{self, Into, Rounded, Rounding, Softmax};
use super::buffer::Buffer;
use super::kernel::Kernel;
use super::panels::{Finish, Panels, Product, Rows};
use super::relative::Relative;
use super::rows::{Exponentials, Scale};

/// Queries that are looked at together: their scores stay in the second-level cache, whatever the length
/// of the text.
const QUERIES: usize = 48;
/// Texts of fewer tokens do not fill a panel of pairs, nor are there enough of them to be worth the
/// rounding: they are multiplied in 32 bits by all kernels.
const SHORT: usize = bf16::WIDTH;

/// A head of a text of `length` tokens: keys and values, each `[length, size]`, and the queries of those
/// tokens that are asked for, scaled.
pub(super) struct Head<'a> {
    /// Which one.
    pub(super) index: usize,
    pub(super) size: usize,
    pub(super) length: usize,
    pub(super) asked: Range<usize>,
    pub(super) queries: Rows<'a>,
    pub(super) keys: Rows<'a>,
    pub(super) values: Rows<'a>,
}

/// Memory that is used again, for whichever kernel.
#[derive(Default)]
pub(super) struct Memory {
    /// `[QUERIES, L]`.
    scores: Buffer,
    floats: Floats,
    pairs: Pairs,
}

#[derive(Default)]
struct Floats {
    keys: Panels,
    values: Panels,
}

#[derive(Default)]
struct Pairs {
    /// Queries, and then what becomes of their scores.
    left: Rounded,
    keys: bf16::Panels,
    values: bf16::Panels,
}

/// What queries are multiplied with.
trait Sides {
    /// Columns of scores: as many as there are keys, up to a whole number of vectors of every
    /// instruction set.
    fn columns(&self) -> usize;

    /// `queries × keysᵀ`.
    fn score(&mut self, queries: Rows<'_>, count: usize, scores: &mut [f32]);

    /// The scores of `length` keys become weights, of which a row's share is what they are to be multiplied
    /// by: see [`Exponentials`].
    fn weigh(&mut self, scores: &mut [f32], length: usize, shares: &mut [f32]);

    /// `weights × values`, into rows that begin `stride` after each other; the weights are what was made of
    /// these scores.
    fn sum(&mut self, scores: &[f32], count: usize, out: &mut [f32], stride: usize);
}

impl Head<'_> {
    /// For each token that is asked for the sum of all tokens' values, each as much as the token looks at it.
    /// Rows of `out` begin `stride` after each other.
    pub(super) fn attend(
        &self,
        kernel: Kernel,
        relative: Option<&Relative>,
        memory: &mut Memory,
        out: &mut [f32],
        stride: usize,
    ) {
        let Memory { scores, floats, pairs } = memory;
        match kernel.pairs() {
            Some(instructions) if self.length >= SHORT => {
                let sides = OfPairs::new(self, kernel, instructions, pairs);
                self.attend_to(sides, kernel, relative, scores, out, stride);
            }
            _ => {
                let sides = OfFloats::new(self, kernel, floats);
                self.attend_to(sides, kernel, relative, scores, out, stride);
            }
        }
    }

    fn attend_to(
        &self,
        mut sides: impl Sides,
        kernel: Kernel,
        relative: Option<&Relative>,
        scores: &mut Buffer,
        out: &mut [f32],
        stride: usize,
    ) {
        let (length, columns) = (self.length, sides.columns());
        for first in (0..self.asked.len()).step_by(QUERIES) {
            let count = QUERIES.min(self.asked.len() - first);
            let scores = scores.take(count * columns);
            sides.score(self.queries.from(first), count, scores);
            if let Some(relative) = relative {
                relative.add(self.index, self.asked.start + first, scores, columns, length);
            }
            let shares = &mut [0.0; QUERIES][..count];
            sides.weigh(scores, length, shares);
            let out = &mut out[first * stride..];
            sides.sum(scores, count, out, stride);
            kernel.dispatch(Scale { rows: out, stride, count: self.size, shares });
        }
    }
}

struct OfFloats<'a> {
    kernel: Kernel,
    keys: &'a Panels,
    values: &'a Panels,
}

impl<'a> OfFloats<'a> {
    fn new(head: &Head<'_>, kernel: Kernel, memory: &'a mut Floats) -> Self {
        let Floats { keys, values } = memory;
        let width = Panels::width(kernel);
        keys.fill_columns(head.keys, head.length, head.size, width);
        values.fill_rows(head.values, head.size, head.length, width);
        Self { kernel, keys, values }
    }
}

impl Sides for OfFloats<'_> {
    fn columns(&self) -> usize {
        self.keys.padded_columns()
    }

    fn score(&mut self, queries: Rows<'_>, count: usize, scores: &mut [f32]) {
        self.kernel.dispatch(Product {
            left: queries,
            rows: count,
            right: self.keys.all(),
            finish: Finish::Plain,
            out: scores,
            out_stride: self.columns(),
            padded: true,
        });
    }

    fn weigh(&mut self, scores: &mut [f32], length: usize, shares: &mut [f32]) {
        let stride = self.columns();
        self.kernel.dispatch(Exponentials { rows: scores, stride, length, shares });
    }

    fn sum(&mut self, scores: &[f32], count: usize, out: &mut [f32], stride: usize) {
        self.kernel.dispatch(Product {
            left: Rows::new(scores, self.columns()),
            rows: count,
            right: self.values.all(),
            finish: Finish::Plain,
            out,
            out_stride: stride,
            padded: false,
        });
    }
}

struct OfPairs<'a> {
    kernel: Kernel,
    instructions: bf16::Instructions,
    left: &'a mut Rounded,
    keys: &'a bf16::Panels,
    values: &'a bf16::Panels,
}

impl<'a> OfPairs<'a> {
    fn new(
        head: &Head<'_>,
        kernel: Kernel,
        instructions: bf16::Instructions,
        memory: &'a mut Pairs,
    ) -> Self {
        let Pairs { left, keys, values } = memory;
        let (count, depth) = (head.length, head.size);
        for (rows, into) in [(head.keys, Into::Columns(keys)), (head.values, Into::Rows(values))] {
            instructions.round(kernel.vectors(), Rounding { rows, count, depth, into });
        }
        Self { kernel, instructions, left, keys, values }
    }

    /// The left-hand side times the right one.
    fn multiply(&mut self, right: &bf16::Panels, out: &mut [f32], stride: usize) {
        let (left, right) = (&*self.left, right.part(0..right.columns()));
        let out = bf16::Out::Floats { numbers: out, stride };
        let product = bf16::Product { left, right, finish: Finish::Plain, out };
        self.instructions.multiply(self.kernel.vectors(), product);
    }
}

impl Sides for OfPairs<'_> {
    fn columns(&self) -> usize {
        self.keys.columns().next_multiple_of(bf16::WIDTH)
    }

    fn score(&mut self, queries: Rows<'_>, count: usize, scores: &mut [f32]) {
        let into = Into::Left(self.left);
        let rounding = Rounding { rows: queries, count, depth: self.keys.depth(), into };
        self.instructions.round(self.kernel.vectors(), rounding);
        self.multiply(self.keys, scores, self.columns());
    }

    fn weigh(&mut self, scores: &mut [f32], length: usize, shares: &mut [f32]) {
        let rows = Exponentials { rows: scores, stride: self.columns(), length, shares };
        self.instructions.softmax(self.kernel.vectors(), Softmax { rows, left: self.left });
    }

    fn sum(&mut self, _: &[f32], count: usize, out: &mut [f32], stride: usize) {
        debug_assert_eq!(self.left.count(), count, "of these scores");
        self.multiply(self.values, out, stride);
    }
}
