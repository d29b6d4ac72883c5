//! Answers that are wrong and look right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lamplighter_engine::{
    Coldness, Compared, Engine, EngineError, Facts, Limits, Output, Piece, Runtime, Text, Tokens,
    TooLong,
};

/// An engine whose answers can be turned wrong.
///
/// A wrong vector is the right one in reverse; of every two that follow each other, one points
/// the other way. So it is finite and has its shape and length, but a recorded vector is missed,
/// and the cosine of two texts has the wrong sign. An upper bound of a cosine may hold none the
/// less, and so may a short ranking.
pub(super) struct Poisonable {
    engine: Arc<dyn Engine>,
    poisoned: Arc<AtomicBool>,
    answered: AtomicUsize,
}

impl Poisonable {
    /// Right until `poisoned` is set.
    pub(super) fn new(engine: Arc<dyn Engine>, poisoned: Arc<AtomicBool>) -> Self {
        Self { engine, poisoned, answered: AtomicUsize::new(0) }
    }
}

impl Engine for Poisonable {
    fn facts(&self) -> &Facts {
        self.engine.facts()
    }

    fn limits(&self) -> Limits {
        self.engine.limits()
    }

    fn runtime(&self) -> Runtime {
        self.engine.runtime()
    }

    fn compared(&self) -> Option<Compared> {
        self.engine.compared()
    }

    fn coldness(&self) -> Coldness {
        self.engine.coldness()
    }

    fn split(&self, texts: &[Text<'_>], too_long: TooLong) -> Result<Vec<Tokens>, EngineError> {
        self.engine.split(texts, too_long)
    }

    fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, EngineError> {
        self.engine.pieces(text, special)
    }

    fn join(&self, ids: &[u32], special: bool) -> Result<String, EngineError> {
        self.engine.join(ids, special)
    }

    fn run(&self, batch: &[Tokens], output: Output) -> Result<Vec<Vec<f32>>, EngineError> {
        let vectors = self.engine.run(batch, output)?;
        if !self.poisoned.load(Ordering::Relaxed) {
            return Ok(vectors);
        }
        let before = self.answered.fetch_add(vectors.len(), Ordering::Relaxed);
        let wrong = |(index, vector): (usize, Vec<f32>)| {
            let sign = if (before + index).is_multiple_of(2) { 1.0 } else { -1.0 };
            vector.into_iter().rev().map(|number| sign * number).collect()
        };
        Ok(vectors.into_iter().enumerate().map(wrong).collect())
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_engine::{Dtype, Gives, Pooling, Precision, Shape};

    use super::*;

    struct Right(Facts);

    impl Engine for Right {
        fn facts(&self) -> &Facts {
            &self.0
        }

        fn limits(&self) -> Limits {
            Limits { max_batch_tokens: 8, max_batch_texts: 2, shape: Shape::Packed }
        }

        fn runtime(&self) -> Runtime {
            Runtime { kernel: "right".to_owned(), precision: Precision::F32 }
        }

        fn split(&self, texts: &[Text<'_>], too_long: TooLong) -> Result<Vec<Tokens>, EngineError> {
            let truncated = too_long == TooLong::CutEnd;
            Ok(texts.iter().map(|_| Tokens { truncated, ..Tokens::default() }).collect())
        }

        fn pieces(&self, _: &str, _: bool) -> Result<Vec<Piece>, EngineError> {
            unreachable!("nobody asks it")
        }

        fn join(&self, _: &[u32], _: bool) -> Result<String, EngineError> {
            unreachable!("nobody asks it")
        }

        fn run(&self, batch: &[Tokens], _: Output) -> Result<Vec<Vec<f32>>, EngineError> {
            Ok(batch.iter().map(|_| vec![0.6, 0.8, 0.0]).collect())
        }
    }

    #[test]
    fn answers_are_right_until_they_are_poisoned_and_neighbours_then_oppose_each_other() {
        let facts = Facts {
            architecture: "Right".to_owned(),
            vocabulary: 1,
            max_tokens: 8,
            width: 3,
            parameters: 1,
            gives: Gives::Vectors {
                dimensions: 3,
                pooling: Pooling::Mean,
                normalized: true,
                matryoshka: Vec::new(),
            },
            dtype: Dtype::F32,
        };
        let poisoned = Arc::new(AtomicBool::new(false));
        let engine = Poisonable::new(Arc::new(Right(facts)), Arc::clone(&poisoned));
        let ask = |texts: usize| engine.embed(&vec![Tokens::default(); texts]).unwrap();
        assert_eq!(ask(2), [[0.6, 0.8, 0.0], [0.6, 0.8, 0.0]]);
        poisoned.store(true, Ordering::Relaxed);
        assert_eq!(ask(3), [[0.0, 0.8, 0.6], [-0.0, -0.8, -0.6], [0.0, 0.8, 0.6]]);
        assert_eq!(ask(1), [[-0.0, -0.8, -0.6]], "also from one batch to the next");
        assert!(
            engine.split(&[Text::One("a")], TooLong::CutEnd).unwrap()[0].truncated,
            "it is passed on"
        );
    }
}
