//! Which texts of a request are tokenised at once.

use std::ops::Range;

/// A thread tokenises so much in about two milliseconds, and others wait no longer for it.
const BYTES: usize = 16 << 10;

/// Texts of these sizes in bytes, cut into runs that are tokenised one after the other or beside each
/// other. No run is empty; one with several texts is at most [`BYTES`] long.
pub(crate) fn pieces(sizes: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut of_last = 0_usize;
    for (at, size) in sizes.into_iter().enumerate() {
        of_last = of_last.saturating_add(size);
        match pieces.last_mut() {
            Some(piece) if of_last <= BYTES => piece.end = at + 1,
            _ => {
                pieces.push(at..at + 1);
                of_last = size;
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_all_texts_in_order_and_small_unless_a_text_is_large(
            sizes in prop::collection::vec(prop_oneof![9 => 0..5_000_usize, 1 => 0..100_000_usize], 0..200),
        ) {
            let pieces = pieces(sizes.iter().copied());
            let texts: Vec<usize> = pieces.iter().cloned().flatten().collect();
            prop_assert_eq!(texts, (0..sizes.len()).collect::<Vec<_>>());
            for (at, piece) in pieces.iter().enumerate() {
                let bytes: usize = sizes[piece.clone()].iter().sum();
                prop_assert!(!piece.is_empty() && (bytes <= BYTES || piece.len() == 1));
                if let Some(next) = pieces.get(at + 1) {
                    prop_assert!(bytes + sizes[next.start] > BYTES, "no smaller than it has to be");
                }
            }
        }
    }
}
