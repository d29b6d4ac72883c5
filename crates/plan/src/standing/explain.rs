//! Sentences: what a cause says to a person, with its numbers.

use std::fmt::{self, Display};

use super::verdict::{Cause, State};
use super::world::World;

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

fn counted(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
