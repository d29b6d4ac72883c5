//! Counts tests from what the test programs print, so that a suite which ran nothing is seen.

/// How many tests passed, failed, and were left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    /// Ran and passed.
    pub(crate) passed: u64,
    /// Ran and failed.
    pub(crate) failed: u64,
    /// Did not run because they need something that this step does not have.
    pub(crate) ignored: u64,
}

impl Count {
    /// Checks that are not test functions: all passed, or the step would have failed.
    pub(crate) fn passed(passed: u64) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Adds up the summary lines of libtest, one for each test program.
    pub(crate) fn of_libtest(output: &str) -> Self {
        output.lines().filter_map(summary).fold(Self::default(), |sum, one| sum + one)
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; …`.
fn summary(line: &str) -> Option<Count> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let mut count = Count::default();
    for part in counts.split("; ") {
        let Some((number, what)) = part.split_once(' ') else { continue };
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => count.passed = number,
            "failed" => count.failed = number,
            "ignored" => count.ignored = number,
            _ => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_several_programs_add_up() {
        let output = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.00s
";
        assert_eq!(Count::of_libtest(output), Count { passed: 5, failed: 1, ignored: 1 });
    }

    #[test]
    fn a_run_without_a_summary_counts_nothing() {
        assert_eq!(Count::of_libtest("error: could not compile\n"), Count::default());
    }
}
