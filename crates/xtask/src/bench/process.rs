//! A program of ours that is measured while it runs.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How often it is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(2);
/// How long a page may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Ticks a second of the kernel's accounts: `getconf CLK_TCK` is 100 on all Linux machines.
const TICKS: f64 = 100.0;

/// Ended when dropped.
pub(crate) struct Running {
    child: Child,
    begun: Instant,
    log: std::path::PathBuf,
}

impl Running {
    /// Starts a program with its output in a file.
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = S>,
        envs: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        let output =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(args).envs(envs.iter().copied()).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let begun = Instant::now();
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, begun, log: log.to_owned() })
    }

    /// Waits until a page is answered well; how long that took since the start.
    #[expect(clippy::disallowed_methods, reason = "another process is waited for, with a deadline")]
    pub(crate) fn until_answered(&mut self, url: &str, deadline: Duration) -> Result<Duration> {
        loop {
            if asked(url).is_ok() {
                return Ok(self.begun.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}; its log is {}", self.log.display());
            }
            if self.begun.elapsed() > deadline {
                bail!("it was not ready in time; its log is {}", self.log.display());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Seconds of processor time so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// Bytes that it has in memory.
    pub(crate) fn resident_bytes(&self) -> Result<f64> {
        resident_bytes(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, or it cannot be helped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Seconds of processor time that a process had so far
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
fn cpu_seconds(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name may hold spaces; what follows its bracket begins with field 3.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS),
        _ => bail!("{path} cannot be understood"),
    }
}

/// Bytes that a process has in memory.
pub(crate) fn resident_bytes(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kibibytes.with_context(|| format!("{path} cannot be understood"))? * 1024.0)
}

/// A page of ours.
pub(crate) fn text(url: &str) -> Result<String> {
    asked(url)
        .and_then(|mut response| response.body_mut().read_to_string())
        .with_context(|| format!("{url} does not answer"))
}

fn asked(url: &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    ureq::get(url).config().timeout_global(Some(ANSWER)).build().call()
}

/// A page of ours, as JSON.
pub(crate) fn page(url: &str) -> Result<Value> {
    let text = text(url)?;
    serde_json::from_str(&text).with_context(|| format!("{url} does not answer JSON"))
}

/// A port that nobody listens on now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
    Ok(listener.local_addr()?)
}
