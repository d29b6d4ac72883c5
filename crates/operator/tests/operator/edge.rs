//! The edges of the process: what is learnt from the apiserver's answers, and how it ends.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Service;
use kube::client::{Body, ClientBuilder};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use lamplighter_api::ModelDeployment;
use lamplighter_operator::answers::Answers;
use lamplighter_operator::caches::{self, Caches, Queue};
use lamplighter_operator::context::Clock;
use lamplighter_operator::controller::{self, Ended};
use lamplighter_operator::server_time::ServerTime;
use lamplighter_operator::standby::Standby;
use lamplighter_operator::watches::{FAILING_DEADLINE, Watches};
use lamplighter_telemetry::probe::NotReady;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::fixtures::{NAME, NAMESPACE, now};

/// An hour after [`now`].
const DATE: &str = "Fri, 02 Jan 2026 04:04:05 GMT";
/// More than a watch needs to notice that the apiserver is back: its back-off grows to 30 s, and may
/// be doubled by jitter.
const LONG_ENOUGH: Duration = Duration::from_mins(2);

/// An apiserver with nothing in it, whose watches deliver nothing. While it is away, requests are
/// answered 503, and watches that stand break off.
#[derive(Clone)]
struct Empty {
    away: watch::Sender<bool>,
    /// What was asked for, by path.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

type Answer = UnsyncBoxBody<Bytes, io::Error>;

impl Empty {
    fn new(away: bool) -> Self {
        Self { away: watch::Sender::new(away), asked: Arc::default() }
    }

    fn client(&self, time: &ServerTime, watches: &Watches) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let answers = Answers::new(time.clone(), watches.clone());
        ClientBuilder::new(service, NAMESPACE).with_layer(&answers).build()
    }

    fn answer(&self, request: &Request<Body>) -> Response<Answer> {
        self.asked.lock().unwrap().insert(request.uri().path().to_owned());
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (code, body) = if *self.away.borrow() {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503,
                "reason": "ServiceUnavailable", "message": "etcd is gone",
            });
            (StatusCode::SERVICE_UNAVAILABLE, whole(&status))
        } else if is_watch {
            (StatusCode::OK, self.silence())
        } else {
            let list = json!({
                "kind": "List", "apiVersion": "v1", "items": [],
                "metadata": {"resourceVersion": "1"},
            });
            (StatusCode::OK, whole(&list))
        };
        Response::builder().status(code).header("date", DATE).body(body).unwrap()
    }

    fn silence(&self) -> Answer {
        let mut away = self.away.subscribe();
        let broken = stream::once(async move {
            away.wait_for(|away| *away).await.unwrap();
            Err::<Frame<Bytes>, _>(io::Error::other("the connection broke off"))
        });
        StreamBody::new(broken).boxed_unsync()
    }
}

fn whole(value: &Value) -> Answer {
    Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync()
}

/// A replica that waits to lead, for as long as the returned task lives.
fn stand_by(server: &Empty) -> Watches {
    let watches = Watches::default();
    let client = server.client(&ServerTime::new(Clock::stopped_at(now())), &watches);
    let (caches, writers) = Caches::new();
    let queue = caches::watch(&client, None, writers, &watches);
    tokio::spawn(async move {
        let _caches = caches;
        Standby::new(queue).until(std::future::pending::<()>()).await;
    });
    watches
}

fn reason(watches: &Watches) -> Option<String> {
    watches.verdict(Instant::now()).err().map(|NotReady { reason, .. }| reason)
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_only_waits_to_lead_is_ready_once_its_caches_are_filled() {
    let watches = stand_by(&Empty::new(false));
    assert_eq!(reason(&watches).as_deref(), Some("CachesNotFilled"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(watches.verdict(Instant::now()), Ok(()));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(watches.verdict(Instant::now()), Ok(()), "an idle cluster is no failure");
}

#[tokio::test(start_paused = true)]
async fn readiness_goes_and_comes_back_with_the_apiserver_although_nothing_is_delivered() {
    let server = Empty::new(true);
    let watches = stand_by(&server);
    sleep(FAILING_DEADLINE / 2).await;
    assert_eq!(reason(&watches).as_deref(), Some("CachesNotFilled"));
    sleep(FAILING_DEADLINE).await;
    let not_ready = watches.verdict(Instant::now()).unwrap_err();
    assert_eq!(not_ready.reason, "WatchFailing");
    assert!(not_ready.message.contains("etcd is gone"), "{}", not_ready.message);

    server.away.send_replace(false);
    sleep(LONG_ENOUGH).await;
    assert_eq!(watches.verdict(Instant::now()), Ok(()));

    server.away.send_replace(true);
    sleep(FAILING_DEADLINE / 2).await;
    assert_eq!(watches.verdict(Instant::now()), Ok(()), "a short absence is none");
    sleep(FAILING_DEADLINE).await;
    assert_eq!(reason(&watches).as_deref(), Some("WatchFailing"));

    server.away.send_replace(false);
    sleep(LONG_ENOUGH).await;
    assert_eq!(watches.verdict(Instant::now()), Ok(()));
}

/// An operator of one namespace may not look at nodes, and does not wait for them either.
#[tokio::test(start_paused = true)]
async fn nodes_are_looked_at_only_where_all_namespaces_are_watched() {
    for (namespace, is_asked) in [(None, true), (Some(NAMESPACE), false)] {
        let server = Empty::new(false);
        let watches = Watches::default();
        let client = server.client(&ServerTime::new(Clock::stopped_at(now())), &watches);
        let (caches, writers) = Caches::new();
        let mut standby = Standby::new(caches::watch(&client, namespace, writers, &watches));
        standby.until(caches.synced()).await.unwrap();
        let asked = server.asked.lock().unwrap().clone();
        assert_eq!(asked.contains("/api/v1/nodes"), is_asked, "{asked:?}");
        assert_eq!(asked.contains("/api/v1/pods"), namespace.is_none(), "{asked:?}");
        assert_eq!(watches.verdict(Instant::now()), Ok(()));
    }
}

#[tokio::test]
async fn the_time_of_the_apiserver_is_learnt_from_any_answer() {
    let time = ServerTime::new(Clock::stopped_at(now()));
    for away in [true, false] {
        let client = Empty::new(away).client(&time, &Watches::default());
        let found = Api::<Service>::all(client).list(&kube::api::ListParams::default()).await;
        assert_eq!(found.is_err(), away);
        assert_eq!(time.now().duration_since(now()).as_secs(), 3600);
    }
}

/// Wakes one reconcile, and then nobody.
fn one_request() -> Queue {
    let request = ObjectRef::<ModelDeployment>::new(NAME).within(NAMESPACE).into();
    let mut queue = Queue::new();
    queue.push(stream::iter([Ok(request)]).chain(stream::pending()).boxed());
    queue
}

async fn stopped_after_a_second(cluster: &mut Cluster) -> Ended {
    cluster.sync();
    let stop = CancellationToken::new();
    let running =
        tokio::spawn(controller::run(Arc::clone(&cluster.context), one_request(), 1, stop.clone()));
    sleep(Duration::from_secs(1)).await;
    stop.cancel();
    running.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_controller_whose_reconciles_came_to_their_end_ended_in_order() {
    let mut cluster = Cluster::new();
    assert_eq!(stopped_after_a_second(&mut cluster).await, Ended::InOrder);
    assert!(!cluster.asked().is_empty(), "it was reconciled");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_broke_a_reconcile_off_says_so_because_its_lease_must_not_be_released() {
    let mut cluster = Cluster::new();
    cluster.server.fall_silent("/services/");
    let begun = Instant::now();
    assert_eq!(stopped_after_a_second(&mut cluster).await, Ended::BrokenOff);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
