//! One run of an engine, and what its faults are called outside.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lamplighter_engine::{Engine, EngineError, Output, Tokens};

use super::{RunError, panic_words};
use crate::batching::{Fault, Ran};

/// Runs those texts of a batch that stand at the places of `group`.
pub(super) fn run(engine: &dyn Engine, texts: &[Tokens], output: Output, group: &[usize]) -> Ran {
    let run = || {
        if group.len() == texts.len() {
            return engine.run(texts, output);
        }
        let some: Vec<Tokens> = group.iter().filter_map(|at| texts.get(*at).cloned()).collect();
        engine.run(&some, output)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(ended) => Ran::Ended(ended),
        Err(panic) => Ran::Panicked(panic_words(panic.as_ref())),
    }
}

/// What a request is told whose text at this place has no answer.
pub(super) fn error(fault: Fault, place: usize, output: Output) -> RunError {
    match fault {
        Fault::Text(mut error) => {
            if let EngineError::TooLong { index, .. } | EngineError::Untokenizable { index, .. } =
                &mut error
            {
                *index = place;
            }
            RunError::Engine(error)
        }
        Fault::NonFinite => RunError::NonFinite,
        Fault::NoSuchOutput => RunError::Engine(EngineError::NoSuchOutput { output }),
        Fault::Miscounted { texts, outputs } => RunError::Miscounted { texts, vectors: outputs },
        Fault::Panicked(words) => RunError::Lost(words),
        Fault::Failed(problem) => RunError::Failed(problem),
    }
}
