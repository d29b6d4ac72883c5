//! What Kubernetes does by itself, and time.

use lamplighter_plan::rollout::{Phase, Pod, Resolved, Stage, Workload};
use lamplighter_plan::{PodName, Refusal, RevisionId, Seconds};

use super::{Cluster, OLDEST, workloads};

impl Cluster {
    /// Makes missing pods and takes surplus ones, and gives places to those that wait for one.
    pub fn control(&mut self) {
        let mut room = if self.quota { self.places } else { u32::MAX };
        for workload in workloads(&mut self.world) {
            room = room.saturating_sub(size(workload));
        }
        for (id, found) in &mut self.world.revisions {
            if let Some(workload) = &mut found.workload {
                thin(workload);
                fill(id, workload, &mut room);
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

    /// A second passes.
    pub fn tick(&mut self) {
        let older = |age: &mut Seconds| *age = Seconds(age.0.saturating_add(1)).min(OLDEST);
        for found in self.world.revisions.values_mut() {
            if let Resolved::Running(since) | Resolved::Failed(_, since) = &mut found.resolved {
                older(since);
            }
            let Some(workload) = &mut found.workload else { continue };
            older(&mut workload.since);
            if let Some(refused) = &mut workload.refused {
                older(&mut refused.since);
            }
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

fn size(workload: &Workload) -> u32 {
    u32::try_from(workload.pods.len()).unwrap_or(u32::MAX)
}

/// New pods take the lowest free names, so that which pod was replaced makes no new state.
fn fill(id: &RevisionId, workload: &mut Workload, room: &mut u32) {
    let mut ordinal = 0;
    while workload.present() < workload.replicas {
        if *room == 0 {
            let message = "exceeded quota: requests.nvidia.com/gpu".to_owned();
            workload.refused.get_or_insert(Refusal { message, since: Seconds(0) });
            return;
        }
        let name = PodName::new(format!("{id}{ordinal}"));
        ordinal += 1;
        workload.pods.entry(name).or_insert_with(|| {
            *room -= 1;
            pod()
        });
    }
    workload.refused = None;
}

fn pod() -> Pod {
    Pod {
        stage: Stage::Unschedulable("0/1 nodes are available".to_owned()),
        since: Seconds(0),
        failure: None,
        traffic: true,
        routed: false,
        connected: false,
        exits: 0,
        wrong: false,
        validated: Seconds(0),
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
