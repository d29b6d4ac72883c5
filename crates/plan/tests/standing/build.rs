//! Worlds in a few words.

use std::collections::BTreeMap;

use lamplighter_plan::standing::{Ended, Goal, Pod, PodPhase, Revision, Workload, World};
use lamplighter_plan::{Failure, FailureClass, PodName, Refusal, RevisionId, Seconds};

pub(crate) const DEADLINE: Seconds = Seconds(600);

/// A deployment that wants `replicas` of `revision` and has nothing.
pub(crate) fn want(revision: &str, replicas: u32) -> World {
    World {
        goal: Goal { revision: id(revision), replicas },
        deleting: false,
        deadline: DEADLINE,
        settled: None,
        revisions: BTreeMap::new(),
    }
}

pub(crate) fn id(revision: &str) -> RevisionId {
    RevisionId::new(revision)
}

pub(crate) trait WorldExt {
    /// Adds a recorded revision with a workload; pods are named `<revision>-0`, `-1`, ….
    fn have(self, revision: &str, replicas: u32, pods: Vec<Pod>) -> Self;
    fn settled(self, revision: &str) -> Self;
    /// The cluster has created no more pods for so many seconds.
    fn refused(self, revision: &str, message: &str, since: u32) -> Self;
    /// A pod of the revision was evicted so many seconds ago.
    fn evicted(self, revision: &str, since: u32) -> Self;
    /// The revision has asked for its replicas for so many seconds.
    fn asked_for(self, revision: &str, since: u32) -> Self;
}

impl WorldExt for World {
    fn have(mut self, revision: &str, replicas: u32, pods: Vec<Pod>) -> Self {
        let pods = pods
            .into_iter()
            .enumerate()
            .map(|(ordinal, pod)| (PodName::new(format!("{revision}-{ordinal}")), pod))
            .collect();
        let workload = Workload { replicas, since: Seconds(5), pods, ..Workload::default() };
        let sequence = i64::try_from(self.revisions.len()).unwrap();
        self.revisions
            .insert(id(revision), Revision { sequence, recorded: true, workload: Some(workload) });
        self
    }

    fn settled(mut self, revision: &str) -> Self {
        self.settled = Some(id(revision));
        self
    }

    fn refused(mut self, revision: &str, message: &str, since: u32) -> Self {
        workload_mut(&mut self, revision).refused =
            Some(Refusal { message: message.to_owned(), since: Seconds(since) });
        self
    }

    fn evicted(mut self, revision: &str, since: u32) -> Self {
        workload_mut(&mut self, revision).ended = Some(Ended {
            pod: PodName::new(format!("{revision}-gone")),
            since: Seconds(since),
            failure: Failure {
                container: None,
                reason: "Evicted".to_owned(),
                message: "the node was low on memory".to_owned(),
                class: FailureClass::Transient,
            },
        });
        self
    }

    fn asked_for(mut self, revision: &str, since: u32) -> Self {
        workload_mut(&mut self, revision).since = Seconds(since);
        self
    }
}

fn workload_mut<'a>(world: &'a mut World, revision: &str) -> &'a mut Workload {
    world.revisions.get_mut(&id(revision)).unwrap().workload.as_mut().unwrap()
}

pub(crate) fn pod(phase: PodPhase, since: u32) -> Pod {
    Pod { phase, since: Seconds(since), failure: None }
}

pub(crate) fn ready() -> Pod {
    pod(PodPhase::Ready, 60)
}

pub(crate) fn starting(since: u32) -> Pod {
    pod(PodPhase::Starting, since)
}

pub(crate) fn terminating() -> Pod {
    pod(PodPhase::Terminating, 3)
}

pub(crate) fn failed(reason: &str, class: FailureClass, since: u32) -> Pod {
    Pod {
        failure: Some(Failure {
            container: Some("worker".to_owned()),
            reason: reason.to_owned(),
            message: format!("the worker said {reason}"),
            class,
        }),
        ..starting(since)
    }
}

pub(crate) fn waiting(reason: &str, since: u32) -> Pod {
    let phase = PodPhase::Waiting { reason: reason.to_owned(), message: String::new() };
    pod(phase, since)
}

pub(crate) fn unschedulable(message: &str, since: u32) -> Pod {
    pod(PodPhase::Unschedulable { message: message.to_owned() }, since)
}
