//! What applying came to: the changes that were made, and what stopped it.

use std::fmt;

use lamplighter_plan::Action;

use crate::error::{Class, Error, classify, said};

/// What was done, and what stopped it. Status and events are derived from this, never from what
/// was merely rendered.
#[must_use = "what was applied, and what was not, must be reported"]
#[derive(Debug, Default)]
pub struct Applied {
    /// The changes, in the order in which they were made.
    pub changes: Vec<Change>,
    /// What stopped it; everything after that was not tried.
    pub failure: Option<Error>,
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
    pub fn nothing_because(error: Error) -> Self {
        Self { changes: Vec::new(), failure: Some(error) }
    }
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
            Self::NameTaken { .. } => Class::Refused,
            Self::Predecessor { .. } => Class::Transient,
        }
    }
}
