//! A request's wait for its answer.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::compute::{Outputs, Shared};
use super::{RunError, lost};
use crate::batching::WorkId;

/// Waits for a request's answer. What is not begun when it is dropped is not computed.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: WorkId,
    answer: oneshot::Receiver<Result<Outputs, RunError>>,
}

impl Ticket {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: WorkId,
        answer: oneshot::Receiver<Result<Outputs, RunError>>,
    ) -> Self {
        Self { shared, id, answer }
    }

    /// The outputs in the order of the texts, or why there are none.
    pub(super) async fn answer(
        mut self,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Outputs, RunError> {
        let answer = &mut self.answer;
        let answered = match deadline {
            None => Ok(answer.await),
            Some(at) => tokio::time::timeout_at(at, answer).await,
        };
        let Ok(answered) = answered else {
            self.shared.forget(self.id, |metrics, model| metrics.work().expired(model));
            return Err(RunError::Expired);
        };
        answered.map_err(|gone| lost(&gone))?
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.forget(self.id, |metrics, model| metrics.work().cancelled(model));
    }
}
