//! What the pods' own reports add: how far a start is, and what was loaded.

use kube::ResourceExt;
use lamplighter_api::ServedModel;
use lamplighter_protocol::{ModelReport, ModelState, Report, ResolveRecord};

use crate::reconcile::fetch::Fetched;
use crate::reconcile::observe::is_ready;

/// One sentence about the first pod that is on its way and tells, else about the first that does
/// not answer; none when nobody was asked.
pub(super) fn progress(fetched: &Fetched) -> Option<String> {
    told(fetched).or_else(|| silent(fetched))
}

fn silent(fetched: &Fetched) -> Option<String> {
    let mut starting = fetched.pods.iter().filter(|pod| !is_ready(pod)).map(|pod| pod.name_any());
    starting.find_map(|pod| {
        let error = fetched.reports.get(&pod)?.as_ref().err()?;
        Some(format!("how far pod {pod} is cannot be told: {error}"))
    })
}

fn told(fetched: &Fetched) -> Option<String> {
    fetched.reports.iter().filter_map(|(pod, report)| Some((pod, report.as_ref().ok()?))).find_map(
        |(pod, report)| {
            let model = report.models.iter().find(|model| is_on_its_way(model.state))?;
            Some(format!("pod {pod}: model {} {}", model.key, doing(model)))
        },
    )
}

fn is_on_its_way(state: ModelState) -> bool {
    match state {
        ModelState::Pending
        | ModelState::Loading
        | ModelState::WarmingUp
        | ModelState::Validating
        | ModelState::Unknown => true,
        ModelState::Ready | ModelState::Failed => false,
    }
}

fn doing(model: &ModelReport) -> String {
    let Some(running) = model.phases.last() else { return "has not begun".to_owned() };
    let phase = running.phase.as_str();
    if running.bytes == 0 {
        format!("is in phase {phase}")
    } else {
        format!("is in phase {phase}, {} MB so far", running.bytes / 1_000_000)
    }
}

/// The models as a pod of this revision reports them; empty unless one knows all of them.
pub(super) fn served_models(fetched: &Fetched, revision: &str) -> Vec<ServedModel> {
    fetched
        .reports
        .values()
        .filter_map(|report| report.as_ref().ok())
        .filter(|report| report.revision == revision)
        .find_map(facts)
        .unwrap_or_default()
}

/// The most that a pod of this revision had in memory until it was ready, in whole mebibytes; none
/// where none of those that were asked tells.
pub(super) fn memory(fetched: &Fetched, revision: &str) -> Option<String> {
    let reports = fetched.reports.values().filter_map(|report| report.as_ref().ok());
    let of_revision = reports.filter(|report| report.revision == revision);
    let bytes = of_revision.filter_map(|report| report.memory?.ready_bytes).max()?;
    Some(format!("{}Mi", bytes.div_ceil(1 << 20)))
}

/// A model as its record says.
pub(super) fn served_model(record: &ResolveRecord) -> ServedModel {
    let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    ServedModel {
        name: record.model.name.clone(),
        version: record.model.version.clone(),
        digest: record.digest.clone(),
        architecture: record.architecture.clone(),
        parameters: large(record.parameters),
        bytes: large(record.bytes),
    }
}

fn facts(report: &Report) -> Option<Vec<ServedModel>> {
    let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    report
        .models
        .iter()
        .map(|model| {
            let facts = model.facts.as_ref()?;
            Some(ServedModel {
                name: model.key.name.clone(),
                version: model.key.version.clone(),
                digest: facts.digest.clone(),
                architecture: facts.architecture.clone(),
                parameters: large(facts.parameters),
                bytes: large(facts.bytes),
            })
        })
        .collect()
}
