//! From one vector for each token to one for the text.

use std::fmt;
use std::ops::Range;

/// How token vectors become one, by the names of
/// <https://github.com/huggingface/sentence-transformers/blob/v6.2.0/sentence_transformers/sentence_transformer/modules/pooling.py>.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Pooling {
    /// The first token's vector.
    Cls,
    /// The mean over all tokens.
    Mean,
    /// The largest value in each dimension.
    Max,
    /// The last token's vector.
    LastToken,
}

/// Whose vectors an output is made of: those of every token of a text, or of one of them alone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Wanted {
    #[default]
    Every,
    First,
    Last,
}

impl Wanted {
    /// Which ones, of a text of so many tokens.
    pub(crate) fn of(self, length: usize) -> Range<usize> {
        match self {
            Self::Every => 0..length,
            Self::First => 0..length.min(1),
            Self::Last => length.saturating_sub(1)..length,
        }
    }
}

impl Pooling {
    /// What it takes. Applied to these vectors alone it gives the same as to those of all tokens.
    pub(crate) fn wanted(self) -> Wanted {
        match self {
            Self::Cls => Wanted::First,
            Self::Mean | Self::Max => Wanted::Every,
            Self::LastToken => Wanted::Last,
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Cls, Self::Mean, Self::Max, Self::LastToken]
            .into_iter()
            .find(|pooling| pooling.name() == name)
    }

    /// The name in the files of sentence-transformers, for example `mean`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::LastToken => "lasttoken",
        }
    }

    /// One vector of `dimensions` from those of a text's tokens, one after the other and
    /// without padding. There is at least one.
    pub(crate) fn apply(self, tokens: &[f32], dimensions: usize) -> Vec<f32> {
        let mut rows = tokens.chunks_exact(dimensions);
        let mut vector = rows.next().map(<[f32]>::to_vec).unwrap_or_default();
        match self {
            Self::Cls => {}
            Self::LastToken => {
                if let Some(last) = rows.next_back() {
                    vector.copy_from_slice(last);
                }
            }
            Self::Max => {
                for row in rows {
                    for (largest, value) in vector.iter_mut().zip(row) {
                        // Not f32::max, which would hide a NaN.
                        if !(*value <= *largest || largest.is_nan()) {
                            *largest = *value;
                        }
                    }
                }
            }
            Self::Mean => {
                let mut count = 1.0;
                for row in rows {
                    count += 1.0;
                    for (sum, value) in vector.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
                for sum in &mut vector {
                    *sum /= count;
                }
            }
        }
        vector
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Brings a vector to length 1; a zero vector stays one. The bound is that of
/// <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.normalize.html>.
pub(crate) fn normalize(vector: &mut [f32]) {
    let squares: f32 = vector.iter().map(|value| value * value).sum();
    let length = squares.sqrt().max(1e-12);
    for value in vector {
        *value /= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [f32; 6] = [1.0, -8.0, 2.0, -4.0, 6.0, -6.0];

    #[test]
    fn each_pooling_takes_what_its_name_says() {
        for (name, expected) in [
            ("cls", [1.0, -8.0]),
            ("mean", [3.0, -6.0]),
            ("max", [6.0, -4.0]),
            ("lasttoken", [6.0, -6.0]),
        ] {
            let pooling = Pooling::from_name(name).unwrap();
            assert_eq!(pooling.apply(&TOKENS, 2), expected, "{name}");
            assert_eq!(pooling.apply(&TOKENS[..2], 2), TOKENS[..2], "{name} of one token");
            assert_eq!(pooling.to_string(), name);
        }
        assert_eq!(Pooling::from_name("weightedmean"), None);
    }

    #[test]
    fn what_a_pooling_wants_is_all_that_it_looks_at() {
        let (count, all) = (TOKENS.len() / 2, TOKENS);
        for name in ["cls", "mean", "max", "lasttoken"] {
            let pooling = Pooling::from_name(name).unwrap();
            let wanted = pooling.wanted().of(count);
            let alone = &all[2 * wanted.start..2 * wanted.end];
            assert_eq!(pooling.apply(alone, 2), pooling.apply(&all, 2), "{name}");
            assert_eq!(wanted.len() == 1, ["cls", "lasttoken"].contains(&name), "{name}");
        }
        for wanted in [Wanted::Every, Wanted::First, Wanted::Last] {
            assert_eq!((wanted.of(1), wanted.of(0)), (0..1, 0..0), "{wanted:?}");
        }
    }

    #[test]
    fn the_largest_value_does_not_hide_a_nan() {
        for tokens in [[1.0, f32::NAN, 2.0], [f32::NAN, 1.0, 2.0], [1.0, 2.0, f32::NAN]] {
            assert!(Pooling::Max.apply(&tokens, 1)[0].is_nan(), "{tokens:?}");
        }
    }

    #[test]
    fn normalising_gives_length_one_and_leaves_zero_alone() {
        for (mut vector, expected) in
            [(vec![3.0, -4.0], vec![0.6, -0.8]), (vec![0.0, 0.0], vec![0.0, 0.0])]
        {
            normalize(&mut vector);
            assert_eq!(vector, expected);
        }
    }
}
