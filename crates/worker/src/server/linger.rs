//! A close that a client hears of although it is still sending.
//!
//! A request may be refused before its body is read. Closing a socket that holds bytes nobody
//! read resets the connection, and a reset may overtake the answer on its way
//! (<https://www.rfc-editor.org/rfc/rfc9112#section-9.6>). So our side is closed first, and what
//! still comes is read and dropped until the client has closed its own.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long a client may go on sending.
const LONGEST: Duration = Duration::from_secs(1);
/// How many bytes it may send: most clients read no answer before they have sent their whole
/// body, so twice the longest body that is accepted by default.
const MOST: usize = 8 << 20;
const PIECE: usize = 16 << 10;

/// Whether a connection's last request was answered before all of its body was read, or has a head
/// that was never whole. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftover(Arc<AtomicBool>);

impl Leftover {
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What follows belongs to no request that was seen.
    pub(super) fn begins(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Watches the body of the next request: that there is one shows that nothing is left of the
    /// one before.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(false, Ordering::Release);
        Watched { body, leftover: Some(self.clone()) }
    }

    /// A body whose rest does no harm: HTTP/2 refuses a stream, and its connection lives on.
    pub(super) fn ignore(body: Incoming) -> Watched {
        Watched { body, leftover: None }
    }
}

/// A request's body that tells when it is given up before its end.
#[derive(Debug)]
pub(super) struct Watched {
    body: Incoming,
    /// None when the end was seen.
    leftover: Option<Leftover>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.leftover = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(leftover) = &self.leftover
            && !self.body.is_end_stream()
        {
            leftover.0.store(true, Ordering::Release);
        }
    }
}

/// Reading and dropping what comes after the last answer.
#[derive(Debug)]
pub(super) struct Linger {
    end: Pin<Box<Sleep>>,
    dropped: usize,
}

impl Linger {
    pub(super) fn begin() -> Self {
        Self { end: Box::pin(tokio::time::sleep(LONGEST)), dropped: 0 }
    }

    /// Ready when the client has closed its side or is gone, or has had its time or its bytes.
    pub(super) fn poll(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<()> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut piece = [0; PIECE];
        while self.dropped < MOST {
            let mut buffer = ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
            self.dropped += buffer.filled().len();
        }
        Poll::Ready(())
    }
}
