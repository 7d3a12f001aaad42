//! `vxgate`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    vxgate::cli::main()
}
