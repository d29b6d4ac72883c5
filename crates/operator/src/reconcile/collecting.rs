//! The clean-up of a cache that deployments share: a Job each time that the set of revisions
//! changed that may have to come back.
//!
//! The Job is told all revisions of all deployments with that claim, and removes the copies that
//! none of them relies on. Its name holds the set, so that an unchanged set needs no second one. It
//! may run long after the set was made, and another deployment may have got a revision by then that
//! it does not know: so it is told when that was, and keeps what was used later.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use lamplighter_api::status::{ModelDeploymentStatus, Place};
use lamplighter_api::{ModelDeployment, names};
use lamplighter_plan::rollout::{Phase, World};
use sha2::{Digest as _, Sha256};

use super::fetch::Fetched;
use super::render;
use super::validate::Valid;

/// The Job that is to be there, if one is; `now` is when the set of revisions is made.
///
/// None while a rollout is under way: what it may return to is told by the next set. Then there
/// must be no other one either: it would not know the candidate.
pub fn wanted(valid: &Valid, world: &World, fetched: &Fetched, now: Timestamp) -> Option<Job> {
    let cache = valid.wanted.worker.cache.as_ref()?;
    if !matches!(world.memory.phase, Phase::Stable) || world.memory.active.is_none() {
        return None;
    }
    let own =
        format!("{}/{}/{}", valid.identity.namespace, valid.identity.name, valid.wanted.revision);
    let known: BTreeSet<String> =
        fetched.sharers.iter().flat_map(|sharer| revisions(sharer)).chain([own]).collect();
    let claim = &cache.persistent_volume_claim.claim_name;
    Some(render::collector(&valid.wanted, &known, &hash(claim, &known), now))
}

/// The revisions of a deployment that may have to come back, as `namespace/name/revision`.
fn revisions(deployment: &ModelDeployment) -> Vec<String> {
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    let of_status = |status: &ModelDeploymentStatus| -> Vec<String> {
        let rollout = status.rollout.as_ref();
        let places: [Option<&Place>; 3] = [
            rollout.and_then(|rollout| rollout.from.as_ref()),
            rollout.map(|rollout| &rollout.to),
            rollout.and_then(|rollout| rollout.fallback.as_ref()),
        ];
        let places = places.into_iter().flatten().map(|place| &place.revision);
        let active = status.active.iter().map(|active| &active.revision);
        let candidate = status.candidate.iter().map(|candidate| &candidate.revision);
        let good = status.known_good.iter().map(|good| &good.revision);
        let pin = status.pin.iter().map(|pin| &pin.revision);
        places.chain(active).chain(candidate).chain(good).chain(pin).cloned().collect()
    };
    let all = deployment.status.as_ref().map(of_status).unwrap_or_default();
    all.into_iter().map(|revision| format!("{namespace}/{name}/{revision}")).collect()
}

/// As many characters as a revision's name has.
fn hash(claim: &str, known: &BTreeSet<String>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(claim);
    for revision in known {
        hasher.update("\n");
        hasher.update(revision);
    }
    let mut text = String::new();
    for byte in hasher.finalize() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(names::REVISION_LENGTH);
    text
}
