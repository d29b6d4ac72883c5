//! Runs a program with a deadline and keeps what it said.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a program said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether it ended with status 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a program to its end, whatever its status is.
///
/// Fails when it cannot be started or does not end within the deadline; it is killed then.
pub async fn said<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    environment: &[(&str, &OsStr)],
    input: &str,
    deadline: Duration,
) -> anyhow::Result<Said> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    let stdin = child.stdin.take();
    let ended = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input closes it; that is its business.
            match stdin.write_all(input.as_bytes()).await {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(stdin),
            }
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(deadline, ended)
        .await
        .with_context(|| format!("{name} did not end within {deadline:?}"))?
        .with_context(|| format!("{name} cannot be run"))?;
    Ok(Said {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Said {
    /// The standard output; an error with everything it said when it failed.
    pub fn stdout_of_success(self, what: &str) -> anyhow::Result<String> {
        if !self.success {
            bail!("{what} failed: {}{}", self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "/bin/sh";

    #[tokio::test]
    async fn input_reaches_the_program_and_its_output_comes_back() {
        let said = said(
            Path::new(SHELL),
            &["-c", "cat; echo $WHO >&2; exit 3"],
            &[("WHO", OsStr::new("me"))],
            "hello",
            Duration::from_secs(10),
        )
        .await
        .unwrap();
        assert_eq!(
            (said.success, said.stdout.as_str(), said.stderr.as_str()),
            (false, "hello", "me\n")
        );
        assert!(said.stdout_of_success("this").unwrap_err().to_string().contains("me"));
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_a_named_failure() {
        let error =
            said(Path::new(SHELL), &["-c", "sleep 60"], &[], "", Duration::from_millis(50)).await;
        assert!(error.unwrap_err().to_string().contains("did not end within"));
    }
}
