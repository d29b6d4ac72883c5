//! The requests of one connection, from the parsed head until the answer was written.
//!
//! hyper lets go of an answer's body when it has buffered the last of it, which is long before a
//! slow reader has taken it. So a request counts until a flush of the connection came to its
//! end, and a reader that takes next to nothing for too long is told apart from one that is slow.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use lamplighter_telemetry::idle::Idler;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::linger::{Leftover, Linger};

/// The largest piece of an answer that is given to hyper at once, and so what an HTTP/2 reader
/// may leave untaken without being noticed. The largest frame that every HTTP/2 peer takes:
/// <https://www.rfc-editor.org/rfc/rfc9113#section-4.2>.
const PIECE: usize = 16 << 10;
/// What a reader must take in the time that it has, or else the rest of its answer. A byte now and
/// then would hold the answer's memory for as long as the client likes.
pub(super) const LEAST: usize = 64 << 10;

/// What of one connection is not written yet.
#[derive(Debug)]
pub(super) struct Flights {
    in_flight: Gauge,
    idler: Idler,
    requests: Mutex<Requests>,
    /// An answer begins to be written.
    writing: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    next: u64,
    stages: BTreeMap<u64, Stage>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Answering,
    Writing(Sent),
    /// hyper has all of the answer.
    Buffered(Sent),
}

/// How far an answer is with its reader.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When the reader had last taken [`LEAST`] more.
    progress: Instant,
    /// Bytes since then.
    taken: usize,
    /// Bytes of an HTTP/2 connection may belong to any of its answers.
    alone: bool,
}

impl Flights {
    /// `in_flight` counts requests of all connections; `idler` is this one.
    pub(super) fn new(in_flight: Gauge, idler: Idler) -> Arc<Self> {
        Arc::new(Self { in_flight, idler, requests: Mutex::default(), writing: Notify::new() })
    }

    /// A request's head was parsed.
    pub(super) fn begin(self: &Arc<Self>) -> Flight {
        let mut requests = self.lock();
        let id = requests.next;
        requests.next += 1;
        self.idler.is_busy();
        requests.stages.insert(id, Stage::Answering);
        self.in_flight.inc();
        Flight { flights: Arc::clone(self), id }
    }

    /// Whether every request was answered.
    pub(super) fn are_none(&self) -> bool {
        self.lock().stages.is_empty()
    }

    /// Returns when another connection needs the place of this one, which was idle.
    pub(super) async fn sent_away(&self) {
        self.idler.sent_away().await;
    }

    /// Returns when a reader has taken less than [`LEAST`] of an answer in `patience`, and not its
    /// rest. Over HTTP/2 that is when the connection took less: a client may read its answers one
    /// after another, and each of them is worth as much as the one that waits.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let Some(progress) = self.slowest() else {
                self.writing.notified().await;
                continue;
            };
            let deadline = progress + patience;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    fn slowest(&self) -> Option<Instant> {
        let requests = self.lock();
        requests.stages.values().filter_map(Stage::waits).map(|sent| sent.progress).min()
    }

    /// The system took bytes of this connection.
    fn wrote(&self, bytes: usize) {
        for stage in self.lock().stages.values_mut() {
            if let Stage::Writing(sent) | Stage::Buffered(sent) = stage {
                sent.took(bytes);
            }
        }
    }

    /// The system took everything that was buffered.
    fn flushed(&self) {
        let mut requests = self.lock();
        let before = requests.stages.len();
        requests.stages.retain(|_, stage| !matches!(stage, Stage::Buffered(_)));
        self.gone(before - requests.stages.len(), &requests);
    }

    fn gone(&self, gone: usize, left: &Requests) {
        self.in_flight.dec_by(i64::try_from(gone).unwrap_or(i64::MAX));
        if gone > 0 && left.stages.is_empty() {
            self.idler.rests();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        let left = self.lock().stages.len();
        self.in_flight.dec_by(i64::try_from(left).unwrap_or(i64::MAX));
    }
}

impl Sent {
    fn took(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken >= LEAST {
            self.taken = 0;
            self.progress = Instant::now();
        }
    }
}

impl Stage {
    /// An answer that its reader has yet to take. When hyper has all of an HTTP/2 answer, the
    /// system may have it too: the connection's own task writes it, at any time. Whether the peer
    /// is still there is then for pings to find out.
    fn waits(&self) -> Option<&Sent> {
        match self {
            Self::Answering => None,
            Self::Writing(sent) => Some(sent),
            Self::Buffered(sent) => sent.alone.then_some(sent),
        }
    }
}

/// One request; when it is dropped, hyper wants nothing more of it.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    id: u64,
}

impl Flight {
    /// The answer, to be written piece by piece. `alone`: no other answer is written meanwhile.
    pub(super) fn write(self, body: Body, alone: bool) -> Written {
        let sent = Sent { progress: Instant::now(), taken: 0, alone };
        self.flights.lock().stages.insert(self.id, Stage::Writing(sent));
        self.flights.writing.notify_one();
        Written { body, rest: Bytes::new(), _flight: self }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut requests = self.flights.lock();
        match requests.stages.get(&self.id).copied() {
            Some(Stage::Writing(sent)) => {
                requests.stages.insert(self.id, Stage::Buffered(sent));
            }
            // The client went away before there was an answer.
            Some(Stage::Answering) => {
                requests.stages.remove(&self.id);
                self.flights.gone(1, &requests);
            }
            Some(Stage::Buffered(_)) | None => {}
        }
    }
}

/// An answer's body in pieces that a reader can take one at a time.
#[derive(Debug)]
pub(super) struct Written {
    body: Body,
    rest: Bytes,
    _flight: Flight,
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut both = SizeHint::new();
        both.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            both.set_upper(upper.saturating_add(rest));
        }
        both
    }
}

/// A connection that tells its flights what the system took.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    flights: Arc<Flights>,
    leftover: Leftover,
    /// Our side is closed and the client's is waited for.
    linger: Option<Linger>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, flights: Arc<Flights>, leftover: Leftover) -> Self {
        Self { stream, flights, leftover, linger: None }
    }

    fn heard(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.flights.wrote(bytes);
        }
        written
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heard(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.heard(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.flights.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, leftover, linger, .. } = &mut *self;
        if linger.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
            if !leftover.is_there() {
                return Poll::Ready(Ok(()));
            }
        }
        linger.get_or_insert_with(Linger::begin).poll(stream, context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_telemetry::idle::Idlers;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Whether a reader that takes so many bytes four times in its patience is cut off.
    async fn is_cut_off(bytes: usize) -> bool {
        let flights = Flights::new(Gauge::default(), Idlers::default().enter());
        let _written = flights.begin().write(Body::empty(), true);
        let reading = async {
            for _ in 0..40 {
                tokio::time::sleep(PATIENCE / 4).await;
                flights.wrote(bytes);
            }
        };
        tokio::select! {
            () = flights.stalled(PATIENCE) => true,
            () = reading => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_no_progress_and_the_least_is() {
        assert!(is_cut_off(1).await);
        assert!(is_cut_off(LEAST / 8).await);
        assert!(!is_cut_off(LEAST / 2).await);
    }
}
