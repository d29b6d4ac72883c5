//! One batch from the texts of several requests.

use lamplighter_engine::{Limits, Shape};

/// Where all texts of a batch are made as long as the longest, none is made longer than so many times
/// its length, unless that is short.
const MAX_STRETCH: usize = 2;
const SHORT: usize = 16;

/// What waits of one request: lengths in tokens with the text's place, the longest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(Vec<(usize, usize)>);

impl Texts {
    /// Texts of these lengths, in the request's order.
    pub(crate) fn of(lengths: &[usize]) -> Self {
        let mut texts: Vec<(usize, usize)> =
            lengths.iter().copied().enumerate().map(|(place, length)| (length, place)).collect();
        texts.sort_unstable_by_key(|&(length, place)| (length, std::cmp::Reverse(place)));
        Self(texts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All tokens of them.
    pub(crate) fn tokens(&self) -> usize {
        self.0.iter().map(|(length, _)| length).sum()
    }

    fn longest(&self) -> usize {
        self.0.last().map_or(0, |(length, _)| *length)
    }

    /// Takes the longest text that fits, if it is dense; a longer one never fits where a shorter one
    /// does not.
    fn take(
        &mut self,
        fits: impl Fn(usize) -> bool,
        dense: impl Fn(usize) -> bool,
    ) -> Option<(usize, usize)> {
        let fitting = self.0.partition_point(|&(length, _)| fits(length));
        let at = fitting.checked_sub(1)?;
        let is_dense = self.0.get(at).is_some_and(|&(length, _)| dense(length));
        is_dense.then(|| self.0.remove(at))
    }
}

/// Tokens for one thread's batch: so much that all idle threads have something to do, because the
/// batches of two threads are done sooner than one of twice their size. When much waits this is more
/// than any batch holds.
pub(crate) fn share(waiting: usize, idle: usize) -> usize {
    waiting.div_ceil(idle.max(1))
}

/// Takes texts for a batch within the limits and, but for the first text, within `share` tokens.
/// Returns (request, place in it, tokens); requests are counted in the order in which they are given.
///
/// The first request's longest text is always in it. Then each request gives a text in turn, so that
/// a large one does not fill the batch before the others, until none has a text that fits.
pub(crate) fn form(
    requests: &mut [Texts],
    limits: Limits,
    share: usize,
) -> Vec<(usize, usize, usize)> {
    let first = requests.first().map_or(0, Texts::longest);
    let mut rest = share.max(first);
    let (mut batch, mut lengths) = (Vec::new(), Vec::new());
    loop {
        let before = batch.len();
        for (request, texts) in requests.iter_mut().enumerate() {
            // A text that is above the limits alone is left for the engine to refuse.
            let alone = batch.is_empty();
            let fits = |length| alone || (length <= rest && holds(limits, &lengths, length));
            let dense = |length| is_dense(limits, &lengths, length);
            if let Some((length, place)) = texts.take(fits, dense) {
                rest = rest.saturating_sub(length);
                lengths.push(length);
                batch.push((request, place, length));
            }
        }
        if batch.len() == before {
            return batch;
        }
    }
}

/// Whether a text of this length may come to the others.
fn holds(limits: Limits, lengths: &[usize], length: usize) -> bool {
    let tokens = limits.tokens(lengths.iter().copied().chain([length]));
    lengths.len() < limits.max_batch_texts && tokens <= limits.max_batch_tokens
}

/// Whether no text would be padded to more than it is worth with a text of this length.
fn is_dense(limits: Limits, lengths: &[usize], length: usize) -> bool {
    let shortest = lengths.iter().copied().fold(length, usize::min);
    let longest = lengths.iter().copied().fold(length, usize::max);
    match limits.shape {
        Shape::Packed => true,
        Shape::Padded => longest <= SHORT.max(shortest.saturating_mul(MAX_STRETCH)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKED: Limits =
        Limits { max_batch_tokens: 100, max_batch_texts: 4, shape: Shape::Packed };
    const PADDED: Limits = Limits { shape: Shape::Padded, ..PACKED };

    /// (request, tokens) of the batch that is made of requests with texts of these lengths.
    fn formed(requests: &[&[usize]], limits: Limits, share: usize) -> Vec<(usize, usize)> {
        let mut texts: Vec<Texts> = requests.iter().map(|lengths| Texts::of(lengths)).collect();
        form(&mut texts, limits, share)
            .into_iter()
            .map(|(request, place, length)| {
                assert_eq!(requests[request][place], length);
                (request, length)
            })
            .collect()
    }

    #[test]
    fn requests_give_texts_in_turn() {
        let large: &[usize] = &[10; 50];
        assert_eq!(
            formed(&[large, &[10], &[10]], PACKED, 1_000),
            [(0, 10), (1, 10), (2, 10), (0, 10)]
        );
        assert_eq!(formed(&[], PACKED, 1_000), []);
    }

    #[test]
    fn what_does_not_fit_is_passed_over_for_what_does() {
        assert_eq!(formed(&[&[90], &[20, 5], &[5]], PACKED, 1_000), [(0, 90), (1, 5), (2, 5)]);
        assert_eq!(formed(&[&[40], &[60], &[30]], PADDED, 1_000), [(0, 40), (2, 30)]);
        assert_eq!(formed(&[&[120], &[1]], PACKED, 1_000), [(0, 120)], "for the engine to refuse");
    }

    #[test]
    fn short_texts_are_not_padded_to_several_times_their_length() {
        assert_eq!(formed(&[&[30], &[2], &[28]], PADDED, 1_000), [(0, 30), (2, 28)]);
        assert_eq!(formed(&[&[2], &[30], &[3]], PADDED, 1_000), [(0, 2), (2, 3)]);
        assert_eq!(formed(&[&[30], &[2], &[28]], PACKED, 1_000), [(0, 30), (1, 2), (2, 28)]);
    }

    #[test]
    fn few_texts_are_spread_over_idle_threads_and_many_fill_batches() {
        for (waiting, idle, tokens) in
            [(20, 1, 20), (20, 2, 10), (21, 2, 11), (20, 4, 5), (0, 2, 0), (5, 0, 5)]
        {
            assert_eq!(share(waiting, idle), tokens, "{waiting} tokens, {idle} threads");
        }
        assert_eq!(formed(&[&[10], &[10]], PACKED, share(20, 2)), [(0, 10)]);
        assert_eq!(formed(&[&[10], &[10]], PACKED, share(20, 1)), [(0, 10), (1, 10)]);
        assert_eq!(formed(&[&[3], &[2], &[1]], PADDED, share(6, 1)).len(), 3, "padding is no work");
        assert_eq!(formed(&[&[30], &[2]], PACKED, share(32, 2)), [(0, 30)], "none is cut in two");
        assert_eq!(formed(&[&[10; 50]], PACKED, share(500, 2)).len(), 4, "the batch is full");
    }
}
