//! All that the commands print.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::LazyLock;
use std::time::Instant;

use lamplighter_cluster::Progress;

/// When the command began, as far as the terminal is concerned: at its first line.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Something begins: a line with the time since the command began.
pub(crate) fn step(what: &str) {
    out(format_args!("[{:6.1}s] {what}", BEGAN.elapsed().as_secs_f64()));
}

/// How far it has come, or a remark on it.
pub(crate) fn detail(what: &str) {
    out(format_args!("{:10}{what}", ""));
}

/// A line of the command's result.
pub(crate) fn line(text: &str) {
    out(text);
}

/// Why the command failed.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "error: {text}");
}

/// A reader that has gone, such as `head`, is no reason to fail.
fn out(text: impl Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

/// Prints the progress of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer;

impl Progress for Printer {
    fn step(&self, what: &str) {
        step(what);
    }

    fn detail(&self, what: &str) {
        detail(what);
    }
}
