//! Whether a model of lower precision gives what it gives in 32-bit floats: asked of every model that is
//! loaded, because it depends on the weights.

use super::encoder::{Encoder, Scratch};
use super::kernel::Kernel;
use super::team::Share;
use crate::error::EngineError;
use crate::finish::Finish;
use crate::inputs::OutOfTable;
use crate::tokenizer::Tokenizer;
use crate::validation::cosine;
use crate::{Facts, Gives, Output, Tokens, warmup};

/// Texts of how many tokens, and how many of each: a few hundred tokens in all, which take far less
/// than a warm-up.
const SHAPES: [(usize, usize); 3] = [(8, 3), (24, 3), (96, 3)];

/// Runs texts with both kernels that the encoder was loaded for, and leaves it with the one of lower
/// precision. The smallest cosine, of all texts, between what the two made of one.
pub(super) fn measure(
    encoder: &mut Encoder,
    floats: Kernel,
    tokenizer: &Tokenizer,
    finish: &Finish,
    facts: &Facts,
) -> Result<f64, EngineError> {
    let shapes = SHAPES.map(|(length, texts)| (length.min(facts.max_tokens), texts));
    let lower = encoder.kernel();
    let mut scratch = Scratch::default();
    let mut least = 1.0_f64;
    for batch in warmup::samples(tokenizer, &shapes)? {
        let mut vectors = |kernel| {
            encoder.compute_with(kernel);
            vectors(encoder, &batch, &mut scratch, finish, facts)
        };
        let (found, expected) = (vectors(lower)?, vectors(floats)?);
        for (found, expected) in found.iter().zip(&expected) {
            least = least.min(nearness(found, expected));
        }
    }
    encoder.compute_with(lower);
    Ok(least)
}

/// Of each text the vector that it is given; where it is given scores, the one that these are made of.
fn vectors(
    encoder: &Encoder,
    batch: &[Tokens],
    scratch: &mut Scratch,
    finish: &Finish,
    facts: &Facts,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let width = encoder.width();
    let done = encoder.forward(batch, scratch, &Share::whole());
    done.ok_or_else(|| EngineError::run(OutOfTable))?;
    let mut rest = scratch.tokens();
    let vector = |text: &Tokens| {
        let (tokens, after) = rest.split_at(text.ids.len() * width);
        rest = after;
        match facts.gives {
            Gives::Vectors { .. } => finish.output(tokens, width, Output::Vector),
            Gives::Scores { .. } => finish.pooled(tokens, width),
        }
    };
    Ok(batch.iter().map(vector).collect())
}

/// Of two vectors that are the same it is 1, also if they are zero; where it is no number, 0.
fn nearness(found: &[f32], expected: &[f32]) -> f64 {
    if found == expected {
        return 1.0;
    }
    let cosine = cosine(found, expected);
    if cosine.is_finite() { cosine } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_is_a_number_whatever_the_vectors_hold() {
        for (found, expected, cosine) in [
            ([1.0, 0.0], [1.0, 0.0], 1.0),
            ([0.0, 0.0], [0.0, 0.0], 1.0),
            ([2.0, 0.0], [1.0, 0.0], 1.0),
            ([1.0, 0.0], [0.0, 1.0], 0.0),
            ([-1.0, 0.0], [1.0, 0.0], -1.0),
            ([0.0, 0.0], [1.0, 0.0], 0.0),
            ([f32::NAN, 0.0], [1.0, 0.0], 0.0),
            ([f32::INFINITY, 0.0], [1.0, 0.0], 0.0),
        ] {
            assert!((nearness(&found, &expected) - cosine).abs() < 1e-9, "{found:?}");
        }
    }
}
