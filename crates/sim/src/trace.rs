//! A run as text that a person can read: who did what, what the cluster is after it, and why.

use std::fmt::Write as _;

use lamplighter_plan::rollout::{Pod, Stage};

use crate::cluster::{Cluster, letter};
use crate::moves::{Decided, Move};

/// One step of a run.
pub fn step(text: &mut String, change: &Move, decided: Option<&Decided>, after: &Cluster) {
    let _ = writeln!(text, "{change}");
    if let Some(Decided { plan, seen }) = decided {
        for action in &plan.actions {
            let _ = writeln!(text, "    do   {action}");
        }
        if plan.remembers(&seen.memory) {
            let _ = writeln!(text, "    now  {}", plan.memory.phase);
        }
        for note in &plan.notes {
            let _ = writeln!(text, "         {note}");
        }
    }
    let _ = writeln!(text, "    have {}", state(after));
}

/// The cluster in a line: `a@b 1/1 [a0 ready+>]` is revision `a` in blue, one of one pod ready,
/// which carries the label (`+`), is in the endpoints (`>`) and has old connections (`~`).
pub fn state(cluster: &Cluster) -> String {
    let world = &cluster.world;
    let mut parts: Vec<String> = world
        .workloads()
        .map(|(id, workload)| {
            let pods: Vec<String> =
                workload.pods.iter().map(|(name, found)| pod(name.as_str(), found)).collect();
            format!(
                "{id}@{} {}/{} [{}]",
                letter(workload.environment),
                workload.ready(),
                workload.replicas,
                pods.join(" ")
            )
        })
        .collect();
    let selects = world.service.selects.map_or("nothing", letter);
    parts.push(format!("service {selects}"));
    parts.join(" | ")
}

fn pod(name: &str, pod: &Pod) -> String {
    let stage = match &pod.stage {
        Stage::Unschedulable(_) => "unplaced",
        Stage::Starting => "starting",
        Stage::Ready => "ready",
        Stage::Leaving => "leaving",
    };
    let marks = [
        (pod.traffic, "+"),
        (pod.routed, ">"),
        (pod.connected, "~"),
        (pod.wrong, "!"),
        (pod.failure.is_some(), "x"),
    ];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    format!("{name} {stage}{marks}")
}
