//! SIGTERM and SIGINT, as a token that everything long-lived watches.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one aborts the
/// process at once: whoever sends it twice does not want to wait for the drain.
///
/// Must be called inside a tokio runtime. Fails when the handlers cannot be installed.
pub fn signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let first = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = first, "told to stop");
        stop.cancel();
        let second = either(&mut terminate, &mut interrupt).await;
        tracing::error!(signal = second, "told to stop a second time: aborting");
        std::process::abort();
    });
    Ok(token)
}

async fn either(
    terminate: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
