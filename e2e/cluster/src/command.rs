//! Running a program to its end.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::error::Error;
use crate::layout::Layout;

/// A program with its arguments, run with the cluster's PATH.
pub(crate) struct Run {
    program: OsString,
    command: Command,
    input: Option<String>,
}

impl Run {
    pub(crate) fn new(layout: &Layout, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        let mut command = Command::new(&program);
        command.env("PATH", layout.path()).env("LC_ALL", "C");
        Self { program, command, input: None }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, text: String) -> Self {
        self.input = Some(text);
        self
    }

    /// Runs it and gives its standard output. A failure carries what it wrote to
    /// standard error.
    pub(crate) fn output(self) -> Result<String, Error> {
        let line = self.line();
        let output = self.run()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let said = if stderr.trim().is_empty() { stdout } else { stderr };
        Err(Error::Command {
            command: line,
            outcome: output.status.to_string(),
            output: last_lines(&said, 5),
        })
    }

    /// Runs it and says only whether it succeeded.
    pub(crate) fn succeeds(self) -> bool {
        self.output().is_ok()
    }

    fn run(mut self) -> Result<Output, Error> {
        let line = self.line();
        let failed = |source: std::io::Error| {
            if source.kind() == std::io::ErrorKind::NotFound {
                return Error::Missing {
                    program: line.split(' ').next().unwrap_or_default().to_owned(),
                    remedy: "`cargo xtask cluster up` as root installs or builds what is missing",
                };
            }
            Error::Command {
                command: line.clone(),
                outcome: "not started".to_owned(),
                output: source.to_string(),
            }
        };
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let Some(input) = self.input.take() else {
            return self.command.stdin(Stdio::null()).output().map_err(failed);
        };
        let mut child = self.command.stdin(Stdio::piped()).spawn().map_err(&failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading all of its input says why by itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output().map_err(failed)
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// The last non-empty lines of a text, on one line.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let kept = lines[lines.len().saturating_sub(count)..].join(" | ");
    if kept.is_empty() { "it wrote nothing".to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_failure_says_what_the_program_said() {
        let layout = Layout::of_machine(Path::new("/"));
        let error =
            Run::new(&layout, "sh").args(["-c", "echo no such bridge >&2; exit 3"]).output();
        let text = error.unwrap_err().to_string();
        assert!(text.contains("no such bridge") && text.contains('3'), "{text}");
    }

    #[test]
    fn input_reaches_the_program() {
        let layout = Layout::of_machine(Path::new("/"));
        let output = Run::new(&layout, "cat").input("hello".to_owned()).output().unwrap();
        assert_eq!(output, "hello");
    }

    #[test]
    fn last_lines_skips_empty_ones() {
        assert_eq!(last_lines("a\n\nb\n\nc\n", 2), "b | c");
        assert_eq!(last_lines("\n", 2), "it wrote nothing");
    }
}
