//! Arithmetic on vectors that were asked for otherwise than the model gives them.

use lamplighter_engine::Gives;

use super::error::ApiError;
use super::fields::{Count, Field, optional};

/// How many numbers of each vector a request wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Dimensions {
    /// All of them if none.
    wanted: Option<usize>,
    normalized: bool,
}

/// What the field `dimensions` means for a model.
pub(super) fn dimensions(
    field: Option<Field<Count>>,
    gives: &Gives,
) -> Result<Dimensions, ApiError> {
    let normalized = matches!(gives, Gives::Vectors { normalized: true, .. });
    let has = gives.numbers();
    match optional(field, "dimensions")? {
        Some(Count(wanted)) if wanted > has => {
            let message = format!(
                "dimensions must be at most {has}, which is what the model gives; it is {wanted}"
            );
            Err(ApiError::invalid("dimensions", "invalid_value", message))
        }
        Some(Count(wanted)) => {
            Ok(Dimensions { wanted: (wanted < has).then_some(wanted), normalized })
        }
        None => Ok(Dimensions { wanted: None, normalized }),
    }
}

impl Dimensions {
    /// Makes a whole vector as long as it is wanted.
    pub(super) fn shorten(self, vector: &mut Vec<f32>) {
        if let Some(wanted) = self.wanted {
            shorten(vector, wanted, self.normalized);
        }
    }
}

/// The first `dimensions` numbers, with length 1 again if the whole vector had it.
///
/// A part of a vector is a good vector only for models that were trained for that
/// (<https://arxiv.org/abs/2205.13147>).
fn shorten(vector: &mut Vec<f32>, dimensions: usize, normalized: bool) {
    vector.truncate(dimensions);
    if normalized {
        normalize(vector);
    }
}

/// Gives a vector length 1; one of zeros stays as it is.
pub(super) fn normalize(vector: &mut [f32]) {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        for number in vector {
            #[expect(clippy::cast_possible_truncation, reason = "it is at most 1")]
            let scaled = (f64::from(*number) / length) as f32;
            *number = scaled;
        }
    }
}

/// The cosine between two vectors of the same length: between -1 and 1, 0 if one is all zeros.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 {
        #[expect(clippy::cast_possible_truncation, reason = "it is at most 1")]
        let cosine = (dot(a, b) / lengths).clamp(-1.0, 1.0) as f32;
        cosine
    } else {
        0.0
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vectors() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1e3_f32..1e3, 1..40)
    }

    proptest! {
        #[test]
        fn a_shortened_vector_points_where_its_beginning_did(vector in vectors(), at in 1..40_usize) {
            let at = at.min(vector.len());
            let mut short = vector.clone();
            shorten(&mut short, at, true);
            prop_assert_eq!(short.len(), at);
            let length = dot(&short, &short).sqrt();
            if vector[..at].iter().any(|number| *number != 0.0) {
                prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
                prop_assert!((cosine(&short, &vector[..at]) - 1.0).abs() < 1e-5);
            }
            let mut plain = vector.clone();
            shorten(&mut plain, at, false);
            prop_assert_eq!(&plain[..], &vector[..at]);
        }

        #[test]
        fn a_cosine_is_between_its_bounds(a in vectors(), b in vectors()) {
            prop_assert!((-1.0..=1.0).contains(&cosine(&a, &b)));
        }
    }

    #[test]
    fn zeros_have_no_direction() {
        let mut zeros = vec![0.0; 3];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
        assert!(cosine(&zeros, &[1.0, 2.0, 3.0]).abs() < f32::EPSILON);
        assert!((cosine(&[2.0, 0.0], &[-3.0, 0.0]) + 1.0).abs() < f32::EPSILON);
    }
}
