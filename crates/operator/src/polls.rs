//! When a pod is asked for its report again. A pod that does not answer costs a reconcile seconds,
//! and one behind a network policy never answers: so it is asked at growing intervals, what it
//! said last is remembered meanwhile, and a pod that serves anyway is soon left alone.
//!
//! Forgetting all of this changes no decision; it only costs a few requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use lamplighter_protocol::Report;

use crate::reports::ReportError;

/// How often a pod that tells its progress is asked, and how often a status that differs in
/// nothing but that may be written.
pub const PROGRESS_PERIOD: Duration = Duration::from_secs(10);
/// The first interval; each one after it is twice as long.
const FIRST: Duration = Duration::from_secs(2);
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(64);
/// How often a ready pod is asked in a row.
const MOST_TRIES: u32 = 5;
/// How long a ready pod is left alone after that: shorter than every resync.
const LEFT_ALONE: Duration = Duration::from_mins(40);
/// How long a pod is remembered after it could be asked again. By then it is gone, or nobody has
/// asked for it.
const KEPT: Duration = Duration::from_hours(2);

/// What a pod said, or why nothing is known.
pub type Answer = Result<Report, Arc<ReportError>>;

/// A pod that may be asked.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion: a pod that has changed is asked anew.
    pub version: String,
    /// Its address.
    pub address: String,
    /// It serves: what it says is no progress.
    pub is_ready: bool,
}

/// What pods said last, and when they are asked again.
#[derive(Debug, Default)]
pub struct Polls(Mutex<HashMap<String, Poll>>);

#[derive(Debug)]
struct Poll {
    version: String,
    /// Tries in a row that brought nothing new.
    tries: u32,
    /// Not asked before this.
    due: Timestamp,
    /// When to come back for it; None when it is given up until then.
    again: Option<Timestamp>,
    answer: Answer,
}

impl Polls {
    /// What the pod said last, if it is too early to ask it again.
    pub fn remembered(&self, pod: &Pod, now: Timestamp) -> Option<Answer> {
        let polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let poll = polls.get(&pod.uid)?;
        (poll.version == pod.version && now < poll.due).then(|| poll.answer.clone())
    }

    /// Remembers what a pod said, and logs the first failure of each.
    pub fn answered(
        &self,
        pod: &Pod,
        answer: Result<Report, ReportError>,
        now: Timestamp,
    ) -> Answer {
        let answer = answer.map_err(Arc::new);
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls.retain(|_, poll| now < later(poll.due, KEPT));
        let before = polls.get(&pod.uid);
        if let Err(error) = &answer
            && before.is_none_or(|poll| poll.answer.is_ok())
        {
            tracing::warn!(pod = pod.name, address = pod.address, %error, "no report from a pod");
        }
        let tries = before.filter(|poll| poll.version == pod.version).map_or(0, |poll| poll.tries);
        let poll = Poll::new(pod, tries, answer.clone(), now);
        polls.insert(pod.uid.clone(), poll);
        answer
    }

    /// In how long to come back for this pod; None when only a change of it matters.
    pub fn again(&self, pod: &Pod, now: Timestamp) -> Option<Duration> {
        let polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = polls.get(&pod.uid)?.again?;
        Some(Duration::try_from(again.duration_since(now)).unwrap_or_default())
    }
}

impl Poll {
    fn new(pod: &Pod, tries: u32, answer: Answer, now: Timestamp) -> Self {
        let version = pod.version.clone();
        if answer.is_ok() && !pod.is_ready {
            let again = Some(later(now, PROGRESS_PERIOD));
            return Self { version, tries: 0, due: now, again, answer };
        }
        let tries = tries.saturating_add(1);
        if pod.is_ready && tries > MOST_TRIES {
            return Self { version, tries: 0, due: later(now, LEFT_ALONE), again: None, answer };
        }
        let due = later(now, interval(tries));
        Self { version, tries, due, again: Some(due), answer }
    }
}

/// The wait after so many tries.
fn interval(tries: u32) -> Duration {
    let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST.saturating_mul(factor).min(LONGEST)
}

fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(is_ready: bool) -> Pod {
        Pod {
            name: "worker-a".to_owned(),
            uid: "uid-a".to_owned(),
            version: "7".to_owned(),
            address: "10.0.0.1".to_owned(),
            is_ready,
        }
    }

    fn report() -> Report {
        serde_json::from_value(serde_json::json!({
            "podUid": "uid-a", "podName": "worker-a", "revision": "r", "workerVersion": "0.1.0",
            "device": "Cpu", "state": "Starting", "uptimeSeconds": 1.5, "inFlight": 0,
            "models": [],
        }))
        .unwrap()
    }

    fn begin() -> Timestamp {
        Timestamp::from_second(1000).unwrap()
    }

    /// The waits of a pod that never answers and is asked whenever it may be.
    fn waits(pod: &Pod, most: usize) -> Vec<Option<u64>> {
        let polls = Polls::default();
        let mut now = begin();
        let mut waits = Vec::new();
        for _ in 0..most {
            assert!(polls.remembered(pod, now).is_none());
            assert!(polls.answered(pod, Err(ReportError::Timeout), now).is_err());
            assert!(polls.remembered(pod, now).unwrap().is_err());
            let again = polls.again(pod, now);
            now = later(now, again.unwrap_or(LEFT_ALONE));
            waits.push(again.map(|wait| wait.as_secs()));
        }
        waits
    }

    #[test]
    fn a_ready_pod_that_never_answers_is_given_up() {
        let expected = [Some(2), Some(4), Some(8), Some(16), Some(32), None, Some(2)];
        assert_eq!(waits(&pod(true), 7), expected);
    }

    #[test]
    fn a_starting_pod_that_never_answers_is_asked_ever_more_rarely() {
        let expected = [2, 4, 8, 16, 32, 64, 64].map(Some);
        assert_eq!(waits(&pod(false), 7), expected);
    }

    #[test]
    fn a_starting_pod_that_answers_is_asked_whenever_somebody_looks() {
        let polls = Polls::default();
        assert!(polls.answered(&pod(false), Ok(report()), begin()).is_ok());
        assert!(polls.remembered(&pod(false), begin()).is_none());
        assert_eq!(polls.again(&pod(false), begin()), Some(PROGRESS_PERIOD));
    }

    #[test]
    fn a_pod_that_has_changed_is_asked_anew() {
        let polls = Polls::default();
        for _ in 0..3 {
            assert!(polls.answered(&pod(true), Err(ReportError::Timeout), begin()).is_err());
        }
        let changed = Pod { version: "8".to_owned(), ..pod(true) };
        assert!(polls.remembered(&changed, begin()).is_none());
        assert!(polls.answered(&changed, Ok(report()), begin()).is_ok());
        assert_eq!(polls.again(&changed, begin()), Some(FIRST));
        assert_eq!(polls.remembered(&changed, begin()).unwrap().unwrap(), report());
    }

    #[test]
    fn a_pod_that_nobody_asks_for_is_forgotten() {
        let polls = Polls::default();
        assert!(polls.answered(&pod(true), Err(ReportError::Timeout), begin()).is_err());
        let other = Pod { uid: "uid-b".to_owned(), ..pod(true) };
        let much_later = later(begin(), KEPT * 2);
        assert!(polls.answered(&other, Err(ReportError::Timeout), much_later).is_err());
        assert_eq!(polls.0.lock().unwrap().len(), 1);
    }
}
