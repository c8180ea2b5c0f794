//! The `orinplan` command: parses arguments, runs, prints, and exits with 0 (it fits), 1 (it does not) or 2 (an error).

use std::process::ExitCode;

fn main() -> ExitCode {
    orinplan::main()
}
