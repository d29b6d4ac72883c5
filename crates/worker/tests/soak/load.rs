//! Requests as a careless world sends them: of any length, given up half-way, too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const WORDS: [&str; 6] = ["the", "lamp", "river", "stone", "light", "winter"];
/// Of a hundred requests.
const GIVEN_UP: u64 = 20;
const OVERSIZE: u64 = 5;
/// Texts of one request at most.
const TEXTS: u64 = 6;
const ANSWER: Duration = Duration::from_secs(30);

/// What was sent, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answered: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counts {
    pub(crate) fn line(&self) -> String {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (answered, given_up, refused) =
            (of(&self.answered), of(&self.given_up), of(&self.refused));
        format!("{answered} requests answered, {given_up} given up, {refused} refused as oversize")
    }
}

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) serving: SocketAddr,
    pub(crate) model: String,
    /// Tokens of the longest text that is answered.
    pub(crate) longest: u64,
    /// Bytes of the longest body that is read.
    pub(crate) body: usize,
}

/// How often each client asks at most.
#[derive(Clone, Copy)]
pub(crate) struct Pace(Duration);

impl Pace {
    /// So many requests a second of so many clients together; 0 for as many as are answered.
    pub(crate) fn new(rate: u64, clients: u64) -> Self {
        let micros = (clients * 1_000_000).checked_div(rate).unwrap_or_default();
        Self(Duration::from_micros(micros))
    }
}

/// Numbers that a seed decides (<https://doi.org/10.1145/2714064.2660195>, its output function).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn text(&mut self, words: u64) -> String {
        let word = |random: &mut Self| {
            let at = usize::try_from(random.below(WORDS.len() as u64)).unwrap_or_default();
            WORDS[at]
        };
        (0..words).map(|_| word(self)).collect::<Vec<_>>().join(" ")
    }
}

/// Sends one request after the other until it is told to stop. What is not answered as it should
/// be is an error.
pub(crate) async fn client(
    target: Target,
    seed: u64,
    pace: Pace,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
) -> Result<(), String> {
    let http = Client::builder(TokioExecutor::new()).build_http();
    let mut random = Random::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let next = tokio::time::Instant::now() + pace.0;
        let lot = random.below(100);
        let (what, done, count) = if lot < GIVEN_UP {
            ("given up", give_up(&target, &mut random).await, &counts.given_up)
        } else if lot < GIVEN_UP + OVERSIZE {
            ("oversize", oversize(&target, &http, &mut random).await, &counts.refused)
        } else {
            ("ordinary", ask(&target, &http, &mut random).await, &counts.answered)
        };
        done.map_err(|problem| format!("a request ({what}): {problem}"))?;
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep_until(next).await;
    }
    Ok(())
}

type Http = Client<HttpConnector, Full<hyper::body::Bytes>>;

async fn ask(target: &Target, http: &Http, random: &mut Random) -> Result<(), String> {
    let texts = 1 + random.below(TEXTS);
    // Two special tokens come on top.
    let text = |random: &mut Random| {
        let words = 1 + random.below(target.longest - 2);
        random.text(words)
    };
    let texts: Vec<String> = (0..texts).map(|_| text(random)).collect();
    let body = json!({"model": target.model, "input": texts}).to_string();
    let (status, answer) = send(target, http, body).await?;
    let vectors = answer["data"].as_array().map(Vec::len);
    if status == 200 && vectors == Some(texts.len()) {
        Ok(())
    } else {
        Err(format!("{} texts: {status} {answer}", texts.len()))
    }
}

/// A text that is too long for the model, or a body that is too long for the worker.
async fn oversize(target: &Target, http: &Http, random: &mut Random) -> Result<(), String> {
    let (text, expected) = if random.below(2) == 0 {
        {
            let words = target.longest + 1 + random.below(50);
            (random.text(words), 400)
        }
    } else {
        ("x".repeat(target.body), 413)
    };
    let body = json!({"model": target.model, "input": text}).to_string();
    match send(target, http, body).await? {
        (status, _) if status == expected => Ok(()),
        (status, answer) => Err(format!("{expected} was expected: {status} {answer}")),
    }
}

async fn send(target: &Target, http: &Http, body: String) -> Result<(u16, Value), String> {
    let request = hyper::Request::post(format!("http://{}/v1/embeddings", target.serving))
        .header("content-type", "application/json")
        .body(Full::from(body))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = http.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        let json = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        Ok((status, json))
    };
    tokio::time::timeout(ANSWER, answer).await.map_err(|_| "no answer in time".to_owned())?
}

/// A client that goes away: before its body is complete, right after it, or within the answer.
async fn give_up(target: &Target, random: &mut Random) -> Result<(), String> {
    let words = 1 + random.below(target.longest - 2);
    let body = json!({"model": target.model, "input": random.text(words)}).to_string();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let gone = async {
        let mut stream = TcpStream::connect(target.serving).await?;
        stream.write_all(head.as_bytes()).await?;
        match random.below(3) {
            0 => stream.write_all(&body.as_bytes()[..body.len() / 2]).await?,
            1 => stream.write_all(body.as_bytes()).await?,
            _ => {
                stream.write_all(body.as_bytes()).await?;
                stream.read_exact(&mut [0; 8]).await?;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::time::timeout(ANSWER, gone)
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())
}
