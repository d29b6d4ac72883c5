//! A run as text that a person can read: who did what, what was decided and why, and what the
//! cluster is after it.

use std::fmt;

use lamplighter_plan::rollout::{Plan, Pod, Stage};

use crate::cluster::Cluster;
use crate::moves::{Decided, Move};

/// A run as text. What changes nothing is left out.
#[derive(Clone, Debug)]
pub struct Trace {
    text: String,
    have: String,
    why: Vec<String>,
}

impl Trace {
    /// A run that begins with this.
    pub fn of(start: &Cluster) -> Self {
        let have = state(start);
        Self { text: format!("      have  {have}\n"), have, why: Vec::new() }
    }

    /// Something happened.
    pub fn step(&mut self, change: &Move, decided: Option<&Decided>, after: &Cluster) {
        let mut lines = Vec::new();
        let is_news = match decided {
            Some(Decided { plan, seen }) => {
                let why: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
                let acts = !plan.actions.is_empty() || plan.remembers(&seen.memory);
                let is_news = acts || why != self.why;
                if is_news {
                    lines = decision(plan, plan.remembers(&seen.memory), &why);
                    self.why = why;
                }
                is_news
            }
            None => false,
        };
        let have = state(after);
        let is_changed = have != self.have;
        let is_mute = matches!(change, Move::Reconcile | Move::Control | Move::Publish);
        if is_mute && !is_news && !is_changed {
            return;
        }
        self.line("", change);
        for line in lines {
            self.line("      ", line);
        }
        if is_changed {
            self.line("      have  ", &have);
            self.have = have;
        }
    }

    fn line(&mut self, before: &str, what: impl fmt::Display) {
        self.text.extend([before, &what.to_string(), "\n"]);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn decision(plan: &Plan, remembers: bool, why: &[String]) -> Vec<String> {
    let now = remembers.then(|| format!("now   {}", plan.memory.phase));
    let why = why.iter().map(|note| format!("why   {note}"));
    let what = plan.actions.iter().map(|action| format!("do    {action}"));
    now.into_iter().chain(why).chain(what).collect()
}

/// The cluster in a line.
pub fn state(cluster: &Cluster) -> String {
    let world = &cluster.world;
    let mut parts: Vec<String> = world
        .workloads()
        .map(|(id, workload)| {
            let pods: Vec<String> = workload
                .pods
                .iter()
                .map(|(name, found)| format!("{name} {}", pod(found)))
                .collect();
            let pods = if pods.is_empty() { "no pod".to_owned() } else { pods.join(", ") };
            format!("{id} in {} of {}: {pods}", workload.environment, workload.replicas)
        })
        .collect();
    parts.push(match world.service.selects {
        Some(environment) => format!("Service to {environment}"),
        None => "Service to nothing".to_owned(),
    });
    parts.join("; ")
}

fn pod(pod: &Pod) -> String {
    let stage = match (&pod.stage, pod.traffic, pod.routed) {
        (Stage::Unschedulable(_), _, _) => "waits for a place",
        (Stage::Starting, _, _) if pod.failure.is_some() => "failed",
        (Stage::Starting, _, false) => "loads",
        (Stage::Starting, _, true) => "loads (still in the endpoints)",
        (Stage::Ready, true, true) => "serves",
        (Stage::Ready, true, false) => "is ready",
        (Stage::Ready, false, true) => "is withdrawn (still in the endpoints)",
        (Stage::Ready, false, false) => "is withdrawn",
        (Stage::Leaving, _, true) => "leaves (still in the endpoints)",
        (Stage::Leaving, _, false) => "leaves",
    };
    let marks =
        [(pod.wrong, ", answers wrongly"), (pod.connected && !pod.routed, ", has old connections")];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    format!("{stage}{marks}")
}
