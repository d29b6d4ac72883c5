//! In which precision a model is computed, as far as memory and its validation cases have a say in it.

use lamplighter_artifact::Artifact;
use lamplighter_engine::{Compared, Engine, Kernel, Precision, Processor, Runtime};
use lamplighter_protocol::{
    ComparedReport, Failure, ModelKey, RuntimeReport, ValidationMode, ValidationPlan,
};

use crate::cases;
use crate::memory::Reserved;

/// The processor as it is to be used for a model whose weights take so many bytes as 32-bit floats.
///
/// Where those are to be compared with others of half their size, both are in memory for a while. What
/// has no room for that computes in 32-bit floats, unless the precision was asked for.
pub(super) fn affordable(
    processor: Processor,
    bytes: u64,
    reserved: &mut Reserved,
    model: &ModelKey,
) -> Result<Processor, Failure> {
    if !processor.compares() {
        return Ok(processor);
    }
    match reserved.grow_to(bytes.saturating_add(bytes / 2)) {
        Ok(()) => Ok(processor),
        Err(exceeded) if processor.kernel.is_some() => Err(exceeded),
        Err(exceeded) => {
            tracing::warn!(
                %model,
                %exceeded,
                "there is no memory to compare lower precision with 32-bit floats: it computes in these"
            );
            Ok(Processor { kernel: Some(Kernel::fastest_in(Precision::F32)), ..processor })
        }
    }
}

/// Whether a model's answers to its validation cases are right. Cases that cannot be read are told of
/// when it is validated.
pub(super) fn is_right(engine: &dyn Engine, plan: &ValidationPlan, artifact: &Artifact) -> bool {
    if plan.mode == ValidationMode::Disabled {
        return true;
    }
    let cases = cases::collect(plan, artifact).unwrap_or_default();
    cases::ask(engine, &cases).cases.iter().all(|case| case.passed)
}

/// What the model computes with. That it does not compute as it was meant to is logged, too.
pub(super) fn runtime(engine: &dyn Engine, model: &ModelKey) -> RuntimeReport {
    let Runtime { kernel, precision } = engine.runtime();
    let compared = engine.compared();
    if let Some(compared) = &compared
        && !compared.will_do()
    {
        let why = if compared.is_near() {
            "its answers to validation cases are wrong"
        } else {
            "what the model gives is not near enough"
        };
        tracing::warn!(
            %model,
            kernel,
            other = compared.kernel,
            cosine = compared.cosine,
            at_least = Compared::LEAST,
            "in lower precision {why}: it computes in {precision}"
        );
    }
    let compared = compared.map(|Compared { kernel, cosine, is_wrong }| ComparedReport {
        kernel,
        cosine: format!("{cosine:.7}"),
        at_least: Compared::LEAST.to_string(),
        is_wrong,
    });
    RuntimeReport { kernel, precision: precision.to_string(), compared }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::Room;

    const MODEL: u64 = 60 << 20;

    #[test]
    fn lower_precision_needs_half_as_much_memory_again_or_is_given_up_unless_it_was_asked_for() {
        let [floats, pairs] = [Precision::F32, Precision::BF16].map(Kernel::fastest_in);
        let key = ModelKey { name: "embedder".to_owned(), version: "1".to_owned() };
        let found = |kernel, spare: u64| {
            let room =
                Arc::new(Room::new(Some(lamplighter_protocol::memory::WORKER + MODEL + spare)));
            let mut reserved = room.reserve(MODEL, 0).unwrap();
            let processor = Processor { kernel, ..Processor::with(floats) };
            let afforded = affordable(processor, MODEL, &mut reserved, &key);
            afforded.map(|processor| processor.kernel).map_err(|failure| failure.reason)
        };
        assert_eq!(found(Some(pairs), MODEL / 2), Ok(Some(pairs)));
        assert_eq!(
            found(Some(pairs), MODEL / 2 - 1),
            Err(lamplighter_protocol::Reason::HostMemoryExceeded)
        );
        assert_eq!(found(Some(floats), 0), Ok(Some(floats)));
        assert_eq!(found(None, MODEL / 2), Ok(None));
        let fallen_back = (Kernel::fastest() != floats).then_some(floats);
        assert_eq!(found(None, 0), Ok(fallen_back));
    }
}
