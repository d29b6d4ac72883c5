//! Sentences: what a note or a cause says to a person, with its numbers. The same text stands in
//! status messages, events, logs and golden traces.

use std::fmt::{self, Display};

use crate::output::{Action, Cause, Note, Plan, State};
use crate::world::{Ended, PodPhase, World};

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { revision, replicas } => {
                write!(f, "create {revision} with {}", counted(*replicas, "replica"))
            }
            Self::Scale { revision, from, to } => write!(f, "scale {revision} from {from} to {to}"),
            Self::Delete { revision } => write!(f, "delete {revision}"),
            Self::Forget { revision } => write!(f, "forget {revision}"),
        }
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { revision, replicas } => write!(
                f,
                "revision {revision} is wanted with {} and had no workload",
                counted(*replicas, "replica")
            ),
            Self::Resized { revision, from, to } => {
                write!(f, "revision {revision} asked for {from} and {to} are wanted")
            }
            Self::Kept { revision, replicas, wanted_ready, wanted } => write!(
                f,
                "revision {revision} keeps its {} until the wanted revision is ready in full: {wanted_ready} of {wanted} ready",
                counted(*replicas, "replica")
            ),
            Self::Retired { revision, from, wanted: 0 } => write!(
                f,
                "revision {revision} gives up its {}: none is wanted",
                counted(*from, "replica")
            ),
            Self::Retired { revision, from, wanted } => write!(
                f,
                "revision {revision} gives up its {}: the wanted revision has {wanted} of {wanted} ready",
                counted(*from, "replica")
            ),
            Self::MadeRoom { revision, from, serving, ready } => write!(
                f,
                "revision {revision} has no ready pod and gives up its {}; revision {serving} serves with {ready} ready",
                counted(*from, "replica")
            ),
            Self::Draining { revision, pods } => {
                write!(f, "revision {revision} still has {}", counted(*pods, "pod"))
            }
            Self::Deleted { revision } => {
                write!(f, "the last pod of revision {revision} is gone")
            }
            Self::Forgotten { revision, kept } => {
                write!(f, "revision {revision} is older than the {kept} records that are kept")
            }
        }
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating { pods, of } => write!(f, "{pods} of {of} pods created"),
            Self::Refused { message } => write!(f, "the cluster creates no pods: {message}"),
            Self::Unschedulable { pod, message } => {
                write!(f, "pod {pod} cannot be scheduled: {message}")
            }
            Self::Waiting { pod, reason, message } if message.is_empty() => {
                write!(f, "pod {pod} waits: {reason}")
            }
            Self::Waiting { pod, reason, message } => {
                write!(f, "pod {pod} waits: {reason}: {message}")
            }
            Self::Failed { pod, failure } => {
                if let Some(container) = &failure.container {
                    write!(f, "container {container} of ")?;
                }
                write!(f, "pod {pod} ended with {}", failure.reason)?;
                if failure.message.is_empty() { Ok(()) } else { write!(f, ": {}", failure.message) }
            }
            Self::Starting { ready, of } => write!(f, "{ready} of {of} pods ready"),
            Self::Retiring { pods } => write!(f, "{} still to go", counted(*pods, "pod")),
        }
    }
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleting => f.write_str("deleting"),
            Self::ScaledToZero => f.write_str("scaled to zero"),
            Self::Complete => f.write_str("complete"),
            Self::Progressing(cause) => write!(f, "progressing: {cause}"),
            Self::Disturbed(cause) => write!(f, "disturbed: {cause}"),
            Self::Stalled { cause, deadline: None } => write!(f, "stalled: {cause}"),
            Self::Stalled { cause, deadline: Some(deadline) } => {
                write!(f, "stalled after {deadline}: {cause}")
            }
        }
    }
}

/// The pods that are on their way out, in words; none where there are none. They hold nothing up,
/// but they may still hold the devices and the memory that others wait for.
pub fn leaving(world: &World) -> Option<String> {
    match world.terminating() {
        0 => None,
        1 => Some("1 pod is still leaving".to_owned()),
        pods => Some(format!("{pods} pods are still leaving")),
    }
}

/// A decision as a few lines of text: the world, the actions with their reasons, the verdict.
pub fn trace(world: &World, plan: &Plan) -> String {
    let goal = &world.goal;
    let mut lines = vec![format!("want {} x {}", goal.revision, goal.replicas)];
    for (id, revision) in &world.revisions {
        let Some(workload) = &revision.workload else {
            lines.push(format!("have {id}: a record"));
            continue;
        };
        lines.push(format!("have {id}: {}/{} ready", workload.ready(), workload.replicas));
        for (name, pod) in &workload.pods {
            let failure = pod.failure.as_ref().map(|failure| format!(", {}", failure.reason));
            lines.push(format!(
                "       {name} {} for {}{}",
                word(&pod.phase),
                pod.since,
                failure.unwrap_or_default()
            ));
        }
        if let Some(Ended { pod, since, failure }) = &workload.ended {
            lines.push(format!("       {pod} ended {since} ago, {}", failure.reason));
        }
    }
    lines.extend(plan.actions.iter().map(|action| format!("do   {action}")));
    lines.extend(plan.notes.iter().map(|note| format!("     - {note}")));
    lines.push(format!("is   {}", plan.verdict.state));
    lines.push(format!("     {} routable", counted(plan.verdict.routable.total(), "pod")));
    if world.terminating() > 0 {
        lines.push(format!("     {} on the way out", counted(world.terminating(), "pod")));
    }
    lines.push(match plan.wake {
        Some(after) => format!("wake after {after}"),
        None => "wake on change".to_owned(),
    });
    lines.join("\n") + "\n"
}

fn word(phase: &PodPhase) -> &'static str {
    match phase {
        PodPhase::Unschedulable { .. } => "unschedulable",
        PodPhase::Waiting { .. } => "waiting",
        PodPhase::Starting => "starting",
        PodPhase::Ready => "ready",
        PodPhase::Terminating => "terminating",
    }
}

fn counted(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
