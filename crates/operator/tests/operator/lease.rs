//! The Lease on the wire.

use std::time::Duration;

use http::Method;
use lamplighter_operator::context::Clock;
use lamplighter_operator::lease::{Keeper, Leadership, LeaseError, Timing};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::apiserver::ApiServer;
use crate::fixtures::now;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/lamp";
const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

fn start() -> (ApiServer, Keeper) {
    let (server, client) = ApiServer::start();
    let clock = Clock::stopped_at(now());
    (server, Keeper::new(client, "system", "lamp", "me_1".to_owned(), TIMING, clock))
}

async fn lead(keeper: Keeper) -> Leadership {
    keeper.acquire(&CancellationToken::new()).await.expect("leadership")
}

fn spec(server: &ApiServer) -> Value {
    server.get(LEASE).expect("the lease is there")["spec"].clone()
}

fn held_by(holder: &str) -> Value {
    json!({
        "metadata": {"name": "lamp", "namespace": "system"},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "renewTime": "2001-01-01T00:00:00.000000Z",
        },
    })
}

#[tokio::test(start_paused = true)]
async fn an_absent_lease_is_created() {
    let (server, keeper) = start();
    lead(keeper).await;
    let spec = spec(&server);
    assert_eq!(spec["holderIdentity"], "me_1");
    assert_eq!(spec["leaseDurationSeconds"], 15);
    assert_eq!(spec["renewTime"], "2026-01-02T03:04:05.000000Z");
}

#[tokio::test(start_paused = true)]
async fn a_held_lease_is_taken_over_only_after_it_was_seen_unchanged_for_its_duration() {
    let (server, keeper) = start();
    // Its renew time is decades old, which must not matter: that clock may be wrong.
    server.put(LEASE, held_by("other_1"));
    let begun = tokio::time::Instant::now();
    lead(keeper).await;
    assert!(begun.elapsed() >= TIMING.lease_duration, "{:?}", begun.elapsed());
    let spec = spec(&server);
    assert_eq!(spec["holderIdentity"], "me_1");
    assert_eq!(spec["leaseTransitions"], 4);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_promises_no_duration_is_not_taken_for_one_whose_time_is_over() {
    for promised in [Value::Null, json!(0), json!(-1)] {
        let (server, keeper) = start();
        let mut lease = held_by("other_1");
        lease["spec"]["leaseDurationSeconds"] = promised;
        server.put(LEASE, lease);
        let begun = tokio::time::Instant::now();
        lead(keeper).await;
        assert!(begun.elapsed() >= TIMING.lease_duration, "{:?}", begun.elapsed());
    }
}

/// Guarantees: operator-02.
#[tokio::test(start_paused = true)]
async fn of_two_that_try_the_one_with_the_older_view_is_refused() {
    let (server, keeper) = start();
    server.put(LEASE, held_by(""));
    server.fail(Method::PUT, "/lamp", 409, "the object has been modified");
    lead(keeper).await;
    let asked = server.take_asked();
    let writes: Vec<_> = asked.iter().filter(|asked| asked.method == Method::PUT).collect();
    assert_eq!(writes.len(), 2, "refused once, then from a fresh view");
    for write in writes {
        assert!(write.body["metadata"]["resourceVersion"].is_string());
    }
}

/// Guarantees: operator-02.
#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_others_may_take_over() {
    let (server, keeper) = start();
    let mut leadership = lead(keeper).await;
    for _ in 0..40 {
        server.fail(Method::GET, "/lamp", 500, "etcd is gone");
    }
    let begun = tokio::time::Instant::now();
    let error = leadership.hold(&CancellationToken::new()).await.unwrap_err();
    assert!(begun.elapsed() <= TIMING.renew_deadline, "{:?}", begun.elapsed());
    let LeaseError::Expired { last, .. } = error else { panic!("{error}") };
    assert!(last.contains("etcd is gone"), "{last}");
}

/// Guarantees: operator-02.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops_at_once() {
    let (server, keeper) = start();
    let mut leadership = lead(keeper).await;
    server.edit(LEASE, |lease| lease["spec"]["holderIdentity"] = json!("other_1"));
    let error = leadership.hold(&CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, LeaseError::Taken { holder, .. } if holder == "other_1"));
}

#[tokio::test(start_paused = true)]
async fn renewing_keeps_the_time_of_acquiring_and_the_count_of_transitions() {
    let (server, keeper) = start();
    let mut leadership = lead(keeper).await;
    let acquired = spec(&server)["acquireTime"].clone();
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_mins(1)).await;
        stopper.cancel();
    });
    leadership.hold(&stop).await.unwrap();
    let spec = spec(&server);
    assert_eq!(spec["acquireTime"], acquired);
    assert_eq!(spec["leaseTransitions"], 0);
    let renewals = server.take_asked().iter().filter(|asked| asked.method == Method::PUT).count();
    assert!((25..=30).contains(&renewals), "{renewals} renewals in a minute");
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_gives_the_lease_back() {
    let (server, keeper) = start();
    lead(keeper).await.release().await;
    let spec = spec(&server);
    assert_eq!(spec["holderIdentity"], "");
    assert_eq!(spec["leaseDurationSeconds"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_waits_can_be_told_to_stop() {
    let (server, keeper) = start();
    server.put(LEASE, held_by("other_1"));
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(keeper.acquire(&stop).await.is_none());
}
