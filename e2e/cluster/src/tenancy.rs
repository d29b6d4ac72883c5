//! Whose cluster the machine has, and what another checkout may do with it.

use std::path::{Path, PathBuf};

use crate::status::Status;

/// What the cluster of this machine is to the checkout that wants one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tenancy {
    /// There is none, or it is this checkout's own: it may start and repair it.
    Own,
    /// Another checkout's, in good order: used as it is.
    Shared(PathBuf),
    /// Another checkout's, of which nothing runs any more: whoever left it does not miss it.
    Dead(PathBuf),
    /// Another checkout's, of which only a part works: its owner may be looking into it.
    Broken(PathBuf),
}

impl Tenancy {
    /// `owner` is the checkout that started the cluster, `exists` whether a folder is there.
    pub(crate) fn of(
        owner: Option<PathBuf>,
        checkout: &Path,
        status: &Status,
        exists: impl Fn(&Path) -> bool,
    ) -> Self {
        match owner {
            None => Self::Own,
            Some(owner) if owner == checkout => Self::Own,
            Some(owner) if status.is_healthy() => Self::Shared(owner),
            // Nobody can repair the cluster of a checkout that was deleted.
            Some(owner) if !status.anything_runs() || !exists(&owner) => Self::Dead(owner),
            Some(owner) => Self::Broken(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Component;
    use crate::status::State;

    const MINE: &str = "/checkout/mine";
    const OTHER: &str = "/checkout/other";

    fn status(state: impl Fn(Component) -> State, ready: bool) -> Status {
        Status {
            components: Component::ALL.map(|component| (component, state(component))).into(),
            node_ready: ready.then_some(true),
            gpus: ready.then_some(8),
            checkout: None,
            kubeconfig: PathBuf::new(),
        }
    }

    fn tenancy(owner: Option<&str>, status: &Status, exists: bool) -> Tenancy {
        Tenancy::of(owner.map(PathBuf::from), Path::new(MINE), status, |_| exists)
    }

    #[test]
    fn a_cluster_of_which_nothing_runs_is_in_nobodys_way() {
        let other = PathBuf::from(OTHER);
        for state in [State::Ended, State::NotStarted] {
            let dead = status(|_| state, false);
            assert_eq!(tenancy(Some(OTHER), &dead, true), Tenancy::Dead(other.clone()));
            assert_eq!(tenancy(Some(MINE), &dead, true), Tenancy::Own);
            assert_eq!(tenancy(None, &dead, true), Tenancy::Own);
        }
    }

    #[test]
    fn a_cluster_that_works_is_shared_and_one_that_half_works_is_left_to_its_owner() {
        let other = PathBuf::from(OTHER);
        let healthy = status(|_| State::Running(1), true);
        assert_eq!(tenancy(Some(OTHER), &healthy, true), Tenancy::Shared(other.clone()));

        let half = |component| match component {
            Component::Etcd => State::Running(1),
            _ => State::Ended,
        };
        let half = status(half, false);
        assert_eq!(tenancy(Some(OTHER), &half, true), Tenancy::Broken(other.clone()));
        assert_eq!(tenancy(Some(OTHER), &half, false), Tenancy::Dead(other));
        assert_eq!(tenancy(Some(MINE), &half, true), Tenancy::Own);
    }
}
