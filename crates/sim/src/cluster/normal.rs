//! One state for all that no decision can tell apart.

use std::collections::BTreeMap;

use lamplighter_plan::rollout::health::TOLERATED_EXITS;
use lamplighter_plan::rollout::{Class, Phase, Promotion, Resolved, Stage};
use lamplighter_plan::{PodName, Seconds};

use super::{Cluster, OLDEST};

impl Cluster {
    /// Forgets what no decision can tell apart, so that states which differ in nothing else are
    /// one state.
    pub fn normalise(&mut self) {
        self.compress_epochs();
        let is_rolling = matches!(self.world.memory.phase, Phase::Rolling(_));
        let is_promoted_by_hand = matches!(self.world.policy.promotion, Promotion::Manual(_));
        let sheds = matches!(
            self.world.memory.phase,
            Phase::CuttingOver(..)
                | Phase::Shedding(..)
                | Phase::Baking(..)
                | Phase::Reverting(..)
                | Phase::Clearing(..)
        );
        self.age_failures();
        let candidate = self.world.memory.rollout().map(|rollout| rollout.to.revision.clone());
        for (id, found) in &mut self.world.revisions {
            let Some(workload) = &mut found.workload else { continue };
            // Only a candidate is ever late.
            let is_whole = candidate.as_ref() != Some(id)
                || (workload.ready() >= workload.replicas && workload.refused.is_none());
            for pod in workload.pods.values_mut() {
                let is_asked = match pod.stage {
                    Stage::Unschedulable(_) => candidate.as_ref() == Some(id),
                    Stage::Starting => false,
                    Stage::Ready => !is_whole,
                    Stage::Leaving => is_rolling,
                };
                if !is_asked {
                    pod.since = OLDEST;
                }
                if !is_promoted_by_hand {
                    pod.validated = Seconds(0);
                }
                if !sheds {
                    pod.connected = pod.routed;
                }
                pod.exits = pod.exits.min(TOLERATED_EXITS + 1);
            }
            if is_whole {
                workload.since = OLDEST;
            }
            if candidate.as_ref() != Some(id)
                && let Some(refused) = &mut workload.refused
            {
                refused.since = OLDEST;
            }
        }
        self.rename();
    }

    /// The age of a failure that is not forgiven makes no difference.
    fn age_failures(&mut self) {
        let attempts = self.world.policy.retry.attempts;
        for (id, failed) in &mut self.world.memory.failed {
            let is_read = self
                .world
                .revisions
                .get(id)
                .is_some_and(|found| matches!(found.resolved, Resolved::Known(_)));
            let is_final = match failed.class {
                Class::Deterministic | Class::Withdrawn => !failed.released,
                Class::Transient => !failed.released && failed.attempts >= attempts,
                Class::Capacity | Class::Outside => false,
            };
            if is_read && is_final {
                failed.since = OLDEST;
            }
            failed.attempts = failed.attempts.min(attempts);
        }
    }

    /// Which of two pods that are alike has which name makes no difference.
    fn rename(&mut self) {
        let mut names = BTreeMap::new();
        let leaves = self.world.memory.withdrawn().map(|withdrawn| withdrawn.pod.clone());
        for (id, found) in &mut self.world.revisions {
            let Some(workload) = &mut found.workload else { continue };
            let mut pods: Vec<_> = std::mem::take(&mut workload.pods)
                .into_iter()
                .map(|(name, pod)| (leaves.as_ref() == Some(&name), pod, name))
                .collect();
            pods.sort_unstable();
            for (ordinal, (_, pod, old)) in pods.into_iter().enumerate() {
                let name = format!("{id}{ordinal}");
                let name = if old.as_str() == name { old.clone() } else { PodName::new(name) };
                names.insert(old, name.clone());
                workload.pods.insert(name, pod);
            }
        }
        for memory in [Some(&mut self.world.memory), self.old.as_mut()].into_iter().flatten() {
            if let Phase::Rolling(rolling) = &mut memory.phase
                && let Some(withdrawn) = &mut rolling.withdrawn
            {
                withdrawn.pod =
                    names.get(&withdrawn.pod).cloned().unwrap_or_else(|| PodName::new("gone"));
            }
        }
    }

    /// Only the order of epochs matters.
    fn compress_epochs(&mut self) {
        let old = self.old.as_ref().map(|old| old.epoch);
        let mut order: Vec<u64> = self.written.values().copied().collect();
        order.extend([self.selected, self.world.memory.epoch]);
        order.extend(old);
        order.sort_unstable();
        order.dedup();
        let rank =
            |epoch: u64| order.iter().position(|known| *known == epoch).map_or(0, |at| at as u64);
        for epoch in self.written.values_mut() {
            *epoch = rank(*epoch);
        }
        self.selected = rank(self.selected);
        self.world.memory.epoch = rank(self.world.memory.epoch);
        if let Some(old) = &mut self.old {
            old.epoch = rank(old.epoch);
        }
    }
}
