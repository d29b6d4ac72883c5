//! What a command has started ends with it when it is interrupted: commands lead process groups of their
//! own, which a terminal's Ctrl-C does not reach.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::term;

/// As a shell tells of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

static GROUPS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// From here on SIGINT and SIGTERM end what runs, and then this process.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot watch for signals")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        for leader in std::mem::take(&mut *groups()) {
            end_group(leader);
        }
        #[expect(clippy::disallowed_methods, reason = "the main thread waits for what was ended")]
        std::process::exit(INTERRUPTED);
    };
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(wait)
        .context("cannot watch for signals")?;
    Ok(())
}

/// A process group that runs, by the process that leads it.
pub(crate) struct Running(u32);

impl Running {
    pub(crate) fn new(leader: u32) -> Self {
        groups().insert(leader);
        Self(leader)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        end_group(self.0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        groups().remove(&self.0);
    }
}

fn groups() -> MutexGuard<'static, BTreeSet<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends SIGTERM and then SIGKILL to the process group that a command of ours leads.
fn end_group(leader: u32) {
    for signal in ["-TERM", "-KILL"] {
        let ended = Command::new("kill")
            .args([signal, "--", &format!("-{leader}")])
            .stderr(Stdio::null())
            .status();
        if let Err(error) = ended {
            term::detail(&format!("cannot end process group {leader}: {error}"));
        }
    }
}
