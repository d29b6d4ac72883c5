//! The worker as it is shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    lamplighter_worker::entry::main()
}
