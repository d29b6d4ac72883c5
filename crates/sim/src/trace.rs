//! A run as text that a person can read: who did what, what was decided and why, and what the
//! cluster is after it.

use std::fmt;

use lamplighter_plan::rollout::{Pod, Stage};

use crate::cluster::Cluster;
use crate::moves::{Decided, Move};

/// A run as text. What changes nothing is left out.
#[derive(Clone, Debug)]
pub struct Trace {
    text: String,
    have: String,
    why: Vec<String>,
    /// Seconds that have passed since the last line.
    seconds: u32,
}

impl Trace {
    /// A run that begins with this.
    pub fn of(start: &Cluster) -> Self {
        let have = state(start);
        let mut trace =
            Self { text: String::new(), have: String::new(), why: Vec::new(), seconds: 0 };
        trace.show(have);
        trace
    }

    /// Something happened.
    pub fn step(&mut self, change: &Move, decided: Option<&Decided>, after: &Cluster) {
        if *change == Move::Tick {
            self.seconds += 1;
            return;
        }
        let lines = decided.map(|decided| self.decision(change, decided)).unwrap_or_default();
        let have = state(after);
        let is_mute = matches!(change, Move::Reconcile | Move::Control | Move::Publish);
        if is_mute && lines.is_empty() && have == self.have {
            return;
        }
        self.wait();
        self.line("", change);
        for line in lines {
            self.line("      ", line);
        }
        self.show(have);
    }

    /// The seconds since the last line are told too.
    #[must_use]
    pub fn to_the_end(mut self) -> Self {
        self.wait();
        self
    }

    /// What was decided and why; nothing where that is nothing new.
    fn decision(&mut self, change: &Move, Decided { seen, plan }: &Decided) -> Vec<String> {
        let why: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
        let remembers = plan.remembers(&seen.memory);
        let is_new = why != self.why && !why.is_empty();
        let mut lines = Vec::new();
        if remembers {
            lines.push(format!("now   {}", plan.memory.phase));
        }
        if is_new || remembers || !plan.actions.is_empty() {
            lines.extend(why.iter().map(|note| format!("why   {note}")));
        }
        let done = match change {
            Move::Crash { after } => *after,
            _ => plan.actions.len(),
        };
        lines.extend(plan.actions.iter().enumerate().map(|(at, action)| {
            if at < done { format!("do    {action}") } else { format!("left  {action}") }
        }));
        self.why = why;
        lines
    }

    fn wait(&mut self) {
        match std::mem::take(&mut self.seconds) {
            0 => {}
            1 => self.line("", Move::Tick),
            seconds => self.line("", format!("{seconds} seconds pass")),
        }
    }

    fn show(&mut self, have: String) {
        if have != self.have {
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
    let marks = [
        (pod.wrong, " and answers wrongly"),
        (pod.connected && !pod.routed, " with old connections"),
    ];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    format!("{stage}{marks}")
}
