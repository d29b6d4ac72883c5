//! Words that every part of the plan uses.

use std::fmt;
use std::sync::Arc;

/// A span of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seconds(pub u32);

/// The hash that names a revision. Shared, because a search copies worlds by the million.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RevisionId(Arc<str>);

/// The name of a pod.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodName(Arc<str>);

/// The cluster creates no more pods.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Refusal {
    /// Why, in the cluster's words (a quota, an admission rule).
    pub message: String,
    /// For how long.
    pub since: Seconds,
}

/// Why a container, or a pod as a whole, ended.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Failure {
    /// The container; none where the pod ended as a whole.
    pub container: Option<String>,
    /// A stable name in `PascalCase`, for example `DigestMismatch`.
    pub reason: String,
    /// A sentence that names the thing and the way out.
    pub message: String,
    /// Whether the same revision can be expected to fail again.
    pub class: FailureClass,
}

/// Whether the same revision can be expected to fail again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FailureClass {
    /// The same bytes and settings fail again.
    Deterministic,
    /// The surroundings failed; trying again may help.
    Transient,
    /// A person has to put something right that is no part of the specification, such as a missing
    /// object or a missing right, and may do so at any time.
    Outside,
}

// === impl Seconds ===

impl Seconds {
    /// What is left of `self` after `spent`; zero when nothing is.
    #[must_use]
    pub fn minus(self, spent: Self) -> Self {
        Self(self.0.saturating_sub(spent.0))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

// === impl RevisionId ===

impl RevisionId {
    /// A revision's name.
    pub fn new(hash: impl Into<String>) -> Self {
        Self(hash.into().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl PodName ===

impl PodName {
    /// A pod's name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The length of an iterator as a number of replicas.
pub(crate) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    items.fold(0, |sum, _| u32::saturating_add(sum, 1))
}
