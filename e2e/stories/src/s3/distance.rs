//! A store that is far away: each answer comes late, and each connection has its own bandwidth.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How far ahead of its bandwidth a connection may be. Less than that is less than timers tell.
const AHEAD: Duration = Duration::from_millis(4);
/// The most that is written at a time, so that a connection's pace is even.
const PIECE: usize = 128 << 10;

/// How far away a store is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    /// How much later each answer begins.
    pub latency: Duration,
    /// How many bytes a second a connection carries to the client; none for as many as there are.
    pub bytes_per_second: Option<u32>,
}

/// A connection to a client that is far away.
pub(super) struct Far<S> {
    inner: S,
    bytes_per_second: Option<u32>,
    /// When the bytes so far would all be there.
    arrived: Instant,
    waiting: Pin<Box<Sleep>>,
}

impl<S> Far<S> {
    pub(super) fn new(inner: S, distance: Distance) -> Self {
        let now = Instant::now();
        Self {
            inner,
            bytes_per_second: distance.bytes_per_second,
            arrived: now,
            waiting: Box::pin(sleep_until(now)),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Far<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(rate) = self.bytes_per_second else {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        };
        ready!(self.waiting.as_mut().poll(cx));
        let piece = &bytes[..bytes.len().min(PIECE)];
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, piece))?;
        let written_bytes = u32::try_from(written).unwrap_or(u32::MAX);
        let took = Duration::from_secs_f64(f64::from(written_bytes) / f64::from(rate));
        self.arrived = self.arrived.max(Instant::now()) + took;
        let next = self.arrived - AHEAD;
        self.waiting.as_mut().reset(next);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Far<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_carries_as_many_bytes_a_second_as_it_may() {
        let distance = Distance { bytes_per_second: Some(1_000_000), ..Distance::default() };
        let mut far = Far::new(tokio::io::sink(), distance);
        let begun = Instant::now();
        far.write_all(&vec![0; 3_000_000]).await.unwrap();
        let took = begun.elapsed();
        assert!(
            took > Duration::from_millis(2_800) && took < Duration::from_millis(3_010),
            "{took:?}"
        );
    }
}
