//! What is counted. Every name and label is here; labels are static words, never object names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The operator's metrics; clones share their numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    duration: Histogram,
    errors: Family<ErrorLabels, Counter>,
    violations: Family<Rule, Counter>,
    writes: Family<Write, Counter>,
    managed: Gauge,
    leader: Gauge,
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

    #[test]
    fn the_names_are_stable_because_dashboards_use_them() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.reconciled(Duration::from_millis(3));
        metrics.failed(Duration::from_secs(1), "WriteFailed", "Conflict");
        metrics.violated("ServingLowered");
        metrics.wrote("Service");
        metrics.set_managed(7);
        metrics.set_leader(true);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let mut samples: Vec<&str> =
            text.lines().filter(|line| !line.contains("_bucket{")).collect();
        // A family has no order.
        samples.sort_unstable();
        insta::assert_snapshot!(samples.join("\n"));
    }
}
