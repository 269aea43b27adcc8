//! `orangery`: the coordinator and the operator's commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    orangery::cli::run()
}
