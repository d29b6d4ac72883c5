//! In which precision a model is computed, as far as memory and its validation cases have a say in it.

use lamplighter_artifact::Artifact;
use lamplighter_engine::{Compared, Engine, Kernel, Precision, Processor, Runtime};
use lamplighter_protocol::{
    ComparedReport, ModelKey, RuntimeReport, UnaffordableReport, ValidationMode, ValidationPlan,
};

use crate::cases;
use crate::memory::{self, Comparing, Room};

/// The processor as it is to be used for a model.
pub(super) struct Affordable {
    pub(super) processor: Processor,
    /// The right to have weights in memory twice, which whoever compares holds.
    pub(super) comparing: Option<Comparing>,
    /// What was given up for want of memory: the model computes in 32-bit floats.
    pub(super) given_up: Option<UnaffordableReport>,
}

/// What memory allows for a model of which so many bytes are there twice while they are compared.
pub(super) async fn affordable(
    processor: Processor,
    twice: u64,
    room: &Room,
    model: &ModelKey,
) -> Affordable {
    if !processor.compares() {
        return Affordable { processor, comparing: None, given_up: None };
    }
    let in_use = memory::usage().unwrap_or_default().now;
    let comparing = room.comparing(twice, in_use).await;
    if comparing.is_some() {
        return Affordable { processor, comparing, given_up: None };
    }
    let kernel = processor.kernel.unwrap_or_else(Kernel::fastest).name();
    tracing::warn!(
        %model,
        kernel,
        bytes = twice,
        "there is no memory to compare lower precision with 32-bit floats: it computes in these"
    );
    let floats = Kernel::fastest_in(Precision::F32);
    let processor = Processor { kernel: Some(floats), ..processor };
    let given_up = UnaffordableReport { kernel: kernel.to_owned(), bytes: twice };
    Affordable { processor, comparing: None, given_up: Some(given_up) }
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
pub(super) fn runtime(
    engine: &dyn Engine,
    unaffordable: Option<UnaffordableReport>,
    model: &ModelKey,
) -> RuntimeReport {
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
    RuntimeReport { kernel, precision: precision.to_string(), compared, unaffordable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lower_precision_is_given_up_where_there_is_no_room_to_compare_it() {
        let [floats, pairs] = [Precision::F32, Precision::BF16].map(Kernel::fastest_in);
        let key = ModelKey { name: "embedder".to_owned(), version: "1".to_owned() };
        let much = Room::new(None);
        let nothing = Room::new(Some(0));
        for (room, kernel, expected, compares) in [
            (&much, pairs, pairs, true),
            (&nothing, pairs, floats, false),
            (&much, floats, floats, false),
            (&nothing, floats, floats, false),
        ] {
            let processor = Processor::with(kernel);
            let found = affordable(processor, 1 << 20, room, &key).await;
            assert_eq!(found.processor.kernel, Some(expected));
            assert_eq!(found.comparing.is_some(), compares);
            let given_up = (expected != kernel)
                .then(|| UnaffordableReport { kernel: kernel.name().to_owned(), bytes: 1 << 20 });
            assert_eq!(found.given_up, given_up);
        }
    }
}
