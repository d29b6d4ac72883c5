//! Sentences: what an action, a note or a phase says to a person, with its numbers. The same text
//! stands in status messages, events, logs and golden traces.

use std::fmt::{self, Display};

use super::memory::{Class, Direction, Environment, Phase, Placed, Rolling, Rollout, Withdrawn};
use super::plan::{Action, Note, Outcome};
use super::strategy::{GROWTH_PERCENT, Kind, Property, Trigger};
use super::world::CommandKind;
use crate::terms::{RevisionId, Seconds};

impl Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.revision, self.environment)
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(revision) => write!(f, "resolve {revision}"),
            Self::Create { placed, replicas } => {
                write!(f, "create {placed} with {}", counted(*replicas, "pod"))
            }
            Self::Scale { revision, from, to } => write!(f, "scale {revision} from {from} to {to}"),
            Self::Select { from: None, to } => write!(f, "select {to}"),
            Self::Select { from: Some(from), to } => write!(f, "select {to} instead of {from}"),
            Self::Withdraw(pod) => write!(f, "withdraw {pod}"),
            Self::Restore(pod) => write!(f, "restore {pod}"),
            Self::Shed(revision) => write!(f, "shed the connections of {revision}"),
            Self::Validate(revision) => write!(f, "validate {revision} again"),
            Self::Delete(revision) => write!(f, "delete {revision}"),
            Self::Forget(revision) => write!(f, "forget {revision}"),
        }
    }
}

impl Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stable => f.write_str("stable"),
            Self::Gating(rollout, since) => write!(f, "gating {rollout}{}", age(*since)),
            Self::AwaitingPromotion(rollout, since) => {
                write!(f, "awaiting the promotion of {rollout}{}", age(*since))
            }
            Self::CuttingOver(rollout, since) => write!(f, "cutting over {rollout}{}", age(*since)),
            Self::Shedding(rollout, since) => {
                write!(f, "shedding old connections after {rollout}{}", age(*since))
            }
            Self::Baking(rollout, since) => write!(f, "baking {rollout}{}", age(*since)),
            Self::Reverting(rollout, since) => write!(f, "reverting {rollout}{}", age(*since)),
            Self::Clearing(rollout, since) => {
                write!(f, "clearing what {rollout} left behind{}", age(*since))
            }
            Self::Rolling(rolling) => write!(f, "{rolling}"),
        }
    }
}

/// How long it has been so, unless it has just begun.
fn age(since: Seconds) -> String {
    if since == Seconds(0) { String::new() } else { format!(" for {since}") }
}

impl Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) if from.environment == self.to.environment => {
                write!(f, "{} -> {}", from.revision, self.to)
            }
            Some(from) => write!(f, "{from} -> {}", self.to),
            None => write!(f, "{}", self.to),
        }
    }
}

impl Display for Rolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rolling {} {}", self.direction, self.rollout)?;
        match &self.withdrawn {
            Some(withdrawn) => write!(f, "; {withdrawn}"),
            None => Ok(()),
        }
    }
}

impl Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} leaves next", self.pod)?;
        match self.out {
            Some(Seconds(0)) => f.write_str(", and has left the endpoints"),
            Some(out) => write!(f, ", and left the endpoints {out} ago"),
            None => Ok(()),
        }
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Back => "back",
        })
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initial => "Initial",
            Self::Rolling => "Rolling",
            Self::BlueGreen => "BlueGreen",
        })
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deterministic => "it will fail again",
            Self::Transient => "it may pass",
            Self::Outside => "somebody has to put it right",
            Self::Capacity => "there is no place for it",
            Self::Withdrawn => "a person has to ask for it again",
        })
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promoted => "it proved itself",
            Self::FastPromoted => "it was known to be good before",
            Self::Aborted => "it was given up",
            Self::Superseded => "something else is wanted",
            Self::RolledBack => "it was returned from, as asked",
            Self::RolledBackAuto => "it failed after the switch, and was returned from",
            Self::Blocked => "there was no place for it",
        })
    }
}

impl Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::RollbackTo => "rollback-to",
        })
    }
}

impl Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MajorVersion => "major version",
            Self::Task => "task",
            Self::Architecture => "architecture",
            Self::Layers => "number of layers",
            Self::Hidden => "hidden size",
            Self::Vocabulary => "vocabulary size",
            Self::Output => "output size",
            Self::Pooling => "pooling",
            Self::Tokenizer => "tokenizer",
        })
    }
}

impl Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("nothing served before"),
            Self::Asked(kind) => write!(f, "spec.rollout.strategy is {kind}"),
            Self::NoMix => f.write_str("spec.rollout.compatibility is NoMix"),
            Self::LongBake(bake) => write!(f, "the rollback window is {bake}"),
            Self::Added(model) => write!(f, "model {model} is new"),
            Self::Removed(model) => write!(f, "model {model} is gone"),
            Self::UnknownMetadata(model) => write!(f, "what model {model} is, is not known"),
            Self::Differs { model, property, old, new } => {
                write!(f, "{property} of model {model} changed: {old} -> {new}")
            }
            Self::Grown { old, new } => {
                write!(f, "the models grew by more than {GROWTH_PERCENT} %: {old} -> {new} bytes")
            }
            Self::NoPlace => f.write_str("a second environment found no place"),
            Self::Compatible => f.write_str("both versions may answer at the same time"),
            Self::Recorded(words) => f.write_str(words),
        }
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overtaken => {
                f.write_str("somebody else decided later: objects are ahead of this memory")
            }
            Self::Paused => f.write_str("paused: nothing new begins"),
            Self::ScaledToZero => f.write_str("no pod is wanted, so no revision is brought up"),
            Self::ServiceUnusable(why) => write!(f, "the Service cannot be used: {why}"),
            Self::Resolving(revision) => write!(f, "the models of {revision} are being read"),
            Self::Sweeping { revision, pods } => {
                write!(f, "{revision} still has {}", counted(*pods, "pod"))
            }
            Self::Began { from, to, strategy, triggers } => {
                began(f, from.as_ref(), to, *strategy, triggers)
            }
            Self::RollingRefused(triggers) => {
                write!(f, "Rolling would mix outputs: {}", list(triggers))
            }
            Self::Gates { ready, of } => {
                write!(f, "{ready} of {of} pods passed every gate")
            }
            Self::Passed { pods } => write!(f, "{} passed every gate", counted(*pods, "pod")),
            Self::PromotionAwaited(revision) => write!(f, "{revision} waits to be promoted"),
            Self::Promoted(revision) => write!(f, "{revision} was promoted"),
            Self::ValidationStale { age, limit } => {
                write!(f, "the answers were proved {age} ago and may be {limit} old")
            }
            Self::Confirming { routed, of, others } => {
                write!(
                    f,
                    "the endpoints show {routed} of {of} pods of the selected environment, and {others} of others"
                )
            }
            Self::Confirmed(environment) => write!(f, "the endpoints show {environment} alone"),
            Self::Connected { pods } => {
                let has = if *pods == 1 { "has" } else { "have" };
                write!(f, "{} still {has} connections from before", counted(*pods, "pod"))
            }
            Self::Bakes { revision, since, of } => {
                write!(f, "{revision} has served for {since} of {of}")
            }
            Self::Rolls { direction, there, of } => match direction {
                Direction::Forward => write!(f, "{there} of {of} pods are of the new revision"),
                Direction::Back => write!(f, "{there} of {of} pods are of the old revision again"),
            },
            Self::Leaves(withdrawn) => write!(f, "{withdrawn}"),
            Self::Stays(pod) => write!(f, "pod {pod} stays after all"),
            Self::FloorHolds { serving, floor } => {
                let serve = if *serving == 1 { "serves" } else { "serve" };
                let pods = counted(*serving, "pod");
                write!(f, "{pods} {serve} and at least {floor} must: none can leave")
            }
            Self::Failed { revision, class, reason, message } => {
                write!(f, "{revision} failed with {reason} ({class}): {message}")
            }
            Self::NoWayBack(revision) => {
                write!(f, "{revision} fails and there is nothing to return to")
            }
            Self::Finished { from: Some(from), to, outcome } => {
                write!(f, "{from} -> {to} is over: {outcome}")
            }
            Self::Finished { from: None, to, outcome } => write!(f, "{to} is over: {outcome}"),
            Self::Quarantined { revision, reason, retry: Some(Seconds(0)) } => {
                write!(f, "{revision} failed with {reason} and is about to be tried again")
            }
            Self::Quarantined { revision, reason, retry: Some(retry) } => {
                write!(f, "{revision} failed with {reason} and is tried again in {retry}")
            }
            Self::Quarantined { revision, reason, retry: None } => write!(
                f,
                "{revision} failed with {reason}; change the specification, or ask for a retry"
            ),
            Self::Heard(kind) => write!(f, "{kind} was heard"),
            Self::Inapplicable(kind) => write!(f, "{kind} asks for what cannot be, and is ignored"),
            Self::Unpinned(revision) => {
                write!(f, "the specification changed: the return to {revision} is over")
            }
            Self::Swept(revision) => write!(f, "nothing needs {revision} any more"),
            Self::Resized { revision, from, to } => {
                let is = if *to == 1 { "is" } else { "are" };
                write!(f, "{revision} asks for {}, and {to} {is} wanted", counted(*from, "pod"))
            }
        }
    }
}

fn began(
    f: &mut fmt::Formatter<'_>,
    from: Option<&RevisionId>,
    to: &RevisionId,
    strategy: Kind,
    triggers: &[Trigger],
) -> fmt::Result {
    match from {
        Some(from) => {
            write!(f, "{from} -> {to} begins by {strategy}, because {}", list(triggers))
        }
        None => write!(f, "{to} begins, because {}", list(triggers)),
    }
}

fn list(triggers: &[Trigger]) -> String {
    triggers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn counted(number: u32, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}
