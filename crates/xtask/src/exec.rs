//! Runs one external command: output to a log file, a line of progress while it is long, a
//! deadline, and a failure that says what failed and which log tells why.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt::Running;
use crate::term;

/// How often a long command says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many lines of the log are shown when a command fails.
const TAIL_LINES: usize = 25;
/// How long the output may take to end once the command itself has ended. A grandchild that
/// was left behind keeps the pipe open for ever.
const OUTPUT_GRACE: Duration = Duration::from_secs(10);

/// One external command.
pub(crate) struct Exec {
    what: String,
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    deadline: Duration,
}

/// What a command printed, standard output and standard error together.
pub(crate) struct Output {
    /// All lines.
    pub(crate) text: String,
    /// Where they were kept.
    pub(crate) log: PathBuf,
}

impl Exec {
    /// A command, described by what it is for: the description names the log file.
    pub(crate) fn new(what: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        Self {
            what: what.into(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            dir: None,
            deadline: Duration::from_mins(30),
        }
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs in this folder.
    pub(crate) fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Ends the command, and whatever it started, when it takes longer than this.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it; anything but exit status 0 is an error that names the log.
    pub(crate) fn run(self, logs: &Path) -> Result<Output> {
        let (status, output) = self.run_to_end(logs)?;
        if !status.success() {
            bail!(
                "{} failed ({}); the log is {}\n{}",
                self.what,
                describe(status),
                output.log.display(),
                tail(&output.text)
            );
        }
        Ok(output)
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn run_to_end(&self, logs: &Path) -> Result<(ExitStatus, Output)> {
        std::fs::create_dir_all(logs)
            .with_context(|| format!("cannot create {}", logs.display()))?;
        let log = logs.join(format!("{}.log", file_name(&self.what)));
        let mut file =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("cannot share a pipe")?)
            .stderr(writer)
            // Its own group, so that a deadline ends what it started as well.
            .process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {} for {}", self.program.to_string_lossy(), self.what)
        })?;
        // The command holds the write ends of the pipe; dropping it lets the reader see the end.
        drop(command);
        let running = Running::new(child.id());

        let (lines, received) = mpsc::channel();
        let reading = std::thread::spawn(move || read_lines(reader, &lines));
        let (ended, end) = mpsc::channel();
        let waiting = std::thread::spawn(move || ended.send(child.wait()).is_ok());

        let started = Instant::now();
        let mut text = String::new();
        let mut beat = Instant::now();
        let mut status = None;
        let mut closing = None;
        loop {
            match received.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    file.write_all(line.as_bytes())
                        .with_context(|| format!("cannot write {}", log.display()))?;
                    text.push_str(&line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if status.is_none()
                && let Ok(result) = end.try_recv()
            {
                status = Some(result.with_context(|| format!("cannot wait for {}", self.what))?);
                closing = Some(Instant::now());
            }
            if closing.is_some_and(|since: Instant| since.elapsed() > OUTPUT_GRACE) {
                break;
            }
            if beat.elapsed() >= HEARTBEAT {
                beat = Instant::now();
                term::detail(&format!(
                    "{} … {} s  {}",
                    self.what,
                    started.elapsed().as_secs(),
                    last_line(&text)
                ));
            }
            if status.is_none() && started.elapsed() > self.deadline {
                running.end();
                bail!(
                    "{} took longer than {} s and was ended; the log is {}\n{}",
                    self.what,
                    self.deadline.as_secs(),
                    log.display(),
                    tail(&text)
                );
            }
        }
        let status = match status {
            Some(status) => status,
            None => end
                .recv_timeout(self.deadline.saturating_sub(started.elapsed()).max(OUTPUT_GRACE))
                .with_context(|| format!("{} closed its output but did not end", self.what))?
                .with_context(|| format!("cannot wait for {}", self.what))?,
        };
        drop(waiting.join());
        if reading.is_finished() {
            drop(reading.join());
        }
        Ok((status, Output { text, log }))
    }
}

fn read_lines(reader: impl Read, lines: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // Neither a read error nor a closed channel has anybody left to be told: both mean that
    // the run has ended.
    while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "no exit status".to_owned(),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    line.trim().chars().take(90).collect()
}

fn file_name(what: &str) -> String {
    what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Exec {
        Exec::new("a test command", "sh").args(["-c", script])
    }

    #[test]
    fn both_streams_are_kept_in_the_log() {
        let logs = tempfile::tempdir().unwrap();
        let output = sh("echo out; echo err >&2").run(logs.path()).unwrap();
        assert!(output.text.contains("out\n") && output.text.contains("err\n"));
        assert_eq!(std::fs::read_to_string(output.log).unwrap(), output.text);
    }

    #[test]
    fn a_failure_names_status_log_and_last_lines() {
        let logs = tempfile::tempdir().unwrap();
        let error = sh("echo the cause; exit 3").run(logs.path()).err().unwrap().to_string();
        assert!(error.contains("exit status 3"), "{error}");
        assert!(error.contains("a-test-command.log"), "{error}");
        assert!(error.contains("the cause"), "{error}");
    }

    #[test]
    fn a_command_that_outlives_its_deadline_is_ended_with_its_children() {
        let logs = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let error = sh("sleep 600 & sleep 600")
            .deadline(Duration::from_millis(300))
            .run(logs.path())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("took longer"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_missing_program_is_named() {
        let logs = tempfile::tempdir().unwrap();
        let error = Exec::new("x", "/no/such/program").run(logs.path()).err().unwrap();
        assert!(format!("{error:#}").contains("/no/such/program"));
    }
}
