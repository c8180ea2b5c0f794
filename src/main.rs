//! The `orinplan` command: parse, run, print, exit 0 (it fits), 1 (it does not) or 2 (an error).

use std::process::ExitCode;

fn main() -> ExitCode {
    orinplan::main()
}
