//! The cluster: what Kubernetes and the workers do, without what no decision can see.
//!
//! | part | in the simulation |
//! |---|---|
//! | ReplicaSet controller | makes missing pods, and takes surplus ones: not ready before ready, withdrawn before others, as `pod-deletion-cost` has it, and those that became ready last |
//! | scheduler, quota | has so many places; a pod that is leaving holds its place |
//! | worker | passes its gates, fails them, or gives wrong answers later, by its revision's [`Nature`] |
//! | endpoints | follow labels and readiness, later or never |
//! | time | ages, up to the oldest that makes a difference |

mod kubernetes;
mod normal;

pub(crate) use kubernetes::leave;

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_plan::rollout::{
    Action, Command, CommandKind, Memory, Plan, Pod, Resolved, Workload, World,
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
    /// Where its models are kept does not answer.
    Unreachable,
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
    /// It is a quota that limits them: pods beyond are not created at all.
    pub quota: bool,
    /// Revisions whose pods are on a node that is lost: told to leave, they never do.
    pub stuck: BTreeSet<RevisionId>,
    /// The endpoints do not follow.
    pub halted: bool,
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
            Action::Shed(revision) => {
                for pod in self.pods_of(revision) {
                    pod.connected = pod.routed;
                }
            }
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
            Action::Forget(revision) => {
                self.world.revisions.retain(|id, found| id != revision || found.workload.is_some());
            }
        }
    }

    /// The resolving pod ends.
    pub fn resolved(&mut self, revision: &RevisionId) {
        let nature = self.nature.get(revision).copied();
        let Some(found) = self.world.revisions.get_mut(revision) else { return };
        let failed = |reason, class| Resolved::Failed(failure(reason, class), Seconds(0));
        found.resolved = match nature {
            Some(Nature::Unreadable) => failed("ArtifactNotFound", FailureClass::Deterministic),
            Some(Nature::Unreachable) => failed("StoreUnavailable", FailureClass::Transient),
            Some(Nature::Good | Nature::Broken | Nature::Endless | Nature::Poisoned) | None => {
                Resolved::Known(crate::scenario::facts(revision))
            }
        };
    }

    /// A pod by its name.
    pub fn pod(&mut self, name: &PodName) -> Option<&mut Pod> {
        workloads(&mut self.world).find_map(|workload| workload.pods.get_mut(name))
    }

    /// A command that was not given before.
    pub fn command(&mut self, kind: CommandKind, of: Option<&RevisionId>) {
        let last = self.world.goal.commands.get(&kind);
        let number = last.and_then(|command| command.token.parse::<u32>().ok()).unwrap_or(0);
        let token = number.saturating_add(1).to_string();
        self.world.goal.commands.insert(kind, Command { token, revision: of.cloned() });
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

    fn pods_of(&mut self, revision: &RevisionId) -> impl Iterator<Item = &mut Pod> {
        let found = self.world.revisions.get_mut(revision);
        let workload = found.and_then(|found| found.workload.as_mut());
        workload.into_iter().flat_map(|workload| workload.pods.values_mut())
    }
}

/// A failure in few words.
pub fn failure(reason: &str, class: FailureClass) -> Failure {
    Failure {
        container: Some("worker".to_owned()),
        reason: reason.to_owned(),
        message: "the worker said so".to_owned(),
        class,
    }
}

fn workloads(world: &mut World) -> impl Iterator<Item = &mut Workload> {
    world.revisions.values_mut().filter_map(|found| found.workload.as_mut())
}
