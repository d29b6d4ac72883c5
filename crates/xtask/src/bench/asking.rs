//! The same request on many connections, and what came of it each time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::client::{Client, Code};

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Of the worker.
    pub(crate) address: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: &'a str,
    /// Nothing is asked any more once this is set.
    pub(crate) over: &'a AtomicBool,
}

/// An answer as the client sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// When it was there.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

/// What came of all requests within some time.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) seconds: f64,
    pub(crate) asked: u64,
    /// With 200.
    pub(crate) answered: Vec<Timed>,
    /// With 429.
    pub(crate) refused: Vec<Timed>,
    pub(crate) other: u64,
}

impl Load {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answered.len() as f64 / self.seconds
    }
}

/// The 99th percentile; none of none.
pub(crate) fn p99<'a>(answers: impl IntoIterator<Item = &'a Timed>) -> Duration {
    let mut times: Vec<Duration> = answers.into_iter().map(|timed| timed.took).collect();
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

/// In milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Asks on so many connections for so long: one request after the other, or so many a second, whether
/// the ones before were answered or not. What was answered before the time was over counts, and no more.
pub(crate) fn ask(
    request: Request<'_>,
    connections: u32,
    rate: Option<f64>,
    time: Duration,
) -> Result<Load> {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let loads: Vec<Result<Load>> = std::thread::scope(|scope| {
        let ask = || on_one(request, begun, rate, time, &next);
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(ask)).collect();
        let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<Load>>| {
            thread.join().unwrap_or_else(|_| bail!("a thread of the generator panicked"))
        };
        threads.into_iter().map(ended).collect()
    });
    let mut all = Load { seconds: time.as_secs_f64(), ..Load::default() };
    for load in loads {
        let load = load?;
        all.asked += load.asked;
        all.other += load.other;
        all.answered.extend(load.answered);
        all.refused.extend(load.refused);
    }
    Ok(all)
}

fn on_one(
    request: Request<'_>,
    begun: Instant,
    rate: Option<f64>,
    time: Duration,
    next: &AtomicU64,
) -> Result<Load> {
    let mut client = Client::new(request.address);
    let mut load = Load::default();
    loop {
        if let Some(rate) = rate {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_secs_f64(number as f64 / rate);
            sleep(due.saturating_sub(begun.elapsed()).min(time));
        }
        if begun.elapsed() >= time || request.over.load(Ordering::Relaxed) {
            return Ok(load);
        }
        load.asked += 1;
        let asked = Instant::now();
        let code = client.post(request.path, request.body)?;
        let timed = Timed { at: Instant::now(), took: asked.elapsed() };
        if begun.elapsed() < time {
            match code {
                Code::Ok => load.answered.push(timed),
                Code::TooMany => load.refused.push(timed),
                Code::Other(_) => load.other += 1,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "things happen at times that were set before")]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_one_that_was_measured() {
        let at = Instant::now();
        let answer = |millis| Timed { at, took: Duration::from_millis(millis) };
        let answers: Vec<Timed> = (1..=200).map(answer).collect();
        assert_eq!(p99(&answers), Duration::from_millis(198));
        assert_eq!(p99(&[]), Duration::ZERO);
    }
}
