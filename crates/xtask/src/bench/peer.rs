//! A program that computes when it is told to, and says what that took.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::process::resident_bytes;

/// Ended when dropped.
pub(crate) struct Peer {
    child: Child,
    asked: ChildStdin,
    answers: Receiver<String>,
    log: PathBuf,
}

/// What a workload took: rates, or the milliseconds of each query, or both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Took {
    pub(crate) tokens_per_second: f64,
    /// For each second of one processor.
    pub(crate) tokens_per_processor_second: f64,
    /// Of each query.
    pub(crate) millis: Vec<f64>,
    /// Floating-point operations a second, where the processor was asked.
    pub(crate) flops: f64,
    /// Of the engine, when it has started.
    pub(crate) kernel: String,
}

impl Peer {
    /// Starts it and waits until it is warm. What it writes to standard error goes into a file.
    pub(crate) fn start(
        program: &Path,
        args: &[OsString],
        log: PathBuf,
        deadline: Duration,
    ) -> Result<(Self, Took)> {
        let errors =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(program)
            .args(args)
            .env("HF_HUB_OFFLINE", "1")
            .env("TOKENIZERS_PARALLELISM", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (Some(asked), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(anyhow!("{} has no pipes", program.display()));
        };
        let (answered, answers) = channel();
        // Ends with the program's output, at the latest when the program is ended.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with('{') && answered.send(line).is_err() {
                    return;
                }
            }
        });
        let mut peer = Self { child, asked, answers, log };
        let started = peer.answer(deadline)?;
        Ok((peer, started))
    }

    /// What it says to a workload's name.
    pub(crate) fn ask(&mut self, workload: &str, deadline: Duration) -> Result<Took> {
        writeln!(self.asked, "{workload}").with_context(|| self.gone())?;
        self.answer(deadline)
    }

    fn answer(&mut self, deadline: Duration) -> Result<Took> {
        let line = self.answers.recv_timeout(deadline).with_context(|| self.gone())?;
        serde_json::from_str(&line).with_context(|| format!("figures of another form: {line}"))
    }

    fn gone(&self) -> String {
        format!("it ended or did not answer in time; its log is {}", self.log.display())
    }

    /// Bytes that it has in memory.
    pub(crate) fn resident_bytes(&self) -> Result<f64> {
        resident_bytes(self.child.id())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Gone already, or it cannot be helped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
