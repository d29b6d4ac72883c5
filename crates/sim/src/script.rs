//! A run that somebody wrote down: what happens, in order, and what everybody else does meanwhile.

use std::fmt;

use lamplighter_plan::PodName;

use crate::cluster::Cluster;
use crate::heal;
use crate::moves::{Edit, Move, natural};
use crate::trace::Trace;

/// How many rounds it may take to come to rest.
const ROUNDS: usize = 60;

/// A run in the making.
#[derive(Clone, Debug)]
pub struct Script {
    cluster: Cluster,
    trace: Trace,
}

impl Script {
    /// Begins with this.
    pub fn of(start: Cluster) -> Self {
        let trace = Trace::of(&start);
        Self { cluster: start, trace }
    }

    /// One thing happens.
    #[must_use]
    pub fn then(mut self, change: &Move) -> Self {
        self.step(change);
        self
    }

    /// Somebody does something.
    #[must_use]
    pub fn person(self, edit: Edit) -> Self {
        self.then(&Move::User { line: 0, edit })
    }

    /// The operator decides until it has nothing more to do or to remember.
    #[must_use]
    pub fn operator(mut self) -> Self {
        self.decide();
        self
    }

    /// Everybody does what they can until the phase has this name, or nothing changes any more.
    /// Pods do not move on by themselves after that.
    #[must_use]
    pub fn until(mut self, phase: &str) -> Self {
        self.play(|cluster| cluster.world.memory.phase.to_string().starts_with(phase));
        self
    }

    /// Everybody does what they can until the operator remembers that a pod leaves next.
    #[must_use]
    pub fn until_leaves(mut self, pod: &str) -> Self {
        let name = PodName::new(pod);
        self.play(|cluster| {
            cluster.world.memory.withdrawn().is_some_and(|withdrawn| withdrawn.pod == name)
        });
        self
    }

    /// Everybody does what they can until nothing changes any more.
    #[must_use]
    pub fn rest(mut self) -> Self {
        self.play(|_| false);
        self
    }

    /// What the cluster is now.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn play(&mut self, is_there: impl Fn(&Cluster) -> bool) {
        for _ in 0..ROUNDS {
            let before = self.cluster.clone();
            for _ in 0..heal::TURNS {
                self.decide_while(&is_there);
                if is_there(&self.cluster) {
                    return;
                }
                self.step(&Move::Control);
                for change in natural(&self.cluster) {
                    self.step(&change);
                }
                self.step(&Move::Publish);
            }
            self.decide_while(&is_there);
            if is_there(&self.cluster) {
                return;
            }
            self.step(&Move::Tick);
            if self.cluster == before {
                return;
            }
        }
    }

    fn decide(&mut self) {
        self.decide_while(|_| false);
    }

    fn decide_while(&mut self, is_there: impl Fn(&Cluster) -> bool) {
        loop {
            let before = self.cluster.clone();
            self.step(&Move::Reconcile);
            if self.cluster == before || is_there(&self.cluster) {
                return;
            }
        }
    }

    /// Names stay as they are, so that a reader can follow a pod.
    fn step(&mut self, change: &Move) {
        let decided = change.make(&mut self.cluster);
        if *change == Move::Ghost {
            self.cluster.old = None;
        }
        self.trace.step(change, decided.as_ref(), &self.cluster);
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.trace)
    }
}
