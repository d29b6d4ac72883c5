//! What can go wrong in a reconcile, and what that means for the next attempt.

use std::time::Duration;

use crate::reconcile::apply::Obstacle;

/// Why a reconcile did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caches did not fill.
    #[error(
        "the caches were not filled within {} s; does the operator have its ClusterRole?",
        .0.as_secs()
    )]
    CachesNotSynced(Duration),
    /// It took too long.
    #[error("the reconcile did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The object came without what the apiserver always sets.
    #[error("the ModelDeployment has no {0}")]
    Incomplete(&'static str),
    /// The reconcile's task ended without an outcome.
    #[error("the reconcile broke off: {0}")]
    Panicked(String),
    /// The plan could not be carried out to its end.
    #[error(transparent)]
    Apply(#[from] Obstacle),
    /// The status could not be written.
    #[error("the status cannot be written: {}{}", said(.source), untold(.unreported.as_deref()))]
    Status {
        /// What the apiserver said.
        source: kube::Error,
        /// What the status would have told of this attempt.
        unreported: Option<Box<Obstacle>>,
    },
}

/// What a failure means for the next attempt.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// Decided on an old view: look again soon.
    Conflict,
    /// The surroundings failed: try again with back-off.
    Transient,
    /// The apiserver or somebody else's object says no: a person has to change something, which
    /// no watch of ours may see, so try again now and then.
    Refused,
    /// A bug of ours.
    Bug,
}

impl Error {
    /// What it means for the next attempt.
    pub fn class(&self) -> Class {
        match self {
            Self::CachesNotSynced(_) | Self::TimedOut(_) => Class::Transient,
            Self::Incomplete(_) | Self::Panicked(_) => Class::Bug,
            Self::Apply(obstacle) => obstacle.class(),
            Self::Status { source, .. } => classify(source),
        }
    }

    /// A stable name, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::CachesNotSynced(_) => "CachesNotSynced",
            Self::TimedOut(_) => "TimedOut",
            Self::Incomplete(_) => "Incomplete",
            Self::Panicked(_) => "Panicked",
            Self::Apply(obstacle) => obstacle.category(),
            Self::Status { .. } => "StatusFailed",
        }
    }
}

impl Class {
    /// A stable name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Transient => "Transient",
            Self::Refused => "Refused",
            Self::Bug => "Bug",
        }
    }
}

/// The class of what the client says.
pub fn classify(error: &kube::Error) -> Class {
    let kube::Error::Api(status) = error else { return Class::Transient };
    match status.code {
        409 => Class::Conflict,
        400 | 403 | 404 | 405 | 413 | 415 | 422 => Class::Refused,
        // An apply with a field that this apiserver does not know is answered like a crash:
        // https://github.com/kubernetes/kubernetes/issues/122480
        500 if status.message.contains("field not declared in schema") => Class::Refused,
        _ => Class::Transient,
    }
}

/// What the client says, in words: of an answer only its message, because the error's own text
/// repeats the whole answer as a data structure.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (code {})", status.message, status.code),
        other => other.to_string(),
    }
}

fn untold(obstacle: Option<&Obstacle>) -> String {
    obstacle.map(|obstacle| format!("; it would have told: {obstacle}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn an_answer_is_told_by_its_message_alone() {
        assert_eq!(said(&answer(422, "port is taken")), "port is taken (code 422)");
    }

    /// Guarantees: operator-06.
    #[test]
    fn answers_are_classified_by_what_helps() {
        for (code, expected) in [
            (400, Class::Refused),
            (401, Class::Transient),
            (403, Class::Refused),
            (409, Class::Conflict),
            (422, Class::Refused),
            (429, Class::Transient),
            (500, Class::Transient),
            (503, Class::Transient),
            (504, Class::Transient),
        ] {
            assert_eq!(classify(&answer(code, "no")), expected, "{code}");
        }
        let unknown = answer(500, ".spec.newer: field not declared in schema");
        assert_eq!(classify(&unknown), Class::Refused);
        assert_eq!(classify(&kube::Error::TlsRequired), Class::Transient);
    }
}
