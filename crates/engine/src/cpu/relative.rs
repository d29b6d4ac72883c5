//! What is added to the score of two tokens for how far apart they are.
//!
//! Distances fall into buckets: near ones have one each, far ones share theirs, more the farther,
//! as in T5 (<https://arxiv.org/abs/1910.10683>) and as
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/mpnet/modeling_mpnet.py>
//! computes it.

/// From this distance on, all are in the last bucket.
const FAR: f32 = 128.0;

/// For each head, a number for each distance of a key from a query: from the farthest behind it,
/// over none, to the farthest before it.
pub(super) struct Relative {
    numbers: Vec<f32>,
    /// The longest text that has a number for each distance.
    longest: usize,
}

impl Relative {
    /// Of a table `[buckets, heads]`, for texts of up to `longest` tokens.
    pub(super) fn new(table: &[f32], heads: usize, longest: usize) -> Self {
        let rows = table.len() / heads;
        let number = |head: usize, bucket: usize| table[bucket * heads + head];
        let of_head = |head| buckets(longest, rows).map(move |bucket| number(head, bucket));
        let numbers = (0..heads).flat_map(of_head);
        Self { numbers: numbers.collect(), longest }
    }

    /// Adds to the scores that a head's queries give `length` keys. The first of the queries is the
    /// token `first`; the scores of each begin `stride` after the ones before.
    pub(super) fn add(
        &self,
        head: usize,
        first: usize,
        scores: &mut [f32],
        stride: usize,
        length: usize,
    ) {
        let of_head = &self.numbers[head * (2 * self.longest - 1)..];
        for (query, row) in scores.chunks_exact_mut(stride).enumerate() {
            let added = &of_head[self.longest - 1 - first - query..][..length];
            for (score, added) in row.iter_mut().zip(added) {
                *score += added;
            }
        }
    }
}

/// Of `rows` buckets, that of each distance of a key from a query in texts of up to `longest` tokens:
/// from the farthest behind it, over none, to the farthest before it.
pub(crate) fn buckets(longest: usize, rows: usize) -> impl Iterator<Item = usize> {
    let behind = (0..longest).rev().map(move |distance| bucket(distance, false, rows));
    behind.chain((1..longest).map(move |distance| bucket(distance, true, rows)))
}

/// The bucket of keys that are so many tokens behind a query, or ahead of it: half of them are for
/// each, and half of those for one distance alone.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "distances and buckets are small; the library rounds down, too"
)]
fn bucket(distance: usize, is_ahead: bool, buckets: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let within = if distance < exact {
        distance
    } else {
        let times = (distance as f32 / exact as f32).ln();
        let share = times / f64::from(FAR / exact as f32).ln() as f32;
        (exact + (share * (half - exact) as f32) as usize).min(half - 1)
    };
    if is_ahead { half + within } else { within }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 600 tokens behind a query to 600 ahead of it, as torch has them.
    const BUCKETS: &str = include_str!("../../tests/families/buckets.json");

    #[test]
    fn buckets_are_those_of_torch() {
        let expected: Vec<usize> = serde_json::from_str(BUCKETS).unwrap();
        let behind = (0..=600).rev().map(|distance| bucket(distance, false, 32));
        let found: Vec<usize> = behind.chain((1..=600).map(|at| bucket(at, true, 32))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_query_has_the_number_of_each_keys_distance() {
        const HEADS: usize = 2;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let table: Vec<f32> = (0..32 * HEADS).map(|at| at as f32).collect();
        let relative = Relative::new(&table, HEADS, 6);
        let (length, stride) = (4, 5);
        for head in 0..HEADS {
            let mut scores = vec![0.5; length * stride];
            let (begin, end) = scores.split_at_mut(3 * stride);
            relative.add(head, 0, begin, stride, length);
            relative.add(head, 3, end, stride, length);
            for query in 0..length {
                for key in 0..length {
                    let at = bucket(query.abs_diff(key), key > query, 32) * HEADS + head;
                    let found = scores[query * stride + key];
                    assert!((found - 0.5 - table[at]).abs() < 1e-6, "{query} {key}");
                }
                assert!((scores[query * stride + length] - 0.5).abs() < 1e-6, "padding is left");
            }
        }
    }
}
