//! The signals that end a worker.
//!
//! SIGTERM is sent by the kubelet, once; whoever sends it again does not take the drain away from
//! the clients. SIGINT is Ctrl-C: the first drains, too, the second ends the process at once,
//! because a developer does not wait.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT.
///
/// Must be called inside a tokio runtime. Fails when the handlers cannot be installed.
pub fn signals() -> io::Result<CancellationToken> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    tokio::spawn(watch(terminate, interrupt, token.clone()));
    Ok(token)
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    let mut interrupted = false;
    loop {
        let by_hand = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => true,
        };
        let signal = if by_hand { "SIGINT" } else { "SIGTERM" };
        if by_hand && interrupted {
            tracing::error!(signal, "told to stop a second time by hand: aborting");
            std::process::abort();
        }
        interrupted |= by_hand;
        if stop.is_cancelled() {
            tracing::info!(signal, "told to stop again: the drain goes on");
        } else {
            tracing::info!(signal, "told to stop");
            stop.cancel();
        }
    }
}
