//! Requests at a constant rate, each checked, each remembered: what accompanies a rollout.
//!
//! Three kinds of client at once: connections that are kept for as long as the server lets them,
//! one connection for each request, and readers that take their time. Requests are sent when their
//! time has come, whether or not earlier ones were answered, and never a second time.

mod client;
pub mod judge;
pub mod record;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::call::cosine;
use client::{Connection, Reading};
use record::{Client, Outcome, Record};

/// Requests in a second.
pub const RATE: u32 = 20;
/// How many connections are kept.
const KEPT: usize = 4;
/// Most requests that wait for their answer at once: at the rate, those of ten seconds.
const MOST_IN_FLIGHT: usize = 200;
/// Longest stream. What runs longer than any scenario is a test that hangs.
const LONGEST: Duration = Duration::from_mins(15);
/// The engine answers in 32-bit floats; two versions are far further apart.
const SAME: f64 = 0.9999;

/// A version of the model, by its answers.
#[derive(Clone, Debug)]
pub struct Version {
    /// What it is called in the ledger.
    pub name: &'static str,
    /// The right vector of each text of the stream.
    pub vectors: Vec<Vec<f64>>,
}

/// What is asked, and what may be answered.
#[derive(Clone, Debug)]
pub struct Questions {
    /// The port at 127.0.0.1.
    pub port: u16,
    /// The model's name.
    pub model: &'static str,
    /// The texts, asked in turn.
    pub texts: Vec<&'static str>,
    /// The versions that may answer.
    pub versions: Vec<Version>,
}

/// A running stream.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    sender: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    questions: Questions,
    begun: Instant,
    stop: AtomicBool,
    records: Mutex<Vec<Record>>,
    marks: Mutex<Vec<(Duration, String)>>,
}

/// What became of a stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// How long it took.
    pub length: Duration,
    /// Every request.
    pub records: Vec<Record>,
    /// What happened meanwhile, in order.
    pub marks: Vec<(Duration, String)>,
}

impl Traffic {
    /// Begins to ask.
    pub fn start(questions: Questions) -> Self {
        let shared = Arc::new(Shared {
            questions,
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            records: Mutex::default(),
            marks: Mutex::default(),
        });
        let sender = tokio::spawn(send(Arc::clone(&shared)));
        Self { shared, sender }
    }

    /// Time since the beginning.
    pub fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// Something happens now.
    pub fn mark(&self, what: impl Into<String>) {
        let mut marks = self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push((self.shared.begun.elapsed(), what.into()));
    }

    /// A handle that marks from another task.
    pub fn marker(&self) -> impl Fn(String) + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |what| {
            let mut marks = shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks.push((shared.begun.elapsed(), what));
        }
    }

    /// Asks nothing more, waits for the answers that are due, and gives what became of all.
    pub async fn finish(self) -> anyhow::Result<Stream> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let length = self.shared.begun.elapsed();
        self.sender.await.context("the stream broke")?;
        let take = |records: &Mutex<Vec<Record>>| {
            std::mem::take(&mut *records.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let records = take(&self.shared.records);
        if length > LONGEST {
            bail!("the stream ended by itself after {LONGEST:?}");
        }
        let marks =
            std::mem::take(&mut *self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Stream { length, records, marks })
    }
}

/// Every fifth request reads slowly, every third of the others has a connection of its own.
fn client_of(number: usize) -> Client {
    match number % 10 {
        0 => Client::Slow,
        3 | 6 | 9 => Client::Fresh,
        _ => Client::Kept,
    }
}

async fn send(shared: Arc<Shared>) {
    let in_flight = Arc::new(Semaphore::new(MOST_IN_FLIGHT));
    let mut alone = JoinSet::new();
    let mut kept = Vec::new();
    for number in 0..KEPT {
        let (queue, waiting) = mpsc::channel(MOST_IN_FLIGHT);
        kept.push(queue);
        alone.spawn(keep(Arc::clone(&shared), number, waiting));
    }
    let mut pace = interval(Duration::from_secs(1) / RATE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_usize.. {
        pace.tick().await;
        if shared.stop.load(Ordering::Relaxed) || shared.begun.elapsed() > LONGEST {
            break;
        }
        let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else { continue };
        let client = client_of(number);
        if client == Client::Kept {
            // Whoever is full has a request that waits: this one is sent when it is its turn.
            let _ = kept[number % KEPT].try_send((number, permit));
            continue;
        }
        let shared = Arc::clone(&shared);
        alone.spawn(async move {
            let mut connection = None;
            ask(&shared, &mut connection, number, client, number + KEPT).await;
            drop(permit);
        });
    }
    drop(kept);
    while alone.join_next().await.is_some() {}
}

type Waiting = mpsc::Receiver<(usize, tokio::sync::OwnedSemaphorePermit)>;

/// One connection after the other, each for as long as the server lets it.
async fn keep(shared: Arc<Shared>, slot: usize, mut waiting: Waiting) {
    let mut connection = None;
    while let Some((number, permit)) = waiting.recv().await {
        ask(&shared, &mut connection, number, Client::Kept, slot).await;
        drop(permit);
    }
}

async fn ask(
    shared: &Shared,
    connection: &mut Option<Connection>,
    number: usize,
    client: Client,
    slot: usize,
) {
    let questions = &shared.questions;
    let index = number % questions.texts.len();
    let start = shared.begun.elapsed();
    let is_open = connection.as_ref().is_some_and(Connection::is_open);
    let reading = if client == Client::Slow { Reading::Slow } else { Reading::Whole };
    let asked = async {
        if !is_open {
            *connection = Some(Connection::open(questions.port).await?);
        }
        match connection {
            Some(open) => open.embed(questions.model, questions.texts[index], reading).await,
            None => Err(Outcome::Refused("no connection".to_owned())),
        }
    };
    let asked = tokio::time::timeout(client::DEADLINE, asked).await;
    let known = connection.as_ref().and_then(|open| open.pod().map(str::to_owned));
    let (pod, outcome) = match asked {
        Ok(Ok(answer)) => (Some(answer.pod), judged(questions, index, &answer.vector)),
        Ok(Err(outcome)) => (known, outcome),
        Err(_) => (known, Outcome::Timeout),
    };
    if !outcome.is_ok() {
        *connection = None;
    }
    let record =
        Record { start, end: shared.begun.elapsed(), client, slot, is_new: !is_open, pod, outcome };
    shared.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
}

fn judged(questions: &Questions, index: usize, vector: &[f64]) -> Outcome {
    let near = |version: &Version| {
        version.vectors[index].len() == vector.len()
            && cosine(&version.vectors[index], vector) >= SAME
    };
    match questions.versions.iter().find(|version| near(version)) {
        Some(version) => Outcome::Right(version.name),
        None => Outcome::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const RIGHT: &str = r#"{"data":[{"embedding":[1.0,0.0]}]}"#;
    const WRONG: &str = r#"{"data":[{"embedding":[0.0,1.0]}]}"#;

    /// What a server does with a request.
    #[derive(Clone, Copy)]
    enum Manner {
        Right,
        RightAndClose,
        Wrong,
        BreakOff,
        Unavailable,
    }

    /// Reads one request; false when the client has gone.
    async fn read(socket: &mut TcpStream) -> bool {
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        loop {
            match socket.read(&mut part).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => seen.extend_from_slice(&part[..count]),
            }
            if seen.ends_with(b"}") {
                return true;
            }
        }
    }

    async fn serve(mut socket: TcpStream, manner: Manner) {
        while read(&mut socket).await {
            let (status, close, body) = match manner {
                Manner::Right => ("200 OK", "", RIGHT),
                Manner::RightAndClose => ("200 OK", "connection: close\r\n", RIGHT),
                Manner::Wrong => ("200 OK", "", WRONG),
                Manner::BreakOff => ("200 OK", "", &RIGHT[..9]),
                Manner::Unavailable => ("503 Service Unavailable", "", "{}"),
            };
            let length = if matches!(manner, Manner::BreakOff) { 999 } else { body.len() };
            let answer = format!(
                "HTTP/1.1 {status}\r\n{POD}: pod-1\r\n{close}content-length: {length}\r\n\r\n{body}",
                POD = lamplighter_protocol::place::POD_HEADER
            );
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            if matches!(manner, Manner::BreakOff | Manner::RightAndClose) {
                return;
            }
        }
    }

    /// What became of two seconds of requests to such a server.
    async fn asked(manner: Manner) -> Stream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, manner));
            }
        });
        let traffic = Traffic::start(Questions {
            port,
            model: "m",
            texts: vec!["a", "b"],
            versions: vec![Version { name: "v", vectors: vec![vec![1.0, 0.0]; 2] }],
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let stream = traffic.finish().await.unwrap();
        server.abort();
        stream
    }

    fn all(stream: &Stream, is: impl Fn(&Outcome) -> bool) {
        assert!(stream.records.len() >= 30, "{} requests", stream.records.len());
        let odd = stream.records.iter().find(|record| !is(&record.outcome));
        assert!(odd.is_none(), "{odd:?}");
    }

    #[tokio::test]
    async fn what_becomes_of_requests_is_told_by_kind() {
        let (right, closing, wrong, broken, unavailable) = tokio::join!(
            asked(Manner::Right),
            asked(Manner::RightAndClose),
            asked(Manner::Wrong),
            asked(Manner::BreakOff),
            asked(Manner::Unavailable),
        );
        all(&right, |outcome| *outcome == Outcome::Right("v"));
        let kept = |stream: &Stream| {
            let kept = stream.records.iter().filter(|record| record.client == Client::Kept);
            kept.filter(|record| record.is_new).count()
        };
        assert_eq!(kept(&right), KEPT, "connections are kept");
        assert!(right.records.iter().all(|record| record.pod.as_deref() == Some("pod-1")));
        all(&closing, |outcome| *outcome == Outcome::Right("v"));
        assert!(kept(&closing) > KEPT, "a server may close between two requests");
        all(&wrong, |outcome| *outcome == Outcome::Wrong);
        all(&broken, |outcome| matches!(outcome, Outcome::Broken(_)));
        all(&unavailable, |outcome| *outcome == Outcome::Status(503));
    }

    #[tokio::test]
    async fn a_port_at_which_nobody_listens_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let opened = Connection::open(port).await;
        assert!(matches!(opened, Err(Outcome::Refused(_))), "{opened:?}");
    }
}
