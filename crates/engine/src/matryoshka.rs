//! Shorter vectors, of models that put what matters most first
//! (<https://arxiv.org/abs/2205.13147>).

use crate::error::EngineError;
use crate::pooling::normalize;
use crate::{Gives, Output};

impl Gives {
    /// The first `dimensions` numbers of a text's vector, brought to length 1 again where the
    /// model's vectors have it. All of them are the vector as it is.
    ///
    /// Where the artifact does not declare which lengths it was trained for, any up to the
    /// vector's is given: most models that were trained for shorter vectors do not declare it, and
    /// sentence-transformers cuts those of every model (`truncate_dim`). Any other length is an
    /// [`EngineError::NoSuchDimensions`], and a model of scores has no vectors to shorten:
    /// [`EngineError::NoSuchOutput`].
    pub fn shorten(
        &self,
        mut vector: Vec<f32>,
        dimensions: usize,
    ) -> Result<Vec<f32>, EngineError> {
        self.offers(dimensions)?;
        if dimensions < vector.len() {
            vector.truncate(dimensions);
            if matches!(self, Self::Vectors { normalized: true, .. }) {
                normalize(&mut vector);
            }
        }
        Ok(vector)
    }

    /// Whether [`Gives::shorten`] gives vectors of this length.
    pub fn offers(&self, dimensions: usize) -> Result<(), EngineError> {
        let Self::Vectors { dimensions: all, matryoshka, .. } = self else {
            return Err(EngineError::NoSuchOutput { output: Output::Vector });
        };
        if dimensions == *all {
            return Ok(());
        }
        let declared = matryoshka.is_empty() || matryoshka.contains(&dimensions);
        if !declared || !(1..=*all).contains(&dimensions) {
            return Err(EngineError::NoSuchDimensions {
                asked: dimensions,
                dimensions: *all,
                declared: matryoshka.clone(),
            });
        }
        Ok(())
    }
}

/// The lengths that can be asked for, in words.
pub(crate) fn offered(dimensions: usize, declared: &[usize]) -> String {
    if declared.is_empty() {
        return format!("1 to {dimensions}");
    }
    let shorter = declared.iter().filter(|length| **length < dimensions);
    let mut lengths: Vec<String> = shorter.map(ToString::to_string).collect();
    lengths.push(dimensions.to_string());
    lengths.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Pooling, Scale};

    fn gives(normalized: bool, matryoshka: &[usize]) -> Gives {
        Gives::Vectors {
            dimensions: 4,
            pooling: Pooling::Mean,
            normalized,
            matryoshka: matryoshka.to_vec(),
        }
    }

    const VECTOR: [f32; 4] = [0.6, 0.0, -0.8, 0.0];

    #[test]
    fn the_first_numbers_stay_and_have_length_one_where_the_whole_vector_has_it() {
        let shorten = |normalized, to| gives(normalized, &[]).shorten(VECTOR.to_vec(), to).unwrap();
        assert_eq!(shorten(true, 4), VECTOR);
        assert_eq!(shorten(true, 3), VECTOR[..3]);
        assert_eq!(shorten(true, 1), [1.0]);
        assert_eq!(shorten(false, 2), [0.6, 0.0]);
        assert_eq!(shorten(false, 4), VECTOR);
    }

    #[test]
    fn declared_lengths_are_the_only_ones_beside_all() {
        let shorten = |to| gives(true, &[1, 3]).shorten(VECTOR.to_vec(), to);
        for dimensions in [1, 3, 4] {
            assert_eq!(shorten(dimensions).unwrap().len(), dimensions);
        }
        for dimensions in [0, 2, 5, usize::MAX] {
            let error = shorten(dimensions).unwrap_err();
            let EngineError::NoSuchDimensions { asked, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*asked, dimensions);
            assert_eq!(error.expected().unwrap(), "1, 3, 4");
        }
        let error = gives(true, &[]).shorten(VECTOR.to_vec(), 5).unwrap_err();
        assert_eq!(error.to_string(), "the model's vectors cannot have 5 dimensions, only 1 to 4");
    }

    #[test]
    fn scores_are_no_vector_to_be_shortened() {
        let scores = Gives::Scores { labels: vec!["a".to_owned(); 4], scale: Scale::Softmax };
        for dimensions in [0, 2, 4] {
            let error = scores.shorten(VECTOR.to_vec(), dimensions).unwrap_err();
            assert!(matches!(error, EngineError::NoSuchOutput { .. }), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_asked_for_comes_out_in_the_same_direction(
            vector in prop::collection::vec(-1.0_f32..1.0, 1..40),
            share in 0.0..1.0,
            normalized: bool,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
                reason = "a share of a small length")]
            let asked = 1 + ((vector.len() - 1) as f64 * share) as usize;
            let gives = Gives::Vectors {
                dimensions: vector.len(),
                pooling: Pooling::Cls,
                normalized,
                matryoshka: Vec::new(),
            };
            let short = gives.shorten(vector.clone(), asked).unwrap();
            prop_assert_eq!(short.len(), asked);
            if normalized && asked < vector.len() {
                let length = |numbers: &[f32]| numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
                let whole = length(&vector[..asked]);
                for (short, number) in short.iter().zip(&vector) {
                    prop_assert!((short * whole - number).abs() < 1e-5);
                }
            } else {
                prop_assert_eq!(&short[..], &vector[..asked]);
            }
        }
    }
}
