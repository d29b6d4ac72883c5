//! Requests of one text each, on many connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::json;

use crate::bench::client::{Client, Code};
use crate::bench::percentile;
use crate::bench::process::Running;
use crate::bench::worker::MODEL;
use crate::bench::workloads::Workload;

/// Connections, which each carry one request at a time.
pub(super) const CONNECTIONS: usize = 64;

/// Who is asked.
pub(super) struct Server<'a> {
    pub(super) address: &'a str,
    pub(super) path: &'static str,
    pub(super) process: &'a Running,
}

/// What came of requests, or of several such loads together.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// From the first request to the last answer.
    seconds: f64,
    /// Of the server's processor meanwhile.
    cpu_seconds: f64,
    /// Requests that were due, and in how many seconds.
    due: usize,
    due_seconds: f64,
    /// Of those that were answered with 200: their tokens, and the milliseconds since each was due.
    tokens: usize,
    millis: Vec<f64>,
}

/// The same in rates.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) due_per_second: f64,
    pub(super) answered_per_second: f64,
    /// Of the requests that were due, those that were answered with 200.
    pub(super) answered: f64,
    pub(super) tokens_per_second: f64,
    /// For each second of one processor.
    pub(super) tokens_per_processor_second: f64,
    /// Milliseconds since a request was due.
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Summary {
    /// Milliseconds of the processor.
    pub(super) fn cpu_millis_per_1000_tokens(&self) -> f64 {
        1e6 / self.tokens_per_processor_second
    }
}

impl Load {
    /// Takes another one's requests in, as if they had come after these.
    pub(super) fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
        self.due += other.due;
        self.due_seconds += other.due_seconds;
        self.tokens += other.tokens;
        self.millis.extend(other.millis);
    }

    pub(super) fn summary(&self) -> Summary {
        let (answered, tokens) = (self.millis.len() as f64, self.tokens as f64);
        Summary {
            due_per_second: self.due as f64 / self.due_seconds,
            answered_per_second: answered / self.seconds,
            answered: answered / self.due as f64,
            tokens_per_second: tokens / self.seconds,
            tokens_per_processor_second: tokens / self.cpu_seconds,
            p50: percentile(&self.millis, 0.50),
            p99: percentile(&self.millis, 0.99),
        }
    }
}

/// When requests are due.
#[derive(Clone, Copy)]
enum Due<'a> {
    /// So many, each when a connection is free.
    WhenFree(usize),
    /// At these times, and none is sent after the end.
    At(&'a [Duration], Duration),
}

/// Texts, and the tokens of each.
pub(super) struct Generator {
    requests: Vec<(String, usize)>,
}

impl Generator {
    pub(super) fn of(workload: &Workload) -> Result<Self> {
        ensure!(!workload.texts.is_empty(), "there are no texts");
        let body = |text: &String| json!({"model": MODEL, "input": text}).to_string();
        let lengths = workload.ids.iter().map(Vec::len);
        Ok(Self { requests: workload.texts.iter().map(body).zip(lengths).collect() })
    }

    /// Every text once, as fast as all connections together get answers. Fails unless all are 200.
    pub(super) fn every_text(&self, server: &Server<'_>) -> Result<Load> {
        self.first_texts(server, self.requests.len())
    }

    /// The same for so many.
    pub(super) fn first_texts(&self, server: &Server<'_>, count: usize) -> Result<Load> {
        let load = self.ask(server, Due::WhenFree(count))?;
        let (well, all) = (load.millis.len(), load.due);
        ensure!(well == all, "{} answered only {well} of {all} requests with 200", server.address);
        Ok(load)
    }

    /// So many requests a second on average, for so long, whether the ones before were answered or not.
    /// Those for which no connection was free in all that time are not sent.
    pub(super) fn at_rate(&self, server: &Server<'_>, rate: f64, time: Duration) -> Result<Load> {
        self.ask(server, Due::At(&arrivals(rate, time)?, time))
    }

    fn ask(&self, server: &Server<'_>, due: Due<'_>) -> Result<Load> {
        let cpu_seconds = server.process.cpu_seconds()?;
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        let loads: Vec<Result<Load>> = std::thread::scope(|scope| {
            let ask = || self.ask_on_one(server, due, begun, &next);
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask)).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<Load>>| {
                thread.join().unwrap_or_else(|_| bail!("a thread of the generator panicked"))
            };
            threads.into_iter().map(ended).collect()
        });
        let mut all = Load::default();
        for load in loads {
            all.add(load?);
        }
        all.seconds = begun.elapsed().as_secs_f64();
        all.due_seconds = match due {
            Due::WhenFree(_) => all.seconds,
            Due::At(_, end) => end.as_secs_f64(),
        };
        all.cpu_seconds = server.process.cpu_seconds()? - cpu_seconds;
        Ok(all)
    }

    fn ask_on_one(
        &self,
        server: &Server<'_>,
        due: Due<'_>,
        begun: Instant,
        next: &AtomicUsize,
    ) -> Result<Load> {
        let mut client = Client::new(server.address);
        let mut load = Load::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let at = match due {
                Due::WhenFree(count) if number < count => begun.elapsed(),
                Due::At(times, _) if number < times.len() => times[number],
                _ => return Ok(load),
            };
            load.due += 1;
            if let Due::At(_, end) = due {
                sleep(at.saturating_sub(begun.elapsed()));
                if begun.elapsed() >= end {
                    continue;
                }
            }
            let (body, tokens) = &self.requests[number % self.requests.len()];
            if client.post(server.path, body)? == Code::Ok {
                load.tokens += tokens;
                // A request that waited for a connection waited, too.
                load.millis.push(begun.elapsed().saturating_sub(at).as_secs_f64() * 1e3);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "requests come at times that were set before")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Times by lot, so many a second on average, as of many clients that know nothing of each other
/// (<https://en.wikipedia.org/wiki/Poisson_point_process>); the same in every run.
fn arrivals(rate: f64, time: Duration) -> Result<Vec<Duration>> {
    ensure!(rate.is_finite() && rate > 0.0, "{rate} requests a second are none");
    let mut lot = 0x2545_f491_4f6c_dd1d_u64;
    let mut at = 0.0;
    let mut times = Vec::new();
    loop {
        // https://en.wikipedia.org/wiki/Xorshift
        lot ^= lot << 13;
        lot ^= lot >> 7;
        lot ^= lot << 17;
        // Between 0 and 1, neither included.
        let share = ((lot >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        at -= share.ln() / rate;
        if at >= time.as_secs_f64() {
            return Ok(times);
        }
        times.push(Duration::from_secs_f64(at));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;

    use super::*;

    /// Answers each request after so long; the texts that are `refused` with 429.
    fn answer(stream: TcpStream, pause: Duration) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                match stream.read_line(&mut line) {
                    Ok(read) if read > 0 => {}
                    _ => return,
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let is_refused = String::from_utf8(body).unwrap().contains("refused");
            sleep(pause);
            let code = if is_refused { "429 Too Many Requests" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {code}\r\nContent-Length: 2\r\n\r\n{{}}");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    }

    /// Its address, and a process to be counted.
    fn server(pause: Duration) -> (String, Running) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(stream, pause));
            }
        });
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("log");
        let sleeper = Running::start(&PathBuf::from("sleep"), ["60"], &[], &log).unwrap();
        (address, sleeper)
    }

    fn generator(texts: &[&str]) -> Generator {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let ids = (1..=texts.len()).map(|length| vec![7; length]).collect();
        Generator::of(&Workload { ids, texts }).unwrap()
    }

    #[test]
    fn every_text_is_asked_once_and_its_tokens_count() {
        let (address, process) = server(Duration::ZERO);
        let server = Server { address: &address, path: "/", process: &process };
        let load = generator(&["a", "b", "c", "d"]).every_text(&server).unwrap();
        assert_eq!((load.due, load.millis.len(), load.tokens), (4, 4, 1 + 2 + 3 + 4));
        let error = generator(&["a", "refused"]).every_text(&server).unwrap_err().to_string();
        assert!(error.contains("only 1 of 2"), "{error}");
    }

    #[test]
    fn at_a_rate_what_is_late_counts_from_when_it_was_due_and_what_is_refused_does_not() {
        let pause = Duration::from_millis(300);
        let (address, process) = server(pause);
        let server = Server { address: &address, path: "/", process: &process };
        let time = Duration::from_millis(900);
        // Three times as many as 64 connections get answers to.
        let load = generator(&["a", "refused"]).at_rate(&server, 640.0, time).unwrap();
        let due = arrivals(640.0, time).unwrap().len();
        assert_eq!(load.due, due);
        let summary = load.summary();
        assert!(summary.answered < 0.4, "half of them are refused: {summary:?}");
        assert!(summary.p50 > 350.0, "they waited for a connection: {summary:?}");
    }

    #[test]
    fn arrivals_are_as_many_as_asked_for_and_the_same_again() {
        let time = Duration::from_secs(100);
        let times = arrivals(50.0, time).unwrap();
        assert!((4_800..5_200).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted() && times.iter().all(|at| *at < time));
        assert_eq!(times, arrivals(50.0, time).unwrap());
        // Of a Poisson process 37 in 100 gaps are longer than the mean.
        let long = times.windows(2).filter(|pair| pair[1] > pair[0] + time / 5_000).count();
        assert!((1_650..2_050).contains(&long), "{long}");
        for none in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(arrivals(none, time).is_err(), "{none}");
        }
    }

    #[test]
    fn a_summary_counts_several_loads_as_one() {
        let load = |millis: &[f64]| Load {
            seconds: 2.0,
            cpu_seconds: 0.5,
            due: 4,
            due_seconds: 1.0,
            tokens: 100,
            millis: millis.to_vec(),
        };
        let mut all = load(&[1.0, 2.0, 3.0]);
        all.add(load(&[4.0, 5.0]));
        let summary = all.summary();
        let found = [
            summary.due_per_second,
            summary.answered_per_second,
            summary.answered,
            summary.tokens_per_second,
            summary.tokens_per_processor_second,
            summary.cpu_millis_per_1000_tokens(),
            summary.p50,
            summary.p99,
        ];
        let expected = [4.0, 1.25, 0.625, 50.0, 200.0, 5_000.0, 3.0, 5.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }
}
