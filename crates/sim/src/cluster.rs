//! The cluster: what Kubernetes and the workers do, without what no decision can see.
//!
//! | part | in the simulation |
//! |---|---|
//! | ReplicaSet controller | makes missing pods, and takes surplus ones: not ready before ready, withdrawn before others, as `pod-deletion-cost` has it, and those that became ready last |
//! | scheduler | has so many places; a pod that is leaving holds its place |
//! | worker | passes its gates, fails them, or gives wrong answers later, by its revision's [`Nature`] |
//! | endpoints | follow labels and readiness, later |
//! | time | ages, up to the oldest that makes a difference |

use std::collections::BTreeMap;

use lamplighter_plan::rollout::health::TOLERATED_EXITS;
use lamplighter_plan::rollout::{
    Action, Class, Command, Environment, Memory, Phase, Plan, Pod, Promotion, Resolved, Stage,
    Workload, World,
};
use lamplighter_plan::{Failure, FailureClass, PodName, RevisionId, Seconds};

/// The oldest age that makes a difference, with limits of one second.
pub const OLDEST: Seconds = Seconds(2);

/// How a revision behaves.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Nature {
    /// Its pods become ready and stay so.
    Good,
    /// Its models cannot be read.
    Unreadable,
    /// Its pods fail their gates.
    Broken,
    /// Its pods never get through their gates.
    Endless,
    /// Its pods give wrong answers some time after they began to serve.
    Poisoned,
}

/// A cluster with one deployment.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cluster {
    /// What a decision sees of it.
    pub world: World,
    /// The epochs that objects were written under: the workloads', by revision.
    pub written: BTreeMap<RevisionId, u64>,
    /// The epoch that the Service was written under.
    pub selected: u64,
    /// The memory of an operator that lost its lease and does not know.
    pub old: Option<Memory>,
    /// How the revisions behave.
    pub nature: BTreeMap<RevisionId, Nature>,
    /// How many pods find a place.
    pub places: u32,
}

impl Cluster {
    /// What an operator sees that has this memory.
    pub fn seen_with(&self, memory: &Memory) -> World {
        let newest = self.written.values().copied().chain([self.selected]).max().unwrap_or(0);
        World { memory: memory.clone(), overtaken: newest > memory.epoch, ..self.world.clone() }
    }

    /// What the operator that leads sees.
    pub fn seen(&self) -> World {
        self.seen_with(&self.world.memory)
    }

    /// Writes the memory, as one guarded write. `of` is the memory that was decided on.
    pub fn remember(&mut self, of: &Memory, plan: &Plan) {
        if *of == self.world.memory {
            self.world.memory = plan.memory.clone();
        }
    }

    /// Does what an action says, if it finds what it expects.
    pub fn act(&mut self, action: &Action, epoch: u64) {
        match action {
            Action::Resolve(revision) => self.resolve(revision),
            Action::Create { placed, replicas } => {
                let Some(found) = self.world.revisions.get_mut(&placed.revision) else { return };
                if found.workload.is_none() {
                    found.workload = Some(Workload {
                        environment: placed.environment,
                        replicas: *replicas,
                        since: Seconds(0),
                        pods: BTreeMap::new(),
                        refused: None,
                    });
                    self.written.insert(placed.revision.clone(), epoch);
                }
            }
            Action::Scale { revision, from, to } => {
                let found = self.world.revisions.get_mut(revision);
                let Some(workload) = found.and_then(|found| found.workload.as_mut()) else {
                    return;
                };
                if workload.replicas == *from {
                    workload.replicas = *to;
                    workload.since = Seconds(0);
                    self.written.insert(revision.clone(), epoch);
                }
            }
            Action::Select { from, to } => {
                if self.world.service.selects == *from {
                    self.world.service.selects = Some(*to);
                    self.selected = epoch;
                }
            }
            Action::Withdraw(name) => self.label(name, false),
            Action::Restore(name) => self.label(name, true),
            Action::Shed(revision) => self.shed(revision),
            Action::Validate(revision) => {
                for pod in self.pods_of(revision) {
                    pod.validated = Seconds(0);
                }
            }
            Action::Delete(revision) => {
                if let Some(found) = self.world.revisions.get_mut(revision)
                    && found.workload.as_ref().is_some_and(Workload::is_empty)
                {
                    found.workload = None;
                    self.written.remove(revision);
                }
            }
            Action::Forget(_) => {}
        }
    }

    /// Makes missing pods and takes surplus ones, and gives places to those that wait for one.
    pub fn control(&mut self) {
        for (id, found) in &mut self.world.revisions {
            if let Some(workload) = &mut found.workload {
                fill(id, workload);
                thin(workload);
            }
        }
        self.schedule();
    }

    /// The endpoints follow labels and readiness.
    pub fn publish(&mut self) {
        let selects = self.world.service.selects;
        for workload in workloads(&mut self.world) {
            let environment = workload.environment;
            for pod in workload.pods.values_mut() {
                pod.routed =
                    pod.stage == Stage::Ready && pod.traffic && selects == Some(environment);
                pod.connected |= pod.routed;
            }
        }
    }

    /// Whether the endpoints say what is.
    pub fn is_published(&self) -> bool {
        let mut published = self.clone();
        published.publish();
        published.world == self.world
    }

    /// The resolving pod ends.
    pub fn resolved(&mut self, revision: &RevisionId) {
        let nature = self.nature.get(revision).copied();
        let Some(found) = self.world.revisions.get_mut(revision) else { return };
        found.resolved = match nature {
            Some(Nature::Unreadable) => {
                let failure = failure("ArtifactNotFound", FailureClass::Deterministic);
                Resolved::Failed(failure, Seconds(0))
            }
            Some(Nature::Good | Nature::Broken | Nature::Endless | Nature::Poisoned) | None => {
                Resolved::Known(crate::scenario::facts(revision))
            }
        };
    }

    /// A second passes.
    pub fn tick(&mut self) {
        let older = |age: &mut Seconds| *age = Seconds(age.0.saturating_add(1)).min(OLDEST);
        for found in self.world.revisions.values_mut() {
            if let Resolved::Running(since) | Resolved::Failed(_, since) = &mut found.resolved {
                older(since);
            }
            let Some(workload) = &mut found.workload else { continue };
            older(&mut workload.since);
            for pod in workload.pods.values_mut() {
                older(&mut pod.since);
                older(&mut pod.validated);
            }
        }
        let memory = &mut self.world.memory;
        for failed in memory.failed.values_mut() {
            older(&mut failed.since);
        }
        match &mut memory.phase {
            Phase::Stable => {}
            Phase::Gating(_, since)
            | Phase::AwaitingPromotion(_, since)
            | Phase::CuttingOver(_, since)
            | Phase::Shedding(_, since)
            | Phase::Baking(_, since)
            | Phase::Reverting(_, since)
            | Phase::Clearing(_, since) => older(since),
            Phase::Rolling(rolling) => {
                older(&mut rolling.since);
                if let Some(out) = rolling.withdrawn.as_mut().and_then(|left| left.out.as_mut()) {
                    older(out);
                }
            }
        }
    }

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
        }
        self.rename();
    }

    /// The age of a failure that is not forgiven makes no difference.
    fn age_failures(&mut self) {
        let policy = self.world.policy.clone();
        for (id, failed) in &mut self.world.memory.failed {
            let is_read = self
                .world
                .revisions
                .get(id)
                .is_some_and(|found| matches!(found.resolved, Resolved::Known(_)));
            let is_final = match failed.class {
                Class::Deterministic | Class::Withdrawn => !failed.released,
                Class::Transient => !failed.released && failed.attempts >= policy.retry.attempts,
                Class::Capacity => false,
            };
            if is_read && is_final {
                failed.since = OLDEST;
            }
            failed.attempts = failed.attempts.min(policy.retry.attempts);
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
                let name = PodName::new(format!("{id}{ordinal}"));
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

    /// A pod by its name.
    pub fn pod(&mut self, name: &PodName) -> Option<&mut Pod> {
        workloads(&mut self.world).find_map(|workload| workload.pods.get_mut(name))
    }

    /// A command that was not given before.
    pub fn command(
        &mut self,
        kind: lamplighter_plan::rollout::CommandKind,
        of: Option<&RevisionId>,
    ) {
        let command = Command { token: "once".to_owned(), revision: of.cloned() };
        self.world.goal.commands.insert(kind, command);
    }

    fn resolve(&mut self, revision: &RevisionId) {
        if let Some(found) = self.world.revisions.get_mut(revision)
            && !matches!(found.resolved, Resolved::Known(_) | Resolved::Running(_))
        {
            found.resolved = Resolved::Running(Seconds(0));
        }
    }

    fn label(&mut self, name: &PodName, traffic: bool) {
        if let Some(pod) = self.pod(name) {
            pod.traffic = traffic;
        }
    }

    fn shed(&mut self, revision: &RevisionId) {
        for pod in self.pods_of(revision) {
            pod.connected = pod.routed;
        }
    }

    fn pods_of(&mut self, revision: &RevisionId) -> impl Iterator<Item = &mut Pod> {
        let found = self.world.revisions.get_mut(revision);
        let workload = found.and_then(|found| found.workload.as_mut());
        workload.into_iter().flat_map(|workload| workload.pods.values_mut())
    }

    fn schedule(&mut self) {
        let mut free = self.places;
        for workload in workloads(&mut self.world) {
            for pod in workload.pods.values_mut() {
                if !matches!(pod.stage, Stage::Unschedulable(_)) {
                    free = free.saturating_sub(1);
                }
            }
        }
        for workload in workloads(&mut self.world) {
            for pod in workload.pods.values_mut() {
                if free > 0 && matches!(pod.stage, Stage::Unschedulable(_)) {
                    free -= 1;
                    pod.stage = Stage::Starting;
                    pod.since = Seconds(0);
                }
            }
        }
    }
}

/// A failure in few words.
pub fn failure(reason: &str, class: FailureClass) -> Failure {
    Failure {
        container: Some("worker".to_owned()),
        reason: reason.to_owned(),
        message: String::new(),
        class,
    }
}

fn workloads(world: &mut World) -> impl Iterator<Item = &mut Workload> {
    world.revisions.values_mut().filter_map(|found| found.workload.as_mut())
}

/// New pods take the lowest free names, so that which pod was replaced makes no new state.
fn fill(id: &RevisionId, workload: &mut Workload) {
    let mut ordinal = 0;
    while workload.present() < workload.replicas {
        let name = PodName::new(format!("{id}{ordinal}"));
        ordinal += 1;
        workload.pods.entry(name).or_insert_with(|| Pod {
            stage: Stage::Unschedulable("0/1 nodes are available".to_owned()),
            since: Seconds(0),
            failure: None,
            traffic: true,
            routed: false,
            connected: false,
            exits: 0,
            wrong: false,
            validated: Seconds(0),
        });
    }
}

fn thin(workload: &mut Workload) {
    while workload.present() > workload.replicas {
        let present = workload.pods.iter().filter(|(_, pod)| pod.stage != Stage::Leaving);
        let first = present
            .min_by_key(|(name, pod)| {
                // One that is not in the endpoints yet has been ready for a shorter time.
                (pod.stage == Stage::Ready, pod.traffic, pod.routed, (*name).clone())
            })
            .map(|(name, _)| name.clone());
        let Some(name) = first else { return };
        leave(workload, &name);
    }
}

/// A pod is told to leave; one that never had a place is gone at once.
pub(crate) fn leave(workload: &mut Workload, name: &PodName) {
    let Some(pod) = workload.pods.get_mut(name) else { return };
    if matches!(pod.stage, Stage::Unschedulable(_)) {
        workload.pods.remove(name);
    } else {
        pod.stage = Stage::Leaving;
        pod.since = Seconds(0);
        pod.failure = None;
    }
}

/// The name of an environment's first letter, for traces.
pub(crate) fn letter(environment: Environment) -> &'static str {
    match environment {
        Environment::Blue => "b",
        Environment::Green => "g",
        Environment::Amber => "a",
    }
}
