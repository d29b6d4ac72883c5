//! Arithmetic on vectors that were asked for otherwise than the model gives them.

use lamplighter_engine::Gives;

use super::error::ApiError;
use super::fields::{Count, Field, optional};

/// How many numbers of each vector a request wants; all of them if it does not say. A length that the
/// model does not offer is refused before anything is computed.
pub(super) fn dimensions(
    field: Option<Field<Count>>,
    gives: &Gives,
) -> Result<Option<usize>, ApiError> {
    let wanted = optional(field, "dimensions")?.map(|Count(wanted)| wanted);
    if let Some(wanted) = wanted {
        gives.offers(wanted).map_err(|refused| {
            ApiError::invalid("dimensions", "invalid_value", format!("dimensions: {refused}"))
        })?;
    }
    Ok(wanted)
}

/// A vector as long as it is wanted.
pub(super) fn shortened(
    vector: Vec<f32>,
    wanted: Option<usize>,
    gives: &Gives,
) -> Result<Vec<f32>, ApiError> {
    let Some(wanted) = wanted else { return Ok(vector) };
    gives.shorten(vector, wanted).map_err(|error| {
        tracing::error!(%error, "a vector could not be shortened to a length that is offered");
        ApiError::bug()
    })
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
