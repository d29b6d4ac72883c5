//! A steady stream of requests, and what became of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lamplighter_protocol::place::POD_HEADER;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::call::Caller;
use crate::wait::{Look, eventually};

/// How long a load may take to be under way on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// What became of a stream of requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were answered as they should be.
    pub answered: usize,
    /// What was wrong with each of the others, and how long after the start.
    pub failures: Vec<String>,
    /// How many answers each pod gave, by the pod's uid.
    pub by_pod: BTreeMap<String, usize>,
}

/// A running stream.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Tally>,
}

impl Load {
    /// Starts one client for each caller. Each sends the next request as soon as the last is
    /// answered; `judge` says what is wrong with the JSON of an answer.
    pub fn start(
        callers: impl IntoIterator<Item = Caller>,
        model: &str,
        text: &str,
        judge: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let judge: Arc<Judge> = Arc::new(judge);
        let body = json!({"model": model, "input": text});
        let mut clients = JoinSet::new();
        for caller in callers {
            clients.spawn(client(
                caller,
                body.clone(),
                Arc::clone(&judge),
                Arc::clone(&stop),
                Arc::clone(&answered),
            ));
        }
        Self { stop, answered, clients }
    }

    /// Waits until this many requests were answered: what happens next happens under load.
    pub async fn under_way(&self, answers: usize) -> anyhow::Result<()> {
        eventually("the load is under way", START_DEADLINE, || async {
            let answered = self.answered.load(Ordering::Relaxed);
            Ok(Look::when(answered >= answers, || format!("{answered} of {answers} answers")))
        })
        .await
    }

    /// Lets each client finish its request and adds up.
    pub async fn stop(self) -> anyhow::Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        let mut clients = self.clients;
        while let Some(tally) = clients.join_next().await {
            let tally = tally?;
            sum.answered += tally.answered;
            sum.failures.extend(tally.failures);
            for (pod, count) in tally.by_pod {
                *sum.by_pod.entry(pod).or_default() += count;
            }
        }
        Ok(sum)
    }
}

type Judge = dyn Fn(&Value) -> Result<(), String> + Send + Sync;

async fn client(
    caller: Caller,
    body: Value,
    judge: Arc<Judge>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Tally {
    let mut tally = Tally::default();
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let judged = async {
            let answer = caller.post("/v1/embeddings", &body).await?.ok()?;
            judge(&answer.json()?).map_err(anyhow::Error::msg)?;
            anyhow::Ok(answer.header(POD_HEADER).to_owned())
        };
        match judged.await {
            Ok(pod) => {
                tally.answered += 1;
                answered.fetch_add(1, Ordering::Relaxed);
                *tally.by_pod.entry(pod).or_default() += 1;
            }
            Err(error) => tally.failures.push(format!("after {:?}: {error:#}", started.elapsed())),
        }
    }
    tally
}

/// The first vector of an answer of `/v1/embeddings`.
pub fn first_vector(answer: &Value) -> Result<Vec<f64>, String> {
    serde_json::from_value(answer["data"][0]["embedding"].clone())
        .map_err(|error| format!("{answer} has no vector: {error}"))
}
