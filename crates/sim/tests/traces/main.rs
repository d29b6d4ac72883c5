//! Named rollouts, step by step, as a person can read them: what happened, what the operator
//! decided (`now`), why, what it did (`do`), and what the cluster had after it (`have`). A second
//! stands for every limit of time there is.

mod changes;
mod failures;
mod operators;
mod people;

use lamplighter_plan::RevisionId;
use lamplighter_sim::cluster::{Cluster, Nature};
use lamplighter_sim::moves::Edit;
use lamplighter_sim::scenario::{id, know, serving};
use lamplighter_sim::script::Script;

/// `a` serves in so many pods, and another revision of this nature is recorded.
fn beside(replicas: u32, revision: &str, nature: Nature) -> Cluster {
    let mut cluster = serving("a", replicas);
    know(&mut cluster, revision, nature);
    cluster
}

fn wants(revision: &str) -> Edit {
    Edit::Revision(id(revision))
}

/// Which revision serves at the end, so that a trace cannot be accepted that ends elsewhere.
fn serves(script: &Script) -> Option<RevisionId> {
    script.cluster().world.memory.active.as_ref().map(|active| active.revision.clone())
}

/// Compares the run with its golden text, and the revision that serves at its end.
macro_rules! golden {
    ($script:expr, $serves:literal) => {{
        let script = $script;
        insta::assert_snapshot!(script.to_string());
        assert_eq!($crate::serves(&script), Some(lamplighter_sim::scenario::id($serves)));
    }};
}

pub(crate) use golden;
