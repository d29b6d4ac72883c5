//! Two cores: one for what is measured, one for what asks it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::exec::Exec;

/// Two cores that this process may use. From here on it stays on the second, with all threads and
/// programs that it starts; what is to run on the first is started by `taskset`.
pub(crate) fn share(logs: &Path) -> Result<[String; 2]> {
    let [first, second] = two()?;
    let pid = std::process::id().to_string();
    Exec::new("keep the generator on its core", "taskset")
        .args(["--pid", "--cpu-list", &second, &pid])
        .deadline(Duration::from_secs(10))
        .run(logs)?;
    Ok([first, second])
}

fn two() -> Result<[String; 2]> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cores = list.map(listed).unwrap_or_default();
    match cores.as_slice() {
        [first, second, ..] => Ok([first.to_string(), second.to_string()]),
        _ => bail!("two cores are needed: one for the worker, one for what asks it"),
    }
}

/// The numbers of a list such as `0-3,8`.
fn listed(ranges: &str) -> Vec<u32> {
    let all = ranges.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    all.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_listed_one_by_one() {
        assert_eq!(listed("\t0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(listed(""), [0_u32; 0]);
    }
}
