//! What an encoder computes, step by step.

use std::ops::Range;

use super::{Encoder, Layer, Norm, Scratch};
use crate::Tokens;
use crate::config::{Activation, as_index};
use crate::cpu::attention::{self, Head};
use crate::cpu::kernel::Kernel;
use crate::cpu::linear::{Left, Linear, Rounded};
use crate::cpu::panels::Rows;
use crate::cpu::rows::Normalize;
use crate::cpu::team::Share;
use crate::pooling::Wanted;

/// Bytes that are computed and read again before others are: they stay in the second-level cache.
const CACHED: usize = 384 << 10;

/// Rows that blocks of any instruction fill.
const FLOATS_BLOCK: usize = 12;
const PAIRS_BLOCK: usize = 32;

/// Rows of so many bytes that stay in the second-level cache: whole blocks of products.
fn rows_at_once(bytes: usize, block: usize) -> usize {
    (CACHED / bytes.max(1) / block * block).max(block)
}

/// An encoder, and what it computes with.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) kernel: Kernel,
}

/// The heads whose values these columns are, of all texts.
struct Heads<'a> {
    columns: Range<usize>,
    /// Of those tokens that are wanted.
    queries: &'a [f32],
    /// Keys and values beside each other, of every token.
    attended: &'a [f32],
    lengths: &'a [usize],
    wanted: Wanted,
}

impl Run<'_> {
    /// Length of a token's vector.
    pub(crate) fn width(self) -> usize {
        self.encoder.hidden
    }

    /// Computes the vectors of all texts' tokens, of which those that are wanted come out:
    /// [`Scratch::tokens`]. Every id is in the vocabulary, no text is empty or has more tokens than there
    /// are positions, and none has a second text unless the network tells the two apart; otherwise there
    /// are none. Nor are there any when a member of the team was lost.
    ///
    /// Behind the last layer nobody looks at the others: but for keys and values, it computes nothing else.
    pub(crate) fn forward(
        &self,
        batch: &[Tokens],
        wanted: Wanted,
        scratch: &mut Scratch,
        share: &Share<'_>,
    ) -> Option<()> {
        let lengths = batch.iter().map(|text| text.ids.len());
        scratch.lengths.clear();
        scratch.lengths.extend(lengths);
        scratch.count = scratch.lengths.iter().sum();
        scratch.width = self.encoder.hidden;
        self.embed(batch, scratch.tokens.take(scratch.count * self.encoder.hidden))?;
        let (last, others) = self.encoder.layers.split_last()?;
        for layer in others {
            self.attend(layer, Wanted::Every, scratch, share)?;
            self.feed_forward(layer, scratch, share)?;
        }
        self.attend(last, wanted, scratch, share)?;
        self.feed_forward(last, scratch, share)
    }

    fn embed(&self, batch: &[Tokens], tokens: &mut [f32]) -> Option<()> {
        let mut rows = tokens.chunks_exact_mut(self.encoder.hidden);
        for text in batch {
            let second = text.second.unwrap_or(text.ids.len());
            let mut next = self.encoder.after.map_or(0, |id| as_index(id) + 1);
            for ((at, id), row) in text.ids.iter().enumerate().zip(&mut rows) {
                let position = match self.encoder.after {
                    Some(padding) if *id == padding => as_index(padding),
                    _ => next,
                };
                next += usize::from(position == next);
                let word = self.row(&self.encoder.words, as_index(*id))?;
                let of_type = self.row(&self.encoder.types, usize::from(at >= second))?;
                let position = self.row(&self.encoder.positions, position)?;
                let sums = word.iter().zip(of_type).map(|(word, of_type)| word + of_type);
                for ((number, sum), position) in row.iter_mut().zip(sums).zip(position) {
                    *number = sum + position;
                }
            }
        }
        self.normalize(&self.encoder.norm, tokens, &[]);
        Some(())
    }

    fn row<'a>(&self, table: &'a [f32], at: usize) -> Option<&'a [f32]> {
        table.get(at.checked_mul(self.encoder.hidden)?..)?.get(..self.encoder.hidden)
    }

    fn normalize(&self, norm: &Norm, rows: &mut [f32], added: &[f32]) {
        let Norm { gain, bias } = norm;
        self.kernel.dispatch(Normalize { rows, added, gain, bias, epsilon: self.encoder.epsilon });
    }

    /// `out = left × layer`, finished, by all members together.
    fn apply_together(
        &self,
        linear: &Linear,
        left: &[f32],
        rounded: &mut Rounded,
        out: &mut [f32],
        activation: Option<Activation>,
        share: &Share<'_>,
    ) -> Option<()> {
        let depth = linear.depth();
        let rows = left.len() / depth.max(1);
        let left = Left::new(self.kernel, Rows::new(left, depth), rows, depth, rounded);
        share.fill(out, linear.columns(), Linear::width(self.kernel), |columns, out, stride| {
            linear.apply(self.kernel, columns, left, activation, out, stride);
        })
    }

    /// Behind it there are the tokens that are wanted.
    fn attend(
        &self,
        layer: &Layer,
        wanted: Wanted,
        scratch: &mut Scratch,
        share: &Share<'_>,
    ) -> Option<()> {
        let hidden = self.encoder.hidden;
        self.choose(wanted, scratch)?;
        let Scratch { tokens, count, wanted: chosen, added, queries, attended, .. } = scratch;
        let Scratch { rounded, wanted_rounded, attention, lengths, .. } = scratch;
        let numbers = tokens.get(*count * hidden);
        let left = Left::new(self.kernel, Rows::new(numbers, hidden), *count, hidden, rounded);
        let (asking, asked) = match wanted {
            Wanted::Every => (*count, left),
            Wanted::First | Wanted::Last => {
                let (asking, numbers) = (lengths.len(), chosen.get(lengths.len() * hidden));
                let rows = Rows::new(numbers, hidden);
                (asking, Left::new(self.kernel, rows, asking, hidden, wanted_rounded))
            }
        };
        let added = added.take(asking * hidden);
        let together = self.together();
        let at_once = rows_at_once((2 * *count + asking) * size_of::<f32>(), together);
        share.fill(added, hidden, together, |columns, out, stride| {
            for start in columns.clone().step_by(at_once) {
                let out = &mut out[start - columns.start..];
                let columns = start..columns.end.min(start + at_once);
                let span = columns.len();
                let queries = queries.take(asking * span);
                layer.queries.apply(self.kernel, columns.clone(), asked, None, queries, span);
                let attended = attended.take(*count * 2 * span);
                self.project(layer, columns.clone(), left, attended);
                let heads = Heads { columns, queries, attended, lengths, wanted };
                self.attend_heads(heads, attention, out, stride);
            }
        })?;
        if wanted != Wanted::Every {
            *count = asking;
            tokens.take(asking * hidden).copy_from_slice(chosen.get(asking * hidden));
        }
        let attended = attended.take(asking * hidden);
        self.apply_together(&layer.attention, added, rounded, attended, None, share)?;
        self.normalize(&layer.attention_norm, tokens.take(asking * hidden), attended);
        Some(())
    }

    /// The rows of the tokens that are wanted, where not all are.
    fn choose(&self, wanted: Wanted, scratch: &mut Scratch) -> Option<()> {
        let Scratch { tokens, wanted: chosen, lengths, count, .. } = scratch;
        let (hidden, mut first) = (self.encoder.hidden, 0);
        if wanted == Wanted::Every {
            return Some(());
        }
        let tokens = tokens.get(*count * hidden);
        let chosen = chosen.take(lengths.len() * hidden).chunks_exact_mut(hidden);
        for (row, length) in chosen.zip(lengths.iter()) {
            if *length == 0 {
                return None;
            }
            let at = first + wanted.of(*length).start;
            row.copy_from_slice(self.row(tokens, at)?);
            first += length;
        }
        Some(())
    }

    /// How many columns of attention are not to be parted: whole heads that fill whole panels; all of
    /// them where keys and values do not begin with a panel of their own.
    fn together(&self) -> usize {
        let size = self.encoder.hidden / self.encoder.heads;
        let width = Linear::width(self.kernel);
        if !self.encoder.hidden.is_multiple_of(width) {
            return self.encoder.hidden;
        }
        (1..=width)
            .map(|heads| heads * size)
            .find(|columns| columns.is_multiple_of(width))
            .unwrap_or(self.encoder.hidden)
    }

    /// Of these columns the keys and the values, beside each other.
    fn project(&self, layer: &Layer, columns: Range<usize>, left: Left<'_>, out: &mut [f32]) {
        let (hidden, span) = (self.encoder.hidden, columns.len());
        let linear = &layer.attended;
        if span == hidden {
            linear.apply(self.kernel, 0..2 * hidden, left, None, out, 2 * span);
            return;
        }
        for index in 0..2 {
            let columns = index * hidden + columns.start..index * hidden + columns.end;
            linear.apply(self.kernel, columns, left, None, &mut out[index * span..], 2 * span);
        }
    }

    fn attend_heads(
        &self,
        heads: Heads<'_>,
        memory: &mut attention::Memory,
        out: &mut [f32],
        stride: usize,
    ) {
        let Heads { columns, queries, attended, lengths, wanted } = heads;
        let (size, span) = (self.encoder.hidden / self.encoder.heads, columns.len());
        let relative = self.encoder.relative.as_ref();
        let (mut first, mut first_asked) = (0, 0);
        for &length in lengths {
            let asked = wanted.of(length);
            for (at, index) in (columns.start / size..columns.end / size).enumerate() {
                let queries = Rows::new(&queries[first_asked * span + at * size..], span);
                let part = |part: usize| {
                    let begin = first * 2 * span + part * span + at * size;
                    Rows::new(&attended[begin..], 2 * span)
                };
                let (keys, values, asked) = (part(0), part(1), asked.clone());
                let head = Head { index, size, length, asked, queries, keys, values };
                let out = &mut out[first_asked * stride + at * size..];
                head.attend(self.kernel, relative, memory, out, stride);
            }
            first += length;
            first_asked += asked.len();
        }
    }

    fn feed_forward(&self, layer: &Layer, scratch: &mut Scratch, share: &Share<'_>) -> Option<()> {
        let Scratch { tokens, added, inner, count, rounded, between, .. } = scratch;
        let (kernel, hidden, width) = (self.kernel, self.encoder.hidden, layer.outer.depth());
        let tokens = tokens.take(*count * hidden);
        let in_pairs = kernel.pairs().is_some() && share.is_whole();
        let rows = match (in_pairs, share.is_whole()) {
            (true, _) => rows_at_once(width * size_of::<u16>(), PAIRS_BLOCK),
            (false, true) => rows_at_once(width * size_of::<f32>(), FLOATS_BLOCK),
            // Members would only wait for each other more often.
            (false, false) => (*count).max(1),
        };
        let added = added.take(rows.min(*count) * hidden);
        let activation = Some(self.encoder.activation);
        for tokens in tokens.chunks_mut(rows * hidden) {
            let count = tokens.len() / hidden;
            let added = &mut added[..tokens.len()];
            if in_pairs {
                // Nobody else has to see the numbers between the two.
                let left = Left::new(kernel, Rows::new(tokens, hidden), count, hidden, rounded);
                layer.inner.apply_for_next(kernel, left, activation, between);
                layer.outer.apply(kernel, 0..hidden, Left::of_pairs(between), None, added, hidden);
            } else {
                let inner = inner.take(count * width);
                self.apply_together(&layer.inner, tokens, rounded, inner, activation, share)?;
                self.apply_together(&layer.outer, inner, rounded, added, None, share)?;
            }
            self.normalize(&layer.outer_norm, tokens, added);
        }
        Some(())
    }
}
