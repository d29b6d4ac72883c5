//! Which pods were told to shed their connections, and in which epoch. Forgetting it costs one more
//! call for each pod and changes no decision.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// For how long it is remembered. A pod that was told is gone or serves again long before.
const KEPT: Duration = Duration::from_hours(1);

/// Which pods were told.
#[derive(Debug, Default)]
pub struct Sheds(Mutex<HashMap<String, (u64, Timestamp)>>);

impl Sheds {
    /// The pod with this uid was told in this epoch.
    pub fn told(&self, uid: &str, epoch: u64, now: Timestamp) {
        let mut sheds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sheds.retain(|_, (_, time)| {
            Duration::try_from(now.duration_since(*time)).unwrap_or_default() < KEPT
        });
        sheds.insert(uid.to_owned(), (epoch, now));
    }

    /// Those of the pods that were told in this epoch.
    pub fn told_in<'a>(
        &self,
        epoch: u64,
        uids: impl IntoIterator<Item = &'a str>,
    ) -> BTreeSet<String> {
        let sheds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uids.into_iter()
            .filter(|uid| sheds.get(*uid).is_some_and(|(told, _)| *told == epoch))
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_was_told_before_the_last_switch_is_told_again() {
        let sheds = Sheds::default();
        let now = Timestamp::from_second(1000).unwrap();
        sheds.told("a", 7, now);
        sheds.told("b", 8, now);
        assert_eq!(sheds.told_in(8, ["a", "b", "c"]), BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn what_was_told_long_ago_is_forgotten() {
        let sheds = Sheds::default();
        let then = Timestamp::from_second(1000).unwrap();
        sheds.told("a", 7, then);
        sheds.told("b", 7, then.checked_add(KEPT * 2).unwrap());
        assert_eq!(sheds.0.lock().unwrap().len(), 1);
    }
}
