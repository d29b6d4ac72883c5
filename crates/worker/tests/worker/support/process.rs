//! The real binary.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;

use super::{DEADLINE, serve_line};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_lamplighter-worker");

/// A running `lamplighter-worker serve`; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: Log,
    pub(crate) serving: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// What a process logs, read all the time: one whose log nobody reads stops when the pipe is full.
struct Log(mpsc::UnboundedReceiver<String>);

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        let (lines, log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut read = BufReader::new(stderr).lines();
            while let Some(line) = read.next_line().await.unwrap() {
                // Whoever had the other end needs no more of it.
                drop(lines.send(line));
            }
        });
        Self(log)
    }

    async fn next_line(&mut self) -> Option<String> {
        self.0.recv().await
    }
}

/// How a process ended, and what it logged.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) log: Vec<Value>,
}

fn command(line: &[String]) -> Command {
    command_of(BINARY.as_ref(), line)
}

fn command_of(program: &OsStr, line: &[String]) -> Command {
    let mut command = Command::new(program);
    // Who runs the tests may have stores and proxies of his own.
    for (name, _) in std::env::vars_os() {
        let is_of = |part: &str| name.to_string_lossy().to_ascii_uppercase().contains(part);
        if ["AWS_", "_PROXY", "REQUEST_METHOD"].into_iter().any(is_of) {
            command.env_remove(name);
        }
    }
    command
        .args(line)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the binary to its end; what it printed.
pub(crate) async fn output(line: &[&str]) -> std::process::Output {
    let line: Vec<String> = line.iter().map(ToString::to_string).collect();
    let running = command(&line).stdout(Stdio::piped()).output();
    tokio::time::timeout(DEADLINE, running).await.expect("the process ends").unwrap()
}

/// Runs the binary to its end.
pub(crate) async fn run(line: &[String]) -> Ended {
    to_end(command(line)).await
}

/// Runs the binary, tells it to stop once it has come so far, and waits for its end.
pub(crate) async fn run_and_stop(line: &[String], so_far: impl Future<Output = ()>) -> Ended {
    let mut child = command(line).spawn().unwrap();
    let log = Log::of(child.stderr.take().unwrap());
    tokio::time::timeout(DEADLINE, so_far).await.expect("the process comes so far");
    let id = i32::try_from(child.id().expect("the process runs")).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    end(child, log).await
}

/// Runs `serve` to its end, which must come by itself.
pub(crate) async fn serve_to_end(dir: &Path, more: &[&str]) -> Ended {
    to_end(serving(BINARY.as_ref(), dir, more)).await
}

/// `serve` of this program, to be started.
pub(crate) fn serving(program: &Path, dir: &Path, more: &[&str]) -> Command {
    command_of(program.as_os_str(), &line(dir, more))
}

/// `serve` of a shell that has done something to itself before.
pub(crate) fn serving_after(first: &str, dir: &Path, more: &[&str]) -> Command {
    let mut words = vec!["-c".to_owned(), format!("{first} \"$0\" \"$@\""), BINARY.to_owned()];
    words.extend(line(dir, more));
    command_of("sh".as_ref(), &words)
}

/// Runs a command to its end, which must come by itself.
pub(crate) async fn to_end(mut command: Command) -> Ended {
    let mut child = command.spawn().unwrap();
    let log = Log::of(child.stderr.take().unwrap());
    end(child, log).await
}

fn line(dir: &Path, more: &[&str]) -> Vec<String> {
    let mut line = serve_line(dir);
    line.extend(more.iter().map(ToString::to_string));
    line
}

impl Process {
    /// Starts `serve` and waits until its listeners are bound.
    pub(crate) async fn start(dir: &Path, more: &[&str]) -> Self {
        Self::start_as(serving(BINARY.as_ref(), dir, more)).await
    }

    /// Starts a command that serves, and waits until its listeners are bound.
    pub(crate) async fn start_as(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut log = Log::of(child.stderr.take().unwrap());
        let listening = async {
            while let Some(line) = log.next_line().await {
                let entry: Value = serde_json::from_str(&line).unwrap();
                if entry["message"] == "listening" {
                    return entry;
                }
            }
            panic!("the worker ended before it listened");
        };
        let entry =
            tokio::time::timeout(DEADLINE, listening).await.expect("the worker listens in time");
        let address = |field: &str| entry[field].as_str().unwrap().parse().unwrap();
        Self { serving: address("serving"), admin: address("admin"), child, log }
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn id(&self) -> Pid {
        let id = i32::try_from(self.child.id().expect("the worker runs")).unwrap();
        Pid::from_raw(id).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// Reads the log up to this message.
    pub(crate) async fn logged(&mut self, message: &str) {
        let logged = async {
            while let Some(line) = self.log.next_line().await {
                let entry: Value = serde_json::from_str(&line).unwrap();
                if entry["message"] == message {
                    return;
                }
            }
            panic!("the worker ended without {message:?}");
        };
        tokio::time::timeout(DEADLINE, logged).await.expect("the worker logs it in time");
    }

    /// Waits for the end, which must come by itself.
    pub(crate) async fn ended(self) -> Ended {
        end(self.child, self.log).await
    }
}

async fn end(mut child: Child, mut log: Log) -> Ended {
    let ended = async {
        let mut lines = Vec::new();
        while let Some(line) = log.next_line().await {
            lines.push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        }
        Ended { status: child.wait().await.unwrap(), log: lines }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the worker ends in time")
}
