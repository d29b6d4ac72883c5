//! One request and what became of it.

use std::time::Duration;

/// What kind of client asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// On a connection that is kept.
    Kept,
    /// On a connection of its own.
    Fresh,
    /// On a connection of its own, reading slowly.
    Slow,
}

/// One request. Times count from the beginning of the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// When it was sent.
    pub start: Duration,
    /// When its answer was read, or it failed.
    pub end: Duration,
    /// Who asked.
    pub client: Client,
    /// The connection's place; those that are kept have the first.
    pub slot: usize,
    /// It is the first on its connection.
    pub is_new: bool,
    /// Uid of the pod that answered; of a request that failed, of the pod that answered the one
    /// before on the same connection, if any did.
    pub pod: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The answer is that of this version.
    Right(&'static str),
    /// The answer is a vector, and that of no version that may answer.
    Wrong,
    /// No connection.
    Refused(String),
    /// The connection ended before the answer did.
    Broken(String),
    /// No answer in time.
    Timeout,
    /// Another status than 200.
    Status(u16),
    /// An answer that is no vector.
    Garbled(String),
}

impl Record {
    /// How long it took.
    pub fn took(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

impl Outcome {
    /// It was answered as it should be.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Right(_))
    }
}
