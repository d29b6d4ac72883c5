//! What applying came to: the changes that were made, and what stopped it.

use std::fmt;
use std::time::Duration;

use lamplighter_api::Reason;
use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::Action;
use lamplighter_plan::rollout::check::Violation;

use crate::error::{Class, classify, said};

/// What was done, and what stopped it. Status and events are derived from this, never from what
/// was merely rendered.
#[must_use = "what was applied, and what was not, must be reported"]
#[derive(Debug, Default)]
pub struct Applied {
    /// The changes, in the order in which they were made.
    pub changes: Vec<Change>,
    /// What stopped it; everything after that was not tried.
    pub failure: Option<Obstacle>,
}

/// What stopped an apply, or kept it from beginning.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// The plan breaks an invariant and is not carried out.
    #[error("the plan breaks an invariant, nothing was done: {}", list(.0))]
    Plan(Vec<Violation>),
    /// A child could not be brought to what it should be.
    #[error(transparent)]
    Child(#[from] ApplyError),
    /// The apiserver did not take everything in time.
    #[error(
        "not every object was written within {} s; is an admission webhook of the cluster slow?",
        .0.as_secs()
    )]
    Late(Duration),
}

/// A change of the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// An object was created.
    Created(ObjectName),
    /// An object was brought back to what it should be.
    Updated(ObjectName),
    /// An action of the plan was carried out.
    Done(Action),
}

/// An object in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectName {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// Why a child is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It could not be looked up.
    #[error("{object} cannot be read: {}", said(source))]
    Read {
        /// The object.
        object: ObjectName,
        /// What the apiserver said.
        source: kube::Error,
    },
    /// It could not be written.
    #[error("{object} cannot be written: {}", said(source))]
    Write {
        /// The object.
        object: ObjectName,
        /// What the apiserver said.
        source: kube::Error,
    },
    /// It was seen and is not there any more.
    #[error("{object} is gone since it was last seen")]
    Gone {
        /// The object.
        object: ObjectName,
    },
    /// Its name is taken.
    #[error(
        "{object} exists and is not of this ModelDeployment: it is controlled by {owner}. Nothing was changed; delete or rename it, or give this ModelDeployment another name"
    )]
    NameTaken {
        /// The object.
        object: ObjectName,
        /// Whose it is.
        owner: String,
    },
    /// A revision cannot be brought up.
    #[error("revision {revision} cannot be brought up: {problem}")]
    Unreadable {
        /// The revision.
        revision: RevisionId,
        /// What is wrong with its record.
        problem: String,
    },
    /// Its name is still taken by a child of a deleted `ModelDeployment` of the same name.
    #[error("{object} belongs to a deleted ModelDeployment of the same name and is not gone yet")]
    Predecessor {
        /// The object.
        object: ObjectName,
    },
}

// === impl Applied ===

impl Applied {
    /// Nothing was tried.
    pub fn nothing_because(obstacle: impl Into<Obstacle>) -> Self {
        Self { changes: Vec::new(), failure: Some(obstacle.into()) }
    }
}

// === impl Obstacle ===

impl Obstacle {
    /// What it means for the next attempt.
    pub fn class(&self) -> Class {
        match self {
            Self::Plan(_) => Class::Bug,
            Self::Child(error) => error.class(),
            Self::Late(_) => Class::Transient,
        }
    }

    /// The reason of the conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Plan(_) => Reason::InvariantViolated,
            Self::Child(error) => error.reason(),
            Self::Late(_) => Reason::WriteFailed,
        }
    }

    /// A stable name, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Plan(_) => "InvariantViolated",
            Self::Late(_) => "ApplyTimedOut",
            Self::Child(ApplyError::Read { .. }) => "ReadFailed",
            Self::Child(ApplyError::Write { .. }) => "WriteFailed",
            Self::Child(ApplyError::Gone { .. }) => "ChildGone",
            Self::Child(ApplyError::NameTaken { .. }) => "NameTaken",
            Self::Child(ApplyError::Unreadable { .. }) => "RecordUnreadable",
            Self::Child(ApplyError::Predecessor { .. }) => "PredecessorNotGone",
        }
    }
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

// === impl ObjectName ===

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

// === impl ApplyError ===

impl ApplyError {
    /// What it means for the next attempt.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => classify(source),
            Self::Gone { .. } => Class::Conflict,
            Self::NameTaken { .. } | Self::Unreadable { .. } => Class::Refused,
            Self::Predecessor { .. } => Class::Transient,
        }
    }

    /// The reason of the conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Read { .. } | Self::Write { .. } if self.class() == Class::Refused => {
                Reason::ChildRefused
            }
            Self::Read { .. } => Reason::ReadFailed,
            Self::Write { .. } => Reason::WriteFailed,
            // Decided on an old view; the next attempt makes it.
            Self::Gone { .. } => Reason::RollingOut,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::Unreadable { .. } => Reason::RecordUnreadable,
            Self::Predecessor { .. } => Reason::PredecessorNotGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_obstacle_has_the_same_name_in_metrics_and_in_conditions_unless_that_says_more() {
        let object = || ObjectName { kind: "Service", name: "search".to_owned() };
        let source = |code| kube::Error::Api(Status::failure("no", "").with_code(code).boxed());
        let write = |code| ApplyError::Write { object: object(), source: source(code) };
        let read = |code| ApplyError::Read { object: object(), source: source(code) };
        let taken = ApplyError::NameTaken { object: object(), owner: "nobody".to_owned() };
        for (obstacle, reason) in [
            (Obstacle::Plan(Vec::new()), Reason::InvariantViolated),
            (taken.into(), Reason::NameTaken),
            (ApplyError::Predecessor { object: object() }.into(), Reason::PredecessorNotGone),
            (read(503).into(), Reason::ReadFailed),
            (write(503).into(), Reason::WriteFailed),
        ] {
            assert_eq!((obstacle.reason(), obstacle.category()), (reason, reason.as_str()));
        }
        for refused in [read(403), write(422)] {
            assert_eq!(refused.reason(), Reason::ChildRefused);
        }
        assert_eq!(ApplyError::Gone { object: object() }.reason(), Reason::RollingOut);
    }
}
