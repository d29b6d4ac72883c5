//! The head of a request that is on its way. A connection may wait long for a request; one that has
//! begun to come may not, or half a head would hold its bytes and its place for as long.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::flight::Flights;
use super::linger::Leftover;

/// What an HTTP/2 connection begins with
/// (<https://www.rfc-editor.org/rfc/rfc9113#section-3.4>).
const PREFACE: &[u8] = b"PRI";

/// How far the head of a connection's next request is.
#[derive(Debug, Default)]
pub(super) struct Head {
    stage: Mutex<Stage>,
    begins: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Awaited,
    Begun(Instant),
    /// Frames come between requests, too, and the protocol bounds what a head may take.
    Http2,
}

impl Head {
    /// A request's head was parsed.
    pub(super) fn is_whole(&self, http2: bool) {
        *self.lock() = if http2 { Stage::Http2 } else { Stage::Awaited };
    }

    /// Returns when a head is not whole `patience` after its first byte.
    pub(super) async fn is_late(&self, patience: Duration) {
        loop {
            let stage = *self.lock();
            let Stage::Begun(begun) = stage else {
                self.begins.notified().await;
                continue;
            };
            let deadline = begun + patience;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Bytes came that belong to no request yet. Whether a head begins with them: empty lines
    /// before it are no part of it (<https://www.rfc-editor.org/rfc/rfc9112#section-2.2>).
    fn begins(&self, bytes: &[u8]) -> bool {
        let mut stage = self.lock();
        if !matches!(*stage, Stage::Awaited) || bytes.trim_ascii_start().is_empty() {
            return false;
        }
        if bytes.starts_with(PREFACE) {
            *stage = Stage::Http2;
            return false;
        }
        *stage = Stage::Begun(Instant::now());
        self.begins.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, decrypted, whose heads are seen to begin.
#[derive(Debug)]
pub(super) struct Headed<W> {
    pub(super) wire: W,
    pub(super) head: Arc<Head>,
    pub(super) flights: Arc<Flights>,
    pub(super) leftover: Leftover,
}

impl<W: AsyncRead + Unpin> AsyncRead for Headed<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(context, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        if self.flights.are_none() && self.head.begins(came) {
            self.leftover.begins();
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Headed<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    async fn is_late(head: &Head) -> bool {
        tokio::time::timeout(2 * PATIENCE, head.is_late(PATIENCE)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_late_by_its_first_byte_and_nothing_else_is() {
        let head = Head::default();
        assert!(!is_late(&head).await, "nothing came");
        assert!(!head.begins(b"\r\n"));
        assert!(!is_late(&head).await, "an empty line came");
        assert!(head.begins(b"GET / HT"));
        head.is_whole(false);
        assert!(!is_late(&head).await, "a whole head came");
        assert!(head.begins(b"G"));
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(!head.begins(b"E"), "it had begun");
        let rest = tokio::time::timeout(PATIENCE * 3 / 4, head.is_late(PATIENCE)).await;
        assert!(rest.is_ok(), "more bytes give no more time");
        let head = Head::default();
        assert!(!head.begins(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        assert!(!head.begins(b"a frame"));
        assert!(!is_late(&head).await);
    }
}
