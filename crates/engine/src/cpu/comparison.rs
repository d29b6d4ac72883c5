//! Whether a model of lower precision gives what it gives in 32-bit floats: asked of every model that is
//! loaded, because it depends on the weights.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{slice, thread};

use super::encoder::{Encoder, Run, Scratch};
use super::kernel::Kernel;
use super::team::Share;
use crate::error::EngineError;
use crate::finish::Finish;
use crate::inputs::OutOfTable;
use crate::tokenizer::Tokenizer;
use crate::validation::cosine;
use crate::{Facts, Gives, Output, Tokens, warmup};

/// Texts of how many tokens, and how many of each: at most as long as the model reads, and about a
/// thousand tokens in all, which take far less than a warm-up. The more tokens there are, the more
/// rounding errors a vector is made of, and the more attention looks away from.
const SHAPES: [(usize, usize); 4] = [(8, 3), (24, 3), (96, 3), (512, 1)];

/// Runs texts with both kernels that the encoder was loaded for, on all cores that this process may use: its
/// own, which is of lower precision, and that of 32-bit floats. The smallest cosine, of all texts, between
/// what the two made of one.
pub(super) fn measure(
    encoder: &Encoder,
    floats: Kernel,
    tokenizer: &Tokenizer,
    finish: &Finish,
    facts: &Facts,
) -> Result<f64, EngineError> {
    let mut texts: Vec<Tokens> =
        batches(tokenizer, facts.max_tokens, &facts.gives)?.into_iter().flatten().collect();
    texts.sort_by_key(|text| Reverse(text.ids.len()));
    // What takes longest comes first, so that no thread is left with it at the end.
    let runs = [floats, encoder.kernel()].map(|kernel| encoder.with(kernel));
    let each: Vec<_> = texts.iter().flat_map(|text| runs.map(|run| (run, text))).collect();
    let vectors = vectors(&each, finish, facts)?;
    let both = vectors.as_chunks::<2>().0.iter();
    Ok(both.fold(1.0_f64, |least, [expected, found]| least.min(nearness(found, expected))))
}

/// Of each text its vector, as a run makes it; each by the next thread that has nothing to do.
fn vectors(
    each: &[(Run<'_>, &Tokens)],
    finish: &Finish,
    facts: &Facts,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(each.len());
    let next = AtomicUsize::new(0);
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        Some((at, each.get(at)?))
    };
    let work = || {
        let (mut scratch, mut done) = (Scratch::default(), Vec::new());
        while let Some((at, (run, text))) = take() {
            done.push((at, vector(*run, text, &mut scratch, finish, facts)?));
        }
        Ok::<_, EngineError>(done)
    };
    let mut all = thread::scope(|scope| {
        let threads: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work()?;
        for thread in threads {
            all.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok::<_, EngineError>(all)
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, vector)| vector).collect())
}

/// What is run: texts, and pairs for a model that may be asked for them.
fn batches(
    tokenizer: &Tokenizer,
    max_tokens: usize,
    gives: &Gives,
) -> Result<Vec<Vec<Tokens>>, EngineError> {
    let shapes = SHAPES.map(|(length, texts)| (length.min(max_tokens), texts));
    let mut batches = warmup::samples(tokenizer, &shapes)?;
    if matches!(gives, Gives::Scores { .. }) {
        batches.push(warmup::pairs(tokenizer)?);
    }
    Ok(batches)
}

/// The vector that a text is given; where it is given scores, the one that these are made of.
fn vector(
    run: Run<'_>,
    text: &Tokens,
    scratch: &mut Scratch,
    finish: &Finish,
    facts: &Facts,
) -> Result<Vec<f32>, EngineError> {
    let wanted = finish.wanted(facts.gives.output());
    let done = run.forward(slice::from_ref(text), wanted, scratch, &Share::whole());
    done.ok_or_else(|| EngineError::run(OutOfTable))?;
    let (tokens, width) = (scratch.tokens(), run.width());
    Ok(match facts.gives {
        Gives::Vectors { .. } => finish.output(tokens, width, Output::Vector),
        Gives::Scores { .. } => finish.pooled(tokens, width),
    })
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
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::recipe::Recipe;

    #[test]
    fn the_longest_text_is_compared_too_and_pairs_of_a_model_that_reads_them() {
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
        for (family, reads_pairs) in [("bert-mean", false), ("bert-reranker", true)] {
            let dir = families.join(family);
            let config = Config::read(&dir).unwrap();
            let recipe = Recipe::read(&dir, &config).unwrap();
            let tokenizer = Tokenizer::read(&dir, &config.encoder, &recipe).unwrap();
            for (max_tokens, longest) in [(12, 12), (300, 300), (512, 512), (8192, 512)] {
                let batches = batches(&tokenizer, max_tokens, &recipe.gives).unwrap();
                let texts: Vec<&Tokens> = batches.iter().flatten().collect();
                let lengths = texts.iter().map(|text| text.ids.len());
                assert_eq!(lengths.clone().max(), Some(longest.max(pairs_length(&texts))));
                assert!(lengths.sum::<usize>() < 1_200, "it stays cheap");
                let pairs = texts.iter().filter(|text| text.second.is_some()).count();
                assert_eq!(pairs, if reads_pairs { 3 } else { 0 }, "{family}");
            }
        }
    }

    /// Of pairs, the tokenizer knows itself how long they may be.
    fn pairs_length(texts: &[&Tokens]) -> usize {
        let pairs = texts.iter().filter(|text| text.second.is_some());
        pairs.map(|pair| pair.ids.len()).max().unwrap_or_default()
    }

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
