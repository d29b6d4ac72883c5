//! What is counted. Every name and label is here; labels are static words, never object names.

use std::time::Duration;

use lamplighter_plan::Seconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::reconcile::report::Decision;

/// The operator's metrics; clones share their numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    duration: Histogram,
    errors: Family<ErrorLabels, Counter>,
    violations: Family<Rule, Counter>,
    writes: Family<Write, Counter>,
    rollouts: Family<Rollout, Counter>,
    rollout_duration: Family<Rollout, Histogram, fn() -> Histogram>,
    phase_duration: Family<Phase, Histogram, fn() -> Histogram>,
    revision_failures: Family<FailureLabels, Counter>,
    managed: Gauge,
    leader: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Rollout {
    strategy: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Phase {
    phase: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct FailureLabels {
    class: &'static str,
}

/// From 1 s, a switch, to 9 h, a rollout with a long rollback window.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 16))
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ErrorLabels {
    category: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Rule {
    rule: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Write {
    kind: &'static str,
}

impl Metrics {
    /// Registers everything under `lamplighter_operator_`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            // From 1 ms, a reconcile without a write, to 32 s, one that waited for time-outs.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            errors: Family::default(),
            violations: Family::default(),
            writes: Family::default(),
            rollouts: Family::default(),
            rollout_duration: Family::new_with_constructor(seconds),
            phase_duration: Family::new_with_constructor(seconds),
            revision_failures: Family::default(),
            managed: Gauge::default(),
            leader: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("lamplighter_operator");
        registry.register("reconciles", "Reconciles, by outcome", metrics.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "Duration of a reconcile",
            metrics.duration.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Failed reconciles, by what failed and what that means for the next attempt",
            metrics.errors.clone(),
        );
        registry.register(
            "invariant_violations",
            "Plans that broke an invariant and were not carried out; more than none is a bug",
            metrics.violations.clone(),
        );
        registry.register(
            "writes",
            "Writes to the cluster by kind of object; none while nothing changes",
            metrics.writes.clone(),
        );
        registry.register(
            "rollouts",
            "Rollouts that are over, by strategy and by how they ended",
            metrics.rollouts.clone(),
        );
        registry.register(
            "rollout_duration_seconds",
            "From the beginning of a rollout to its end, the rollback window included",
            metrics.rollout_duration.clone(),
        );
        registry.register(
            "rollout_phase_duration_seconds",
            "How long each phase of a rollout took; CuttingOver is the time until the endpoints showed a switch",
            metrics.phase_duration.clone(),
        );
        registry.register(
            "revision_failures",
            "Failed attempts of revisions, by what that means for the next one",
            metrics.revision_failures.clone(),
        );
        registry.register(
            "managed_deployments",
            "ModelDeployments that are reconciled",
            metrics.managed.clone(),
        );
        registry.register("leader", "1 while this replica leads, else 0", metrics.leader.clone());
        metrics
    }

    /// A reconcile ended well.
    pub fn reconciled(&self, duration: Duration) {
        self.reconciles.get_or_create(&Outcome { outcome: "ok" }).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// A reconcile failed.
    pub fn failed(&self, duration: Duration, category: &'static str, class: &'static str) {
        self.reconciles.get_or_create(&Outcome { outcome: "error" }).inc();
        self.duration.observe(duration.as_secs_f64());
        self.errors.get_or_create(&ErrorLabels { category, class }).inc();
    }

    /// A plan broke an invariant.
    pub fn violated(&self, rule: &'static str) {
        self.violations.get_or_create(&Rule { rule }).inc();
    }

    /// Something was decided, and is remembered.
    pub fn decided(&self, decisions: &[Decision]) {
        let length = |took: Seconds| f64::from(took.0);
        for decision in decisions {
            match *decision {
                Decision::Finished { strategy, outcome, took } => {
                    let labels = Rollout { strategy, outcome };
                    self.rollouts.get_or_create(&labels).inc();
                    self.rollout_duration.get_or_create(&labels).observe(length(took));
                }
                Decision::Failed { class } => {
                    self.revision_failures.get_or_create(&FailureLabels { class }).inc();
                }
                Decision::Left { phase, took } => {
                    self.phase_duration.get_or_create(&Phase { phase }).observe(length(took));
                }
            }
        }
    }

    /// An object of this kind was written.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&Write { kind }).inc();
    }

    /// How many `ModelDeployment`s there are.
    pub fn set_managed(&self, count: usize) {
        self.managed.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    /// Guarantees: told-03.
    #[test]
    fn the_names_are_stable_because_dashboards_use_them() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.reconciled(Duration::from_millis(3));
        metrics.failed(Duration::from_secs(1), "WriteFailed", "Conflict");
        metrics.violated("ServingLowered");
        metrics.decided(&[
            Decision::Left { phase: "Baking", took: Seconds(600) },
            Decision::Finished { strategy: "BlueGreen", outcome: "Promoted", took: Seconds(700) },
            Decision::Failed { class: "Transient" },
        ]);
        metrics.wrote("Service");
        metrics.set_managed(7);
        metrics.set_leader(true);
        let table = lamplighter_telemetry::metrics::documented(&registry).unwrap();
        let page = include_str!("../../../docs/metrics.md");
        assert!(page.contains(&table), "docs/metrics.md has to say:\n\n{table}");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let mut samples: Vec<&str> =
            text.lines().filter(|line| !line.contains("_bucket{")).collect();
        // A family has no order.
        samples.sort_unstable();
        insta::assert_snapshot!(samples.join("\n"));
    }
}
