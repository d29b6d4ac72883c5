//! From the vectors of a text's tokens to what the model gives for the text.

use crate::error::EngineError;
use crate::layout::Network;
use crate::pooling::{Wanted, normalize};
use crate::projection::Projection;
use crate::recipe::Recipe;
use crate::{Gives, Output, Pooling};

/// What happens to a text behind the encoder, with the weights that it takes.
pub(crate) struct Finish {
    pooling: Pooling,
    projections: Vec<Projection>,
    normalize: bool,
}

impl Finish {
    /// Takes its tensors out of the network's, which leaves the encoder's.
    pub(crate) fn take(network: &mut Network, recipe: &Recipe) -> Result<Self, EngineError> {
        let projections = recipe.projections.iter();
        Ok(Self {
            pooling: recipe.pooling,
            projections: projections
                .map(|config| Projection::take(network, config))
                .collect::<Result<_, _>>()?,
            normalize: recipe.normalize,
        })
    }

    /// Whose vectors an output is made of.
    pub(crate) fn wanted(&self, output: Output) -> Wanted {
        match output {
            Output::TokenVectors => Wanted::Every,
            Output::Vector | Output::Scores => self.pooling.wanted(),
        }
    }

    /// What projections and heads begin with, from the vectors of a text's tokens, each `width` long.
    pub(crate) fn pooled(&self, tokens: &[f32], width: usize) -> Vec<f32> {
        self.pooling.apply(tokens, width)
    }

    /// A text's output from the vectors of its tokens, each `width` long.
    pub(crate) fn output(&self, tokens: &[f32], width: usize, output: Output) -> Vec<f32> {
        if output == Output::TokenVectors {
            return tokens.to_vec();
        }
        let pooled = self.pooled(tokens, width);
        let mut vector = self.projections.iter().fold(pooled, |vector, layer| layer.apply(&vector));
        if self.normalize {
            normalize(&mut vector);
        }
        vector
    }
}

impl Gives {
    /// What comes out for a text that nobody asks anything special of.
    pub fn output(&self) -> Output {
        match self {
            Self::Vectors { .. } => Output::Vector,
            Self::Scores { .. } => Output::Scores,
        }
    }

    /// Whether the model has this output.
    pub(crate) fn check(&self, output: Output) -> Result<(), EngineError> {
        match (self, output) {
            (Self::Vectors { .. }, Output::Vector | Output::TokenVectors)
            | (Self::Scores { .. }, Output::Scores) => Ok(()),
            _ => Err(EngineError::NoSuchOutput { output }),
        }
    }
}
