//! The worker of tests: as the one that is shipped, until the faults of its environment happen.

use std::process::ExitCode;

fn main() -> ExitCode {
    lamplighter_worker::faults::main()
}
