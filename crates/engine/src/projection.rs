//! A linear layer on a text's vector, after pooling: the layers of a head, or a `Dense` of
//! sentence-transformers. On whatever device the encoder runs, these run on the processor: they are
//! a thousandth of a text's work.

use crate::error::EngineError;
use crate::layout::Network;

/// As many sums as keep the processor's adders busy; always added up in the same order.
const LANES: usize = 16;

/// What a layer is, by the artifact's configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProjectionConfig {
    /// Its tensors are this one's `weight` and `bias`.
    pub(crate) tensor: String,
    /// Length of the vectors that go in.
    pub(crate) from: usize,
    /// Length of those that come out.
    pub(crate) to: usize,
    pub(crate) has_bias: bool,
    pub(crate) then: Then,
}

/// The function after a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    Nothing,
    /// The hyperbolic tangent.
    Tanh,
    /// The rectifier.
    Relu,
}

impl ProjectionConfig {
    /// Name and shape of its tensors.
    pub(crate) fn needed(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let weight = (format!("{}.weight", self.tensor), vec![self.to, self.from]);
        let bias = self.has_bias.then(|| (format!("{}.bias", self.tensor), vec![self.to]));
        std::iter::once(weight).chain(bias)
    }
}

/// A layer with its weights.
pub(crate) struct Projection {
    /// `[to, from]`.
    weight: Vec<f32>,
    from: usize,
    /// `[to]`.
    bias: Vec<f32>,
    then: Then,
}

impl Projection {
    /// Takes its tensors out of the network's.
    pub(crate) fn take(
        network: &mut Network,
        config: &ProjectionConfig,
    ) -> Result<Self, EngineError> {
        let ProjectionConfig { tensor, from, to, has_bias, then } = config;
        let weight = network.take_tensor(&format!("{tensor}.weight"))?;
        let bias = if *has_bias {
            network.take_tensor(&format!("{tensor}.bias"))?
        } else {
            vec![0.0; *to]
        };
        Ok(Self { weight, from: *from, bias, then: *then })
    }

    pub(crate) fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(self.from).zip(&self.bias);
        rows.map(|(row, bias)| self.then.of(dot(row, vector) + bias)).collect()
    }
}

impl Then {
    fn of(self, number: f32) -> f32 {
        match self {
            Self::Tanh => number.tanh(),
            // Not f32::max, which would hide a NaN.
            Self::Relu if number < 0.0 => 0.0,
            Self::Nothing | Self::Relu => number,
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer(then: Then) -> Projection {
        Projection { weight: vec![1.0, 2.0, -3.0, 0.5], from: 2, bias: vec![0.0, 1.0], then }
    }

    #[test]
    fn each_row_is_a_number_that_comes_out() {
        let vector = [2.0, 1.0];
        assert_eq!(layer(Then::Nothing).apply(&vector), [4.0, -4.5]);
        assert_eq!(layer(Then::Relu).apply(&vector), [4.0, 0.0]);
        assert_eq!(layer(Then::Tanh).apply(&vector), [4.0_f32.tanh(), (-4.5_f32).tanh()]);
    }

    #[test]
    fn no_function_hides_a_nan() {
        for then in [Then::Nothing, Then::Tanh, Then::Relu] {
            assert!(layer(then).apply(&[f32::NAN, 0.0]).iter().all(|number| number.is_nan()));
        }
    }

    #[test]
    fn a_layer_names_its_tensors_with_their_shapes() {
        let mut config = ProjectionConfig {
            tensor: "2_Dense/linear".to_owned(),
            from: 3,
            to: 5,
            has_bias: true,
            then: Then::Tanh,
        };
        let weight = ("2_Dense/linear.weight".to_owned(), vec![5, 3]);
        let bias = ("2_Dense/linear.bias".to_owned(), vec![5]);
        assert_eq!(config.needed().collect::<Vec<_>>(), [weight.clone(), bias]);
        config.has_bias = false;
        assert_eq!(config.needed().collect::<Vec<_>>(), [weight]);
    }

    proptest! {
        #[test]
        fn a_sum_of_products_is_that_of_double_precision(
            pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..100),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let wide: f64 = pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - wide).abs() < 1e-5);
        }
    }
}
