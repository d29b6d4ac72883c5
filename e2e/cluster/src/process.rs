//! Processes that outlive the command which started them.
//!
//! Each is recorded with its pid and its start time. A pid alone names whatever process
//! happens to have it today, so nothing is ever signalled unless both still agree; and
//! nothing is ever ended by its name.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::command::last_lines;
use crate::component::Component;
use crate::error::Error;
use crate::layout::{self, Layout};
use crate::oci::hex;
use crate::wait::{self, Look};

/// How a component is to run.
pub(crate) struct Daemon {
    pub(crate) component: Component,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Files that it reads only when it starts.
    pub(crate) inputs: Vec<PathBuf>,
}

/// A process, as remembered in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pid: i32,
    /// Clock ticks between boot and the start of the process.
    start_ticks: u64,
    /// Ticks are counted anew at each boot.
    boot: String,
    /// What it was started from.
    fingerprint: String,
}

/// How long a component may take to end by itself.
const GRACE: Duration = Duration::from_secs(15);

/// Leaves the component alone if it runs as asked; starts or restarts it otherwise.
/// Returns whether it was started.
pub(crate) fn ensure(layout: &Layout, daemon: &Daemon) -> Result<bool, Error> {
    let fingerprint = fingerprint(daemon)?;
    if let Some(record) = running(layout, daemon.component) {
        if record.fingerprint == fingerprint {
            return Ok(false);
        }
        stop(layout, daemon.component)?;
    }
    let pid = spawn(layout, daemon)?;
    let path = record_path(layout, daemon.component);
    let record = Record::of(pid, fingerprint).ok_or_else(|| ended(layout, daemon.component))?;
    if let Err(error) = remember(&path, &record) {
        // Nobody could find it again.
        record.end(Duration::ZERO)?;
        return Err(error);
    }
    Ok(true)
}

fn remember(path: &Path, record: &Record) -> Result<bool, Error> {
    let text = serde_json::to_string(record)
        .map_err(|source| Error::file("describe", path)(source.into()))?;
    layout::write(path, &text, 0o644)
}

/// The component's process, if it is alive.
pub(crate) fn running(layout: &Layout, component: Component) -> Option<Record> {
    recorded(layout, component).filter(Record::is_alive)
}

/// The component's process as recorded, dead or alive.
pub(crate) fn recorded(layout: &Layout, component: Component) -> Option<Record> {
    let text = fs::read_to_string(record_path(layout, component)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Asks the component to end, insists after a while, and forgets it.
fn stop(layout: &Layout, component: Component) -> Result<(), Error> {
    end(layout, component, GRACE)
}

/// Ends the component without asking and forgets it, when nothing that it could still
/// write will be kept. An API server alone would use up its whole grace for open watches.
pub(crate) fn discard(layout: &Layout, component: Component) -> Result<(), Error> {
    end(layout, component, Duration::ZERO)
}

fn end(layout: &Layout, component: Component, grace: Duration) -> Result<(), Error> {
    if let Some(record) = recorded(layout, component) {
        record.end(grace)?;
    }
    layout::remove(&record_path(layout, component))
}

/// Ends the component at once, as a crash would.
pub(crate) fn kill(layout: &Layout, component: Component) -> Result<(), Error> {
    let record = running(layout, component).ok_or(Error::NotRunning(component.name()))?;
    record.end(Duration::ZERO)
}

/// An error saying that the component is gone, with the end of its log.
pub(crate) fn ended(layout: &Layout, component: Component) -> Error {
    let log = layout.log(component.name());
    let last = last_lines(&fs::read_to_string(&log).unwrap_or_default(), 2);
    Error::Ended { component: component.name(), last, log }
}

fn record_path(layout: &Layout, component: Component) -> PathBuf {
    layout.run.join(format!("{component}.json"))
}

fn spawn(layout: &Layout, daemon: &Daemon) -> Result<i32, Error> {
    let path = layout.log(daemon.component.name());
    layout::create_dir(&layout.logs())?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    let errors = log.try_clone().map_err(Error::file("open", &path))?;
    // setsid(1) replaces itself by the program, so the pid stays; the new session keeps
    // the terminal's signals away from it.
    let child = Command::new("setsid")
        .arg(&daemon.program)
        .args(&daemon.args)
        .env("PATH", layout.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(Error::file("start", &daemon.program))?;
    Ok(i32::try_from(child.id()).unwrap_or_default())
}

fn fingerprint(daemon: &Daemon) -> Result<String, Error> {
    use std::os::unix::fs::MetadataExt as _;

    let mut hash = Sha256::new();
    let program = fs::metadata(&daemon.program).map_err(Error::file("find", &daemon.program))?;
    hash.update(daemon.program.to_string_lossy().as_bytes());
    // Reading 150 MB for each component would be the slowest part of an idle `up`.
    hash.update(program.len().to_be_bytes());
    hash.update(program.mtime().to_be_bytes());
    for arg in &daemon.args {
        hash.update(arg.as_bytes());
        hash.update([0]);
    }
    for input in &daemon.inputs {
        hash.update(fs::read(input).map_err(Error::file("read", input))?);
        hash.update([0]);
    }
    Ok(hex(&hash.finalize()))
}

impl Record {
    fn of(pid: i32, fingerprint: String) -> Option<Self> {
        let Stat { start_ticks, .. } = Stat::read(pid)?;
        Some(Self { pid, start_ticks, boot: boot_id(), fingerprint })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    pub(crate) fn is_alive(&self) -> bool {
        let Some(stat) = Stat::read(self.pid) else { return false };
        if stat.start_ticks != self.start_ticks || self.boot != boot_id() {
            return false;
        }
        if stat.is_zombie {
            // It may be our own child, which stays a zombie until it is waited for.
            if let Some(pid) = Pid::from_raw(self.pid) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            return false;
        }
        true
    }

    /// Ends the process: politely first if there is a grace, then for certain.
    fn end(&self, grace: Duration) -> Result<(), Error> {
        // The descriptor is taken before the identity is checked, so the signal cannot
        // reach a process that took over the pid in between.
        let Some(process) = Pid::from_raw(self.pid).and_then(open) else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        if !grace.is_zero() {
            let _ = pidfd_send_signal(&process, Signal::TERM);
            if self.is_gone_within(grace)? {
                return Ok(());
            }
        }
        let _ = pidfd_send_signal(&process, Signal::KILL);
        if self.is_gone_within(GRACE)? {
            return Ok(());
        }
        Err(Error::LeftOver(vec![format!("process {} does not end even when killed", self.pid)]))
    }

    fn is_gone_within(&self, limit: Duration) -> Result<bool, Error> {
        let outcome = wait::until(limit, || {
            Ok(if self.is_alive() { Look::Pending(String::new()) } else { Look::Ready(()) })
        })?;
        Ok(outcome.is_ok())
    }
}

fn open(pid: Pid) -> Option<OwnedFd> {
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Kills a process that was identified by other means than a record.
pub(crate) fn kill_pid(pid: i32) {
    if let Some(process) = Pid::from_raw(pid).and_then(open) {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
}

struct Stat {
    is_zombie: bool,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        if pid <= 0 {
            return None;
        }
        Self::parse(
            &fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?,
        )
    }

    /// The program's name stands in parentheses and may itself hold spaces and
    /// parentheses, so fields are counted from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { is_zombie: matches!(state, "Z" | "X"), start_ticks })
    }
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_a_hostile_program_name() {
        let text = "7 (a) Z 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.start_ticks, 4711);
        assert!(!stat.is_zombie);
        assert!(Stat::parse("garbage").is_none());
    }

    #[test]
    fn a_process_that_cannot_be_recorded_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::write(&run, "no folder").unwrap();
        let layout = Layout { repo: folder.path().into(), run, data: folder.path().into() };
        // Found by a length that nobody else sleeps.
        let seconds = format!("{}.5", 10_000_000 + u64::from(std::process::id()));
        let daemon = Daemon {
            component: Component::Etcd,
            program: "/bin/sleep".into(),
            args: vec![seconds.clone()],
            inputs: Vec::new(),
        };
        let error = ensure(&layout, &daemon).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
        let sleeps = |process: &fs::DirEntry| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&seconds)
        };
        let left: Vec<_> = fs::read_dir("/proc").unwrap().flatten().filter(sleeps).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_record_is_of_one_process_only() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let record = Record::of(pid, String::new()).unwrap();
        assert!(record.is_alive());

        let reused = Record { start_ticks: record.start_ticks + 1, ..record.clone() };
        assert!(!reused.is_alive(), "another start time is another process");
        reused.end(Duration::ZERO).unwrap();
        assert!(record.is_alive(), "a record that does not match must not end anything");

        let before_reboot = Record { boot: "another boot".to_owned(), ..record.clone() };
        assert!(!before_reboot.is_alive());

        record.end(Duration::from_secs(5)).unwrap();
        assert!(!record.is_alive());
        let _ = child.wait();
    }
}
