use lamplighter_telemetry::metrics::documented;

use super::*;

fn embedder() -> ModelKey {
    ModelKey { name: "embedder".to_owned(), version: "1".to_owned() }
}

fn runtime() -> RuntimeReport {
    let (kernel, precision) = ("avx2-f32".to_owned(), "f32".to_owned());
    RuntimeReport { kernel, precision, compared: None, unaffordable: None }
}

/// Everything that can be counted has happened once.
fn all(registry: &mut Registry, model: &ModelKey) -> Metrics {
    let metrics = Metrics::new(registry);
    let second = Duration::from_secs(1);
    metrics.answered("/embed", 200, second);
    metrics.state(model, ModelState::Ready);
    metrics.runtime(model, &runtime());
    metrics.phase(model, PhaseEnd { phase: Phase::Read, took: second, bytes: 1 });
    metrics.cases(model, 1, 1);
    for answer in answers() {
        metrics.asked_again(model, &answer);
    }
    metrics.ran(model, 1, 1);
    metrics.failed(model);
    metrics.panicked(model);
    metrics.non_finite(model);
    let work = metrics.work();
    work.waiting(model, 1);
    work.queued(model, second);
    work.tokenized(model, second);
    work.ran(model, 1, 1, second);
    work.expired(model);
    work.cancelled(model);
    work.suspect(model, true);
    metrics
}

fn answers() -> [Answer; 4] {
    let problem = || "any".to_owned();
    let wrong = Answer::Wrong { expected: problem(), found: problem() };
    let failed = Answer::Failed { problem: problem() };
    [Answer::Right, wrong, failed, Answer::Inconclusive { problem: problem() }]
}

#[test]
fn every_figure_is_in_the_documentation_with_its_labels() {
    let mut registry = Registry::default();
    all(&mut registry, &embedder());
    let table = documented(&registry).unwrap();
    let page = include_str!("../../../../docs/metrics.md");
    assert!(page.contains(&table), "docs/metrics.md has to say:\n\n{table}");
}

#[test]
fn of_a_model_that_is_gone_no_figure_is_left() {
    let mut registry = Registry::default();
    let model = embedder();
    let metrics = all(&mut registry, &model);
    let text = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    assert!(text().contains("embedder"));
    metrics.forget(&model, Some(&runtime()));
    let text = text();
    let left: Vec<&str> = text.lines().filter(|line| line.contains("embedder")).collect();
    assert!(left.is_empty(), "{left:?}");
}
